from __future__ import annotations

import subprocess
import sys
import typing

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.inference import compute_logits
from mnistcli.config.schema import Activation, MlpModel, SoftmaxModel
from mnistcli.errors import DataError
from mnistcli.models.activations import apply_activation
from mnistcli.models.architecture import Architecture, plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.layers import (
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPooling2D,
    Layer,
    Pooling2D,
    Rescaling,
    Reshape,
)
from mnistcli.models.numpy_inference import (
    is_supported_by_numpy,
    run_network,
)
from mnistcli.training.compile_model import build_network
from mnistcli.training.network_state import build_keras_forward

ACTIVATIONS = typing.get_args(Activation)
Arrays = list[NDArray[np.float32]]


def draw_weights(architecture: Architecture, seed: int, size: float = 0.5) -> Arrays:
    rng = np.random.default_rng(seed)
    arrays = []
    for node in architecture.iter_layers():
        for weight in node.weights:
            array = rng.normal(0, size, weight.shape).astype(np.float32)
            arrays.append(np.abs(array) + 0.1 if weight.name == "moving_variance" else array)
    return arrays


def ask_keras(
    architecture: Architecture, weights: Arrays, inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    network = build_network(architecture)
    network.set_weights(weights)
    outputs: NDArray[np.float32] = network(inputs, training=False).numpy()
    return outputs


def check_against_keras(architecture: Architecture, weights: Arrays, seed: int = 0) -> None:
    shape = (5, *architecture.input_shape)
    inputs = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    logits = compute_logits(architecture, weights, inputs)

    assert logits.dtype == np.float32
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(
        logits, ask_keras(architecture.without_output_activation(), weights, inputs), **close
    )
    probabilities = apply_activation(architecture.head.activation, logits)
    np.testing.assert_allclose(probabilities, ask_keras(architecture, weights, inputs), **close)


@pytest.mark.parametrize(
    ("activation", "scale"),
    [(name, 0.3) for name in ACTIVATIONS]
    # saturated; two exponentials on top of each other overflow, in Keras too
    + [(name, 30.0) for name in ("relu", "selu", "gelu", "softplus", "sigmoid", "softmax")],
)
def test_every_activation_as_hidden_layer_and_as_output(
    activation: Activation, scale: float
) -> None:
    hidden, output = Dense("h", 6, activation), Dense("o", 4, activation)
    for layers in [(hidden, Dense("o", 4)), (output,), (hidden, ActivationLayer("a", activation))]:
        architecture = Architecture((8,), layers)
        check_against_keras(architecture, draw_weights(architecture, seed=3, size=scale))


def draw_layers(rng: np.random.Generator) -> tuple[Layer, ...]:
    """One to six layers of any kind that NumPy does, then a Dense layer."""

    def choose(index: int) -> Layer:
        name = f"layer_{index}"
        activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
        choices: list[Layer] = [
            Dense(name, int(rng.integers(1, 9)), activation, bool(rng.integers(2))),
            Flatten(name),
            Dropout(name, 0.5),
            ActivationLayer(name, activation),
            Reshape(name, (1, -1)),
            Rescaling(name, 0.5, -0.25),
            BatchNormalization(name, 1e-3, bool(rng.integers(2)), bool(rng.integers(2))),
        ]
        return choices[rng.integers(len(choices))]

    hidden = tuple(choose(index) for index in range(rng.integers(1, 7)))
    return (*hidden, Flatten("flat"), Dense("output", 3, "softmax"))


@pytest.mark.parametrize("seed", range(25))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = [(6,), (3, 4), (2, 2, 3)][rng.integers(3)]
    architecture = Architecture(shape, draw_layers(rng))

    assert is_supported_by_numpy(architecture)
    check_against_keras(architecture, draw_weights(architecture, seed), seed)


CONVOLUTIONAL = (
    Rescaling("rescaling", 2.0),
    Conv2D("conv", 4, (3, 2), (2, 1), "same", activation="gelu"),
    BatchNormalization("norm"),
    Pooling2D("max", "Max"),
    Conv2D("dilated", 3, (2, 2), dilation_rate=(2, 1), use_bias=False),
    Pooling2D("average", "Average", (2, 2), (1, 1), "same"),
)


@pytest.mark.parametrize(
    "tail",
    [
        (Flatten("flatten"), Dense("output", 5, "softmax")),
        (GlobalPooling2D("global", "Average"), Dense("output", 5, "sigmoid")),
        (GlobalPooling2D("global", "Max"), ActivationLayer("output", "softmax")),
        (GlobalPooling2D("global", "Max"),),
    ],
)
def test_convolution_and_pooling_go_through_keras(tail: tuple[Layer, ...]) -> None:
    architecture = Architecture((16, 12, 2), CONVOLUTIONAL + tail)

    assert not is_supported_by_numpy(architecture)
    check_against_keras(architecture, draw_weights(architecture, seed=1))


def test_one_sigmoid_unit_gives_the_raw_sigmoid() -> None:
    architecture = Architecture((2,), (Dense("dense", 1, "sigmoid"),))
    weights = [np.array([[2], [-2]], np.float32), np.array([0.5], np.float32)]

    logits = compute_logits(architecture, weights, np.array([[1, 0], [0, 1]], np.float32))

    assert logits.tolist() == [[2.5], [-1.5]]
    assert apply_activation(architecture.head.activation, logits).ravel().tolist() == pytest.approx(
        [0.92414182, 0.18242552]
    )


def test_an_activation_alone_is_a_network_without_weights() -> None:
    architecture = Architecture((3,), (ActivationLayer("activation", "relu"),))
    inputs = np.array([[-1, 0, 2]], np.float32)

    logits = compute_logits(architecture, [], inputs)

    assert logits.tolist() == [[-1, 0, 2]]
    assert apply_activation(architecture.head.activation, logits).tolist() == [[0, 0, 2]]


def test_weights_that_are_not_finite_give_logits_that_are_not_finite_and_no_warning() -> None:
    architecture = Architecture((2,), (Dense("dense", 2, "softmax"),))
    weights = [np.array([[np.inf, 1], [-np.inf, np.nan]], np.float32), np.zeros(2, np.float32)]

    logits = compute_logits(architecture, weights, np.ones((1, 2), np.float32))

    assert np.isnan(logits).all()


def test_weights_of_another_network_are_refused() -> None:
    architecture = Architecture((2,), (Dense("dense", 3),))
    with pytest.raises(ValueError, match=r"expected arrays of shapes \[\(2, 3\), \(3,\)\]"):
        compute_logits(
            architecture,
            [np.zeros((2, 3), np.float32), np.zeros(1, np.float32)],
            np.ones((1, 2), np.float32),
        )


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("image_shape", "input_shape"),
    [
        ((28, 28), (784,)),
        ((784,), (28, 28)),
        ((28, 28), (28, 28, 1)),
        ((28, 28, 1), (28, 28)),
        ((32, 32, 3), (3072,)),
        ((3072,), (32, 32, 3)),
    ],
)
def test_images_take_the_networks_input_shape_and_its_preprocessing(
    image_shape: tuple[int, ...], input_shape: tuple[int, ...], batch_size: int
) -> None:
    architecture = Architecture(input_shape, (Flatten("flatten"), Dense("dense", 10, "softmax")))
    weights = draw_weights(architecture, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (20, *image_shape), np.uint8)

    logits = run_network(architecture, weights, images, Preprocessing(32.0, 64.0), batch_size)

    inputs = (images.reshape(20, -1).astype(np.float64) - 32) / 64
    np.testing.assert_allclose(logits, inputs @ weights[0] + weights[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("image_shape", "input_shape"),
    [((28, 28), (3072,)), ((32, 32, 3), (28, 28)), ((32, 32, 3), (3, 32, 32))],
)
def test_images_that_do_not_fit_are_refused_with_both_shapes(
    image_shape: tuple[int, ...], input_shape: tuple[int, ...]
) -> None:
    architecture = Architecture(input_shape, (Flatten("flatten"), Dense("dense", 10)))
    with pytest.raises(DataError) as caught:
        run_network(
            architecture,
            draw_weights(architecture, 0),
            np.zeros((1, *image_shape), np.uint8),
            Preprocessing(0, 255),
        )
    assert str(caught.value) == (
        f"network: its input has the shape {input_shape}, the images have {image_shape}."
        " Use the data set that it was trained on"
    )


def test_images_with_their_channels_last_are_input_of_a_network_that_takes_them_first() -> None:
    first = {"data_format": "channels_first"}
    layers = (Conv2D("conv", 4, (3, 3), **first), Flatten("flatten", **first), Dense("dense", 10))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), np.uint8)
    architecture = Architecture((3, 8, 9), layers)
    weights = draw_weights(architecture, seed=0)

    logits = run_network(
        architecture, weights, images, Preprocessing(0, 255), build_forward=build_keras_forward
    )

    inputs = np.transpose(images, (0, 3, 1, 2)).astype(np.float32) / 255
    np.testing.assert_allclose(logits, ask_keras(architecture, weights, inputs), 1e-5, 1e-5)


@pytest.mark.parametrize("model", [SoftmaxModel(), MlpModel(type="mlp", dropout=0.5)])
def test_a_planned_network_runs_on_no_images_at_all(model: SoftmaxModel | MlpModel) -> None:
    architecture = plan_architecture(model, (28, 28), 10)
    images = np.zeros((0, 28, 28), np.uint8)
    weights = draw_weights(architecture, 0)

    assert run_network(architecture, weights, images, Preprocessing(0, 255)).shape == (0, 10)


def test_the_numpy_path_never_imports_keras() -> None:
    program = (
        "import sys, numpy as np\n"
        "from mnistcli.models.architecture import plan_architecture\n"
        "from mnistcli.config.schema import SoftmaxModel\n"
        "from mnistcli.models.input_scaling import Preprocessing\n"
        "from mnistcli.models.numpy_inference import run_network\n"
        "plan = plan_architecture(SoftmaxModel(), (28, 28), 10)\n"
        "weights = [np.zeros((784, 10), 'f4'), np.zeros(10, 'f4')]\n"
        "run_network(plan, weights, np.zeros((3, 28, 28), 'u1'), Preprocessing(0, 255))\n"
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
