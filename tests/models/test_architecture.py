"""Planning networks: layers, shapes and parameter counts as in Keras' summary."""

from __future__ import annotations

import keras
import pytest

from mnistcli.config.loading import load_config
from mnistcli.config.schema import MlpModel, SoftmaxModel
from mnistcli.datasets.registry import get_info
from mnistcli.models.architecture import Architecture, Head, plan_architecture
from mnistcli.models.layers import (
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPooling2D,
    Pooling2D,
    Rescaling,
    Reshape,
)
from mnistcli.training.compile_model import build_network


def plan_recipe(name: str) -> Architecture:
    config = load_config(name).config
    info = get_info(config.dataset)
    return plan_architecture(config.model, info.image_shape, len(info.class_names))


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        ("mnist-softmax", 7_850),
        ("mnist-softmax-b2048", 7_850),
        ("mnist-softmax-sgd5", 7_850),
        ("mnist-softmax-b100", 7_850),
        ("mnist-softmax-adam", 7_850),
        ("mnist-gradient-tape", 7_850),
        ("mnist-mlp", 101_770),
        ("cifar10-mlp", 1_702_018),
        ("xor", 33),
    ],
)
def test_recipes_have_the_published_number_of_parameters(recipe: str, parameters: int) -> None:
    architecture = plan_recipe(recipe)
    assert architecture.parameter_count == architecture.trainable_count == parameters


def test_without_flatten_the_network_takes_vectors() -> None:
    plan = plan_architecture(SoftmaxModel(), (28, 28), 10)
    assert plan == Architecture((784,), (Dense("dense", 10, "softmax"),))


def test_with_flatten_the_network_takes_images() -> None:
    plan = plan_architecture(SoftmaxModel(flatten=True), (28, 28), 10)
    assert plan == Architecture((28, 28), (Flatten("flatten"), Dense("dense", 10, "softmax")))


def test_two_classes_are_decided_by_one_unit() -> None:
    plan = plan_architecture(SoftmaxModel(output_activation="sigmoid"), (2,), 2)
    assert plan.layers == (Dense("dense", 1, "sigmoid"),)
    assert plan.output_shape == (1,)


def test_hidden_layers_take_from_the_model_what_they_leave_out() -> None:
    model = MlpModel.model_validate(
        {
            "type": "mlp",
            "hidden": [
                64,
                {"units": 32, "activation": "tanh", "name": "middle"},
                {"units": 16, "dropout": 0.0},
                {"units": 8, "dropout": 0.5},
            ],
            "activation": "selu",
            "dropout": 0.25,
        }
    )
    assert plan_architecture(model, (28, 28), 10).layers == (
        Dense("dense", 64, "selu"),
        Dropout("dropout", 0.25),
        Dense("middle", 32, "tanh"),
        Dropout("dropout_1", 0.25),
        Dense("dense_1", 16, "selu"),
        Dense("dense_2", 8, "selu"),
        Dropout("dropout_2", 0.5),
        Dense("dense_3", 10, "softmax"),
    )


def test_names_shapes_and_counts_are_those_that_keras_gives() -> None:
    model = MlpModel.model_validate({"type": "mlp", "hidden": [12, 7], "dropout": 0.1})
    plan = plan_architecture(model.model_copy(update={"flatten": True}), (32, 32, 3), 10)
    keras.backend.clear_session()
    by_hand = keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(12),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(7),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10),
        ]
    )
    nodes = list(plan.iter_layers())
    assert [s.layer.name for s in nodes] == [layer.name for layer in by_hand.layers]
    assert [(None, *s.output_shape) for s in nodes] == [x.output.shape for x in by_hand.layers]
    assert [s.parameter_count for s in nodes] == [x.count_params() for x in by_hand.layers]
    assert [x.name for x in build_network(plan).layers] == [s.layer.name for s in nodes]


def test_shapes_go_from_layer_to_layer() -> None:
    network = Architecture(
        (28, 28),
        (
            Rescaling("scale", 1 / 255),
            Reshape("reshape", (28, -1, 1)),
            Conv2D("conv", 4, (3, 3), padding="same", activation="relu"),
            BatchNormalization("norm"),
            Pooling2D("pool", "Max"),
            Conv2D("conv_1", 8, (3, 3), strides=(2, 2)),
            GlobalPooling2D("global", "Average"),
            Dense("dense", 10),
            ActivationLayer("softmax", "softmax"),
        ),
    )
    table = [(s.layer.type, s.output_shape, s.parameter_count) for s in network.iter_layers()]
    assert table == [
        ("Rescaling", (28, 28), 0),
        ("Reshape", (28, 28, 1), 0),
        ("Conv2D", (28, 28, 4), 40),
        ("BatchNormalization", (28, 28, 4), 16),
        ("MaxPooling2D", (14, 14, 4), 0),
        ("Conv2D", (6, 6, 8), 296),
        ("GlobalAveragePooling2D", (8,), 0),
        ("Dense", (10,), 90),
        ("Activation", (10,), 0),
    ]
    assert (network.parameter_count, network.trainable_count) == (442, 434)
    assert network.output_shape == (10,)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Reshape("reshape", (5, -1)), r"reshape: \(28, 28\) cannot become \(5, -1\)"),
        (Conv2D("conv", 4, (3, 3)), r"expected images of \(height, width, channels\)"),
        (GlobalPooling2D("pool", "Max"), r"received \(28, 28\)"),
    ],
)
def test_a_layer_that_does_not_fit_says_so(layer: Dense, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(Architecture((28, 28), (layer,)).iter_layers())


def test_the_head_is_what_makes_the_output_of_the_logits() -> None:
    inside = Architecture((4,), (Dense("a", 3, "relu"), Dense("b", 2, "softmax")))
    assert inside.head == Head("softmax")
    assert inside.without_output_activation().layers == (
        Dense("a", 3, "relu"),
        Dense("b", 2, "linear"),
    )

    apart = Architecture((4,), (Dense("a", 3), ActivationLayer("b", "sigmoid")))
    assert apart.head == Head("sigmoid")
    assert apart.without_output_activation().layers == (Dense("a", 3),)

    none = Architecture((4,), (Dense("a", 3),))
    assert none.head == Head("linear")
    assert none.without_output_activation() == none
