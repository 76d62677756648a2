"""Generated networks of Keras, saved by Keras: accuracy, loss and probabilities are Keras' own."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from conftest import save_with_keras
from helpers.checkpoints import write_names
from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
from mnistcli.commands.trained_model import TrainedModel, load_model
from mnistcli.metrics.scores import Score

COUNT = 48  # images, of which Keras takes one batch

HIDDEN = (
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "hard_silu", "mish",
    "softplus", "squareplus", "sparse_plus", "softsign", "sigmoid", "hard_sigmoid",
    "sparse_sigmoid", "log_sigmoid", "tanh", "hard_tanh", "tanh_shrink", "soft_shrink",
    "hard_shrink", "linear", "softmax", "log_softmax",
)  # fmt: skip
PRECISIONS = ("float64", "float16", "mixed_float16", "mixed_bfloat16")
KERAS_NAMES = ("kernel", "zzz", "Aa.b-c", "x" * 220, "9lives", "optimizer_weights", "weight_names")
OTHER_NAMES = ("block 1/conv", "Schicht_ä", "層", "../up", "a\x1b[31mb", "y" * 900, ".", "top/")

# The data sets: images, and how many classes their labels tell apart.
DATA = {"grey": ((12, 12), 10), "colour": ((10, 10, 3), 4), "pair": ((12, 12), 2)}

OTHER_LOSSES = (
    "mean_absolute_error", "hinge", "poisson", "kl_divergence", "huber", "log_cosh",
    "categorical_hinge", "categorical_focal_crossentropy", "binary_focal_crossentropy",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A network of Keras, and what it is evaluated on."""

    network: keras.Model
    data: str
    normalization: str
    loss: str


@pytest.fixture(scope="module")
def data_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An archive of random images for each data set."""
    folder, files = tmp_path_factory.mktemp("images"), {}
    for seed, (name, (shape, classes)) in enumerate(DATA.items()):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (2 * COUNT, *shape), np.uint8)
        labels = np.arange(2 * COUNT) % classes
        parts = {"train": slice(COUNT), "test": slice(COUNT, None)}
        arrays = {f"x_{k}": images[v] for k, v in parts.items()}
        arrays |= {f"y_{k}": labels[v] for k, v in parts.items()}
        files[name] = folder / f"{name}.npz"
        np.savez(files[name], **arrays)
    return files


class Generator:
    """Draws the layers of one network."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.first = self.chance(0.15)  # channels first
        self.dtype = self.choose(PRECISIONS) if self.chance(0.2) else "float32"
        self.names = list(self.rng.permutation(KERAS_NAMES)) if self.chance(0.2) else []

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def choose(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def draw_base(self) -> dict[str, Any]:
        named = {"name": self.names.pop()} if self.names and self.chance(0.7) else {}
        return {"dtype": self.dtype, **named}

    def draw_regularizer(self) -> Any:
        l1, l2 = self.rng.uniform(1e-4, 1e-2, 2)
        kinds = (
            keras.regularizers.L1(l1), keras.regularizers.L2(l2), keras.regularizers.L1L2(l1, l2)
        )  # fmt: skip
        return self.choose(kinds)

    def draw_regularizers(self, *arrays: str) -> dict[str, Any]:
        drawn = [a for a in arrays if self.chance(0.15)]
        if self.dtype in ("float64", "float16"):  # Keras adds no others than float32 to its loss
            drawn = []
        elif self.dtype != "float32" and "activity" in drawn:
            drawn.remove("activity")
        return {f"{a}_regularizer": self.draw_regularizer() for a in drawn}

    def draw_activation(self) -> layers.Layer:
        base = self.draw_base()
        return self.choose(
            (
                lambda: layers.Activation(self.choose(HIDDEN), **base),
                lambda: layers.ReLU(self.choose((None, 6.0, 1.5)), 0.1, 0.25, **base),
                lambda: layers.ReLU(**base),
                lambda: layers.LeakyReLU(0.2, **base),
                lambda: layers.ELU(0.7, **base),
                lambda: layers.Softmax(**base),
            )
        )()

    def draw_norm(self, rank: int) -> layers.Layer:
        return layers.BatchNormalization(
            int(self.choose((-1, *range(1, rank + 1)))),
            epsilon=self.choose((1e-3, 1e-5)), center=self.chance(0.8), scale=self.chance(0.8),
            **self.draw_regularizers("gamma", "beta"), **self.draw_base(),
        )  # fmt: skip

    def draw_dense(self, units: int, activation: str, **base: Any) -> layers.Layer:
        base = base or self.draw_base()
        drawn = self.draw_regularizers("kernel", "bias", "activity")
        return layers.Dense(units, activation, self.chance(0.85), **drawn, **base)

    def draw_conv(self, channels: int) -> layers.Layer:
        strides = self.choose((1, 1, 2, (2, 1)))
        groups = channels if self.dtype == "float32" and self.chance(0.2) else 1
        return layers.Conv2D(
            int(self.choose((2, 4, 6))) * groups, self.choose((1, 2, 3, (3, 2))), strides,
            self.choose(("valid", "same")), self.data_format,
            self.choose((1, 1, 2)) if strides == 1 else 1, groups, self.choose(HIDDEN),
            use_bias=self.chance(0.8), **self.draw_regularizers("kernel", "bias", "activity"),
            **self.draw_base(),
        )  # fmt: skip

    def draw_pooling(self) -> layers.Layer:
        kind = self.choose((layers.MaxPooling2D, layers.AveragePooling2D))
        strides = self.choose((None, 1, (1, 2)))
        padding = self.choose(("valid", "same"))
        return kind(2, strides, padding, data_format=self.data_format, **self.draw_base())

    @property
    def data_format(self) -> str:
        return "channels_first" if self.first else "channels_last"

    def draw_image_layers(self, channels: int) -> Iterator[layers.Layer]:
        for _ in range(int(self.rng.integers(1, 4))):
            kind = self.choose(("conv", "conv", "pool", "norm", "activation", "dropout"))
            if kind == "conv":
                conv = self.draw_conv(channels)
                channels = conv.filters
                yield conv
            elif kind == "pool":
                yield self.draw_pooling()
            elif kind == "norm":
                yield self.draw_norm(3)
            elif kind == "activation":
                yield self.draw_activation()
            else:
                yield layers.Dropout(0.3, **self.draw_base())
        if self.chance(0.4):
            kind = self.choose((layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D))
            keepdims = self.chance(0.3)
            yield kind(self.data_format, keepdims, **self.draw_base())
            if not keepdims:
                return
        yield layers.Flatten(self.data_format, **self.draw_base())

    def draw_vector_layers(self) -> Iterator[layers.Layer]:
        for _ in range(int(self.rng.integers(0, 4))):
            kind = self.choose(("dense", "dense", "norm", "activation", "dropout", "reshape"))
            if kind == "dense":
                yield self.draw_dense(int(self.choose((6, 12, 24))), self.choose(HIDDEN))
            elif kind == "norm":
                yield self.draw_norm(1)
            elif kind == "activation":
                yield self.draw_activation()
            elif kind == "dropout":
                yield layers.Dropout(0.3, **self.draw_base())
            else:
                yield layers.Reshape((1, -1), **self.draw_base())
                yield layers.Flatten(**self.draw_base())

    def draw_head(self, units: int, activation: str) -> Iterator[layers.Layer]:
        base = {"dtype": "float64" if self.dtype == "float64" else "float32"}
        if activation != "linear" and self.chance(0.3):
            yield self.draw_dense(units, "linear", **base)
            if activation == "softmax" and self.chance(0.5):
                yield layers.Softmax(**base)
            else:
                yield layers.Activation(activation, **base)
        else:
            yield self.draw_dense(units, activation, **base)

    def draw_loss(self, units: int, activation: str) -> tuple[str, Any]:
        from_logits, smoothing = activation == "linear", self.choose((0.0, 0.0, 0.1))
        if self.chance(0.15):
            name = self.choose(OTHER_LOSSES[: None if units > 1 else 6])
            return name, name
        name = self.choose(
            (
                *("categorical_crossentropy", "sparse_categorical_crossentropy") * (units > 1),
                "mean_squared_error", "binary_crossentropy",
            )
        )  # fmt: skip
        if self.chance(0.3) and not from_logits:
            return name, name
        if name == "mean_squared_error":
            return name, keras.losses.MeanSquaredError()
        if name == "sparse_categorical_crossentropy":
            return name, keras.losses.SparseCategoricalCrossentropy(from_logits)
        class_name = "".join(part.title() for part in name.split("_"))
        return name, getattr(keras.losses, class_name)(from_logits, smoothing)

    def draw(self) -> Example:
        data = self.choose(list(DATA))
        shape, classes = DATA[data]
        units = 1 if data == "pair" and self.chance(0.6) else classes
        activation = self.choose(("linear", "sigmoid", "softmax" if units > 1 else "sigmoid"))
        colour = len(shape) == 3
        is_image = self.chance(0.6)
        if is_image and self.dtype == "float64":  # TensorFlow cannot compute some of their layers
            self.dtype = "float32"
        image = shape if colour else (*shape, 1)
        if is_image and self.first:
            taken = (image[-1], *image[:-1])
        elif is_image:
            taken = image
        else:
            taken = self.choose((shape, (int(np.prod(shape)),)))
        normalization, body = self.choose(("unit", "standard")), []
        if self.chance(0.25):
            normalization = "none"
            body.append(layers.Rescaling(1 / 127.5, -1.0, dtype="float32"))
        elif colour and len(taken) == 3 and not (is_image and self.first) and self.chance(0.3):
            body.append(layers.Rescaling([1.0, 2.0, 0.5], [0.0, 0.1, -0.1], **self.draw_base()))
        if is_image:
            body += self.draw_image_layers(image[-1])
        elif len(taken) > 1:
            body.append(layers.Flatten(**self.draw_base()))
        body += [*self.draw_vector_layers(), *self.draw_head(units, activation)]
        if self.chance(0.25):
            inputs = outputs = keras.Input(taken)
            for layer in body:
                outputs = layer(outputs)
            network = keras.Model(inputs, outputs)
        else:
            network = keras.Sequential([keras.Input(taken), *body])
        name, loss = self.draw_loss(units, activation)
        network.compile("sgd", loss, metrics=["accuracy"])
        return Example(network, data, normalization, name)


def read_inputs(example: Example, path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The test images as the network's input, and their labels."""
    with np.load(path) as arrays:
        images, train, labels = arrays["x_test"], arrays["x_train"], arrays["y_test"]
    offset, scale = {
        "unit": (0, 255), "none": (0, 1), "standard": (train.mean(), train.std())
    }[example.normalization]  # fmt: skip
    inputs = ((images - np.float32(offset)) / np.float32(scale)).astype(np.float32)
    taken = example.network.input_shape[1:]
    if len(taken) == 3 and taken[0] == 3:
        inputs = np.moveaxis(inputs, -1, 1)
    return inputs.reshape(-1, *taken), labels


def draw_weights(example: Example, inputs: NDArray[np.float32], seed: int) -> None:
    """Give biases and statistics values of their own, and the logits a deviation of about 2."""
    rng = np.random.default_rng(seed)
    for variable in example.network.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif kind != "kernel":
            variable.assign(rng.normal(0, 0.1, variable.shape))
    head = next(la for la in reversed(example.network.layers) if isinstance(la, layers.Dense))
    features = keras.Model(example.network.inputs, head.input)(inputs, training=False)
    logits = np.asarray(features, np.float64) @ head.kernel.numpy().astype(np.float64)
    head.kernel.assign(head.kernel / max(logits.std() / 2, 1e-3))


def encode_labels(labels: NDArray[np.int64], example: Example) -> Any:
    units = example.network.output_shape[-1]
    if units == 1:
        return labels[:, None].astype(np.float32)
    is_sparse = example.loss == "sparse_categorical_crossentropy"
    return labels if is_sparse else keras.utils.to_categorical(labels, units)


def rename_layers(path: Path, seed: int) -> None:
    """Give some layers names that Keras 2 allowed for, or nothing did."""
    rng = np.random.default_rng(seed)

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            names = {k: renamed.get(v, v) for k, v in value.items() if k == "name" and v}
            return {**{k: rename(v) for k, v in value.items()}, **names}
        if isinstance(value, list) and value[1:] == [0, 0]:  # the origin of a tensor
            return [renamed.get(value[0], value[0]), 0, 0]
        return [rename(item) for item in value] if isinstance(value, list) else value

    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        names = list(weights.attrs["layer_names"])
        renamed = dict(zip(rng.permutation(names), rng.permutation(OTHER_NAMES), strict=False))
        file.attrs["model_config"] = json.dumps(rename(json.loads(file.attrs["model_config"])))
        for index, name in enumerate(names):
            if len(weights[name].attrs["weight_names"]) and rng.random() < 0.5:
                weights.move(name, f"moved/{index}")
                names[index] = f"moved/{index}"
        write_names(weights, "layer_names", names)


@contextmanager
def ignore_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def add_activation(outputs: NDArray[np.float64], example: Example) -> NDArray[np.float64]:
    """The probabilities of a network that ends in a linear layer."""
    if outputs.shape[1] > 1:
        exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
    if example.loss in ("binary_crossentropy", "hinge"):
        return np.asarray(1 / (1 + np.exp(-outputs)))
    return np.clip(outputs, 0, 1)  # fitted to the labels themselves


def check_network(
    seed: int, data_files: dict[str, Path], folder: Path
) -> tuple[TrainedModel, Score]:
    """Hold a network's evaluation by us against Keras' own; return ours."""
    keras.utils.set_random_seed(seed)
    generator = Generator(seed)
    with ignore_warnings():
        example = generator.draw()
        inputs, labels = read_inputs(example, data_files[example.data])
        draw_weights(example, inputs, seed)
        theirs = keras.models.load_model(save_with_keras(example.network, folder / "theirs.h5"))
        ours = Path(shutil.copy(folder / "theirs.h5", folder / "ours.h5"))
        if generator.chance(0.25):
            rename_layers(ours, seed)
        reading = ParserProcess(ours, "weights")  # while Keras computes
        theirs.run_eagerly = True
        loss, accuracy = theirs.test_on_batch(inputs, encode_labels(labels, example))
        outputs = np.asarray(theirs(inputs, training=False), np.float64)

    data, normalization = data_files[example.data], example.normalization
    model = load_model(reading, data=data, normalization=normalization)
    predictions, score = model.predict_split(model.read_split("test"))

    head = theirs.layers[-1]
    if getattr(head, "activation", None) is keras.activations.linear:
        outputs = add_activation(outputs, example)
    if outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
        accuracy = float((outputs.argmax(axis=1) == labels).mean())
    half = generator.dtype not in ("float32", "float64")
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if half else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(predictions.probabilities, outputs, **tolerance)
    assert score.accuracy == pytest.approx(accuracy, abs=1e-7)
    assert score.loss == pytest.approx(loss, rel=1e-5, abs=1e-7, nan_ok=True)
    return model, score


@pytest.mark.parametrize("seed", range(40))
def test_a_generated_network_is_evaluated_as_keras_does(
    seed: int, data_files: dict[str, Path], tmp_path: Path
) -> None:
    check_network(seed, data_files, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 380))
def test_many_generated_networks_are_evaluated_as_keras_does(
    seed: int, data_files: dict[str, Path], tmp_path: Path
) -> None:
    model, score = check_network(seed, data_files, tmp_path)
    result = model.evaluate()
    assert (result.accuracy, str(result.loss)) == (score.accuracy, str(score.loss))
