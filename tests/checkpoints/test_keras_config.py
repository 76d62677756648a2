from __future__ import annotations

import copy
import json
import typing
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnistcli.checkpoints.untrusted.keras_config import parse_model_config
from mnistcli.config.schema import Activation
from mnistcli.errors import CheckpointError
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import (
    ELU,
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPooling2D,
    Layer,
    LeakyReLU,
    Pooling2D,
    Regularizer,
    ReLU,
    Rescaling,
    Reshape,
)
from mnistcli.training.compile_model import build_network

# As Keras 2.4 wrote it: an InputLayer, and the shape again in the first layer.
KERAS_2 = """
{"class_name": "Sequential", "config": {"name": "sequential", "layers": [
  {"class_name": "InputLayer", "config": {"batch_input_shape": [null, 28, 28],
    "dtype": "float32", "sparse": false, "ragged": false, "name": "flatten_input"}},
  {"class_name": "Flatten", "config": {"name": "flatten", "trainable": true,
    "batch_input_shape": [null, 28, 28], "dtype": "float32", "data_format": "channels_last"}},
  {"class_name": "Dense", "config": {"name": "dense", "trainable": true, "dtype": "float32",
    "units": 128, "activation": "swish", "use_bias": true,
    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": null}},
    "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer":
    {"class_name": "L2", "config": {"l2": 0.001}}, "bias_regularizer": null,
    "activity_regularizer": null, "kernel_constraint": null, "bias_constraint": null}},
  {"class_name": "Dropout", "config": {"name": "dropout", "trainable": true,
    "dtype": {"class_name": "Policy", "config": {"name": "float32"}}, "rate": 0.2,
    "noise_shape": null, "seed": null}},
  {"class_name": "BatchNormalization", "config": {"name": "batch_normalization",
    "trainable": true, "dtype": "float32", "axis": [1], "momentum": 0.99, "epsilon": 0.001,
    "center": true, "scale": true, "beta_initializer": {"class_name": "Zeros", "config": {}},
    "gamma_initializer": {"class_name": "Ones", "config": {}},
    "moving_mean_initializer": {"class_name": "Zeros", "config": {}},
    "moving_variance_initializer": {"class_name": "Ones", "config": {}},
    "beta_regularizer": null, "gamma_regularizer": null, "beta_constraint": null,
    "gamma_constraint": null}},
  {"class_name": "Dense", "config": {"name": "dense_1", "trainable": true, "dtype": "float32",
    "units": 10, "activation": "softmax", "use_bias": true}}]},
 "keras_version": "2.4.0", "backend": "tensorflow"}
"""

# As Keras 2.0 wrote it: the config is a list, the shape stands in the first layer.
KERAS_2_LIST = """
{"class_name": "Sequential", "config": [
  {"class_name": "Conv2D", "config": {"name": "conv2d_1", "trainable": true,
    "batch_input_shape": [null, 28, 28, 1], "dtype": "float32", "filters": 32,
    "kernel_size": [3, 3], "strides": [1, 1], "padding": "valid",
    "data_format": "channels_last", "dilation_rate": [1, 1], "activation": "relu",
    "use_bias": true, "kernel_initializer": {"class_name": "VarianceScaling", "config":
    {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": null}},
    "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": null,
    "bias_regularizer": null, "activity_regularizer": null, "kernel_constraint": null,
    "bias_constraint": null}},
  {"class_name": "MaxPooling2D", "config": {"name": "max_pooling2d_1", "trainable": true,
    "pool_size": [2, 2], "padding": "valid", "strides": [2, 2],
    "data_format": "channels_last"}},
  {"class_name": "Flatten", "config": {"name": "flatten_1", "trainable": true}},
  {"class_name": "Dense", "config": {"name": "dense_1", "trainable": true, "units": 10,
    "activation": "linear", "use_bias": true}},
  {"class_name": "Activation", "config": {"name": "activation_1", "trainable": true,
    "activation": "softmax"}}]}
"""


def test_keras_2_with_an_input_layer() -> None:
    assert parse_model_config(KERAS_2, "old.h5") == Architecture(
        (28, 28),
        (
            Flatten("flatten"),
            Dense("dense", 128, "silu", regularizers=(Regularizer("kernel", l2=0.001),)),
            Dropout("dropout", 0.2),
            BatchNormalization("batch_normalization"),
            Dense("dense_1", 10, "softmax"),
        ),
    )


def test_early_keras_2_with_a_list_of_layers() -> None:
    assert parse_model_config(KERAS_2_LIST, "old.h5") == Architecture(
        (28, 28, 1),
        (
            Conv2D("conv2d_1", 32, (3, 3), activation="relu"),
            Pooling2D("max_pooling2d_1", "Max"),
            Flatten("flatten_1"),
            Dense("dense_1", 10),
            ActivationLayer("activation_1", "softmax"),
        ),
    )


def test_the_input_shape_may_stand_beside_the_layers() -> None:
    dense = {"class_name": "Dense", "config": {"name": "dense", "units": 10}}
    text = json.dumps(
        {
            "class_name": "Sequential",
            "config": {"name": "s", "layers": [dense], "build_input_shape": [None, 784]},
        }
    )
    assert parse_model_config(text, "old.h5") == Architecture((784,), (Dense("dense", 10),))


def save(network: keras.Sequential, path: Path) -> str:
    """Return the model_config that Keras writes into a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save(path)
    with h5py.File(path) as file:
        return str(file.attrs["model_config"])


def test_every_kind_of_layer_that_keras_3_saves_comes_back(tmp_path: Path) -> None:
    activations = tuple(
        Dense(f"dense_{name}", 4, name, use_bias=False) for name in typing.get_args(Activation)
    )
    layers: tuple[Layer, ...] = (
        Rescaling("rescaling", 1 / 255, -0.5),
        Conv2D("conv", 8, (3, 2), (2, 1), "same", activation="gelu", use_bias=False),
        Conv2D("dilated", 4, (2, 2), dilation_rate=(2, 1), groups=2),
        BatchNormalization("norm", 1e-5, center=False),
        BatchNormalization("norm of rows", axis=-3),
        ReLU("relu", 6.0, 0.1, 0.5),
        LeakyReLU("leaky", 0.25),
        ELU("elu", 0.5),
        Rescaling("rescaling of channels", (0.5, 1.0, 2.0, 4.0), (0.0, 1.0, 0.0, 1.0)),
        Pooling2D("max", "Max", (3, 2), (1, 2), "same"),
        Pooling2D("average", "Average"),
        GlobalPooling2D("global", "Average", keepdims=True),
        Reshape("image", (4, 1, 1)),
        Conv2D("first", 6, (1, 1), data_format="channels_first", dtype="mixed_bfloat16"),
        Pooling2D("max first", "Max", (1, 1), (1, 1), data_format="channels_first"),
        GlobalPooling2D("global first", "Max", True, "channels_first"),
        Flatten("flatten first", "channels_first"),
        Reshape("reshape", (1, -1)),
        Flatten("flatten"),
        *activations,
        Dropout("dropout", 0.25),
        ActivationLayer("activation", "tanh"),
        Dense("dense", 10, "softmax"),
    )
    architecture = Architecture((28, 28, 1), layers)

    text = save(build_network(architecture), tmp_path / "x.h5")

    assert parse_model_config(text, "x.h5") == architecture


def apply_layers(inputs: Any, *layers: Any) -> Any:
    for layer in layers:
        inputs = layer(inputs)
    return inputs


def test_a_functional_chain_is_the_sequential_network_that_it_is(tmp_path: Path) -> None:
    layers = [
        keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dropout(0.5, name="drop"),
        keras.layers.Dense(10, "softmax", name="out"),
    ]
    inputs = keras.Input((28, 28, 1), name="first")
    body = apply_layers(inputs, *layers[:3])
    outputs = layers[4](layers[3](body, training=False))
    chain = parse_model_config(save(keras.Model(inputs, outputs), tmp_path / "f.h5"), "f.h5")

    plain = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    assert chain == parse_model_config(save(plain, tmp_path / "s.h5"), "s.h5")


def describe_chain(**changes: Any) -> dict[str, Any]:
    """Keras 2's model_config of a Functional chain, its layers not in the chain's order."""
    sources = {"hidden": "flat", "flat": "image", "out": "hidden"}
    settings: dict[str, Any] = {
        "hidden": {"units": 16, "activation": "relu"}, "flat": {}, "out": {"units": 10}
    }  # fmt: skip
    entries = [
        {
            "class_name": "Flatten" if name == "flat" else "Dense",
            "name": name,
            "config": {"name": name, **settings[name]},
            "inbound_nodes": changes.get(name, [[[source, 0, 0, {}]]]),
        }
        for name, source in sources.items()
    ]
    image = {"batch_input_shape": [None, 28, 28], "dtype": "float32", "name": "image"}
    entries.append(
        {"class_name": "InputLayer", "name": "image", "config": image, "inbound_nodes": []}
    )
    config = {
        "name": "model",
        "layers": [*entries, *changes.get("more", [])],
        "input_layers": [["image", 0, 0]],
        "output_layers": changes.get("outputs", [["out", 0, 0]]),
    }
    return {"class_name": changes.get("kind", "Model"), "config": config}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "Functional", "outputs": ["out", 0, 0]},
        {"outputs": {"digit": ["out", 0, 0]}},
        {"hidden": [[["flat", 0, 0, {"training": False, "mask": None}]]]},
        {"hidden": [[["flat", 0, 0]]]},
    ],
)
def test_a_functional_chain_of_keras_2(changes: dict[str, Any]) -> None:
    assert parse_model_config(json.dumps(describe_chain(**changes)), "old.h5") == Architecture(
        (28, 28), (Flatten("flat"), Dense("hidden", 16, "relu"), Dense("out", 10))
    )


SECOND_INPUT = {
    "class_name": "InputLayer", "name": "b", "config": {"name": "b"}, "inbound_nodes": []
}  # fmt: skip
BRANCH = {"class_name": "Dropout", "name": "b", "config": {}, "inbound_nodes": [[["flat", 0, 0]]]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"out": [[["hidden", 0, 0, {}], ["flat", 0, 0, {}]]]}, "'out' (Dense): it takes 2 inputs"),
        ({"out": [[["hidden", 0, 0, {}]]] * 2}, "'out' (Dense): it is used more than once"),
        ({"out": [[["flat", 0, 0, {}]]]}, "'out' (Dense): 'flat' has two outputs"),
        ({"more": [BRANCH]}, "(Dropout): 'flat' has two outputs"),
        ({"more": [SECOND_INPUT]}, "'b' (InputLayer): it is a second input"),
        ({"out": [[["hidden", 0, 0, {"training": True}]]]}, "it is called with 'training'"),
        ({"out": [[["nowhere", 0, 0, {}]]]}, "chain of layers from its input to its output"),
        ({"flat": [[["out", 0, 0, {}]]]}, "chain of layers from its input to its output"),
        ({"outputs": [["hidden", 0, 0]]}, "chain of layers from its input to its output"),
        ({"outputs": [["out", 0, 0], ["out", 0, 0]]}, "chain of layers from its input"),
        ({"out": 7}, "layer 3 'out' (Dense): it has no name and inbound_nodes"),
        ({"more": [7]}, "layer 5: it has no name and inbound_nodes"),
        ({"out": [7]}, "'out' (Dense): it takes 0 inputs"),
        ({"out": [{"args": 7}]}, "'out' (Dense): it takes 0 inputs"),
        ({"outputs": 7}, "chain of layers from its input to its output"),
    ],
)
def test_a_functional_network_that_is_no_chain_is_refused(
    changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_model_config(json.dumps(describe_chain(**changes)), "x.h5")
    assert why in str(caught.value)
    assert "the Functional network is not one chain of layers" in str(caught.value)
    assert caught.value.hint.startswith("supported are Sequential networks, and Functional ones")


@pytest.mark.parametrize("join", ["Add", "shared", "two outputs"])
def test_a_functional_network_of_keras_3_that_is_no_chain_is_refused(
    tmp_path: Path, join: str
) -> None:
    inputs = keras.Input((8,))
    first, second = keras.layers.Dense(8), keras.layers.Dense(8)
    one = first(inputs)
    network = {
        "Add": lambda: keras.Model(inputs, keras.layers.Add()([one, second(one)])),
        "shared": lambda: keras.Model(inputs, first(one)),
        "two outputs": lambda: keras.Model(inputs, [one, second(one)]),
    }[join]()
    with pytest.raises(CheckpointError, match="the Functional network is not one chain of layers"):
        parse_model_config(save(network, tmp_path / "x.h5"), "x.h5")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("block1/fc1", "block1/fc1"),
        ("Schicht_ä/層", "Schicht_ä/層"),
        ("x" * 1000, "x" * 1000),
        ("..", ".."),
        ("\x1b[31m\0", r"\x1b[31m\x00"),
        ("half\ud800", r"half\ud800"),
    ],
)
def test_any_name_of_a_layer_is_read_and_can_be_shown(name: str, shown: str) -> None:
    text = describe_network(describe_layer("Dropout", name=name, rate=0.5))
    assert parse_model_config(text, "x.h5").layers[0] == Dropout(shown, 0.5)


def test_layers_of_activations_and_a_dtype_policy(tmp_path: Path) -> None:
    network = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3, kernel_regularizer="l2", dtype="mixed_bfloat16", name="dense"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Softmax(name="softmax"),
        ]
    )
    assert parse_model_config(save(network, tmp_path / "x.h5"), "x.h5") == Architecture(
        (2,),
        (
            Dense(
                "dense", 3, regularizers=(Regularizer("kernel", l2=0.01),), dtype="mixed_bfloat16"
            ),
            ReLU("relu"),
            ActivationLayer("softmax", "softmax"),
        ),
    )


def describe_network(*layers: dict[str, Any], shape: Any = (None, 28, 28, 1)) -> str:
    """Return a model_config with these layers and a Flatten and a Dense layer after them."""
    entries = [
        {"class_name": "InputLayer", "config": {"name": "input", "batch_shape": shape}},
        *layers,
        {"class_name": "Flatten", "config": {"name": "flatten"}},
        {"class_name": "Dense", "config": {"name": "output", "units": 10}},
    ]
    return json.dumps({"class_name": "Sequential", "config": {"layers": entries}})


def describe_layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": "x", **config}}


@pytest.mark.parametrize(
    "activation",
    [
        "hard_swish",
        {"class_name": "function", "config": "hard_silu"},
        {"module": "builtins", "class_name": "function", "config": "hard_silu"},
    ],
)
def test_the_forms_in_which_keras_writes_an_activation(activation: Any) -> None:
    text = describe_network(describe_layer("Dense", units=9, activation=activation))
    assert parse_model_config(text, "x.h5").layers[0] == Dense("x", 9, "hard_silu")


def describe_policy(name: Any, **entry: Any) -> dict[str, Any]:
    policy = {"class_name": "DTypePolicy", "config": {"name": name}, **entry}
    return describe_layer("Dense", units=9, dtype=policy)


REFUSED_LAYERS = [
    (describe_layer("Dense"), "units must be an integer from 1 to 65,536, received null"),
    (describe_layer("Dense", units=True), "received true"),
    (describe_layer("Dense", units=0), "received 0"),
    (describe_layer("Dense", units=65_537), "received 65537"),
    (describe_layer("Dense", units=10.0), "received 10.0"),
    (describe_layer("Dense", units=[10]), "received a list"),
    (describe_layer("Dense", units=10**400), "units must be an integer"),
    (describe_layer("Dense", units=9, activation="my_mish"), "activation 'my_mish' is not"),
    (describe_layer("Dense", units=9, activation={"class_name": "function"}), "a mapping is not"),
    (describe_layer("Dense", units=9, use_bias=1), "use_bias must be true or false, received 1"),
    (describe_layer("Dense", units=9, lora_rank=4), "the setting 'lora_rank' is not supported"),
    (describe_layer("Dense", units=9, quantization_config={"a": 1}), "'quantization_config' is"),
    (describe_layer("Dense", units=9, dtype="int8_from_float32"), "dtype 'int8_from_float32'"),
    (describe_policy(["x"]), "dtype a list is not"),
    (describe_policy("mixed_bfloat16", class_name="Mine"), "the dtype policy 'Mine' is not"),
    (describe_policy("mixed_bfloat16", class_name=["Policy"]), "the dtype policy a list is not"),
    (describe_policy("mixed_bfloat16", module="mine"), "the dtype policy 'DTypePolicy' is not"),
    (describe_policy("mixed_bfloat16", registered_name="a>b"), "policy 'DTypePolicy' is not"),
    (describe_policy("float32", class_name="QuantizedDTypePolicy"), "'QuantizedDTypePolicy' is"),
    (describe_layer("Dense", units=60_000), "(28, 28, 60000) has more than 33,554,432 numbers"),
    (describe_layer("Flatten", data_format="channels_middle"), "'channels_middle' is not"),
    (describe_layer("Dense", units=9, activation="glu"), "the activation 'glu' is not supported"),
    (describe_layer("Dense", units=9, activation="sparsemax"), "activation 'sparsemax' is not"),
    (describe_layer("Dropout", rate=float("nan")), "rate must be a number from 0 to 1"),
    (describe_layer("Dropout", rate=10**400), "rate must be a number from 0 to 1"),
    (describe_layer("Rescaling", scale=float("inf")), "scale must be a number"),
    (describe_layer("Rescaling", scale=[0.1, True]), "scale must be a number"),
    (describe_layer("Rescaling", scale=[0.1, 1]), "2 numbers for 1 channels"),
    (describe_layer("Rescaling", scale=[]), "0 numbers for 1 channels"),
    (describe_layer("ReLU", max_value=-1), "max_value must be a number from 0"),
    (describe_layer("LeakyReLU", alpha="a"), "alpha must be a number from 0"),
    (describe_layer("Softmax", axis=1), "axis must be the last one"),
    (describe_layer("BatchNormalization", axis=[1, 2]), "axis must be one number, received a list"),
    (describe_layer("BatchNormalization", axis=0), "it has no axis 0"),
    (describe_layer("BatchNormalization", axis=4), "it has no axis 4"),
    (describe_layer("BatchNormalization", axis=-4), "it has no axis -4"),
    (describe_layer("BatchNormalization", renorm=True), "the setting 'renorm' is not supported"),
    (describe_layer("Reshape", target_shape=[5, 5]), "(28, 28, 1) cannot become (5, 5)"),
    (describe_layer("Reshape", target_shape=[-1, -1]), "target_shape may hold"),
    (describe_layer("Reshape", target_shape=[0, 7]), "target_shape may hold"),
    (describe_layer("Reshape", target_shape=[1] * 9), "must be a list of integers"),
    (describe_layer("Conv2D", filters=4), "kernel_size must be a list of integers, received null"),
    (describe_layer("Conv2D", filters=4, kernel_size=[3]), "kernel_size must be two integers"),
    (describe_layer("Conv2D", filters=4, kernel_size=[3, 2000]), "from 1 to 1,024"),
    (describe_layer("Conv2D", filters=4, kernel_size=[30, 3]), "a window of 30 does not fit"),
    (describe_layer("Conv2D", filters=4, kernel_size=[3, 3], groups=2), "2 groups of 1 channels"),
    (describe_layer("Conv2D", filters=4, kernel_size=[3, 3], padding="causal"), "'causal' is not"),
    (
        describe_layer(
            "Conv2D", filters=4, kernel_size=[2, 2], strides=[2, 2], dilation_rate=[2, 2]
        ),
        "strides and dilation_rate cannot both be above 1",
    ),
    (describe_layer("MaxPooling2D", data_format=["a"]), "data_format a list is not"),
    (describe_layer("MaxPooling2D", pool_size=[2, 0]), "from 1 to 1,024, received 0"),
    (describe_layer("GlobalMaxPooling2D", keepdims=1), "keepdims must be true or false"),
    (describe_layer("Lambda", function=["4wEAAA", None, None]), "a Lambda layer is code"),
    (describe_layer("Sequential", layers=[]), "a network within the network"),
    ({"class_name": "Sequential", "config": []}, "a network within the network"),
    (describe_layer("LSTM", units=3), "this kind of layer is not supported"),
    (describe_layer("TFOpLambda", function="os.system"), "this kind of layer is not supported"),
    (describe_layer("my>Dense", units=3), "this kind of layer is not supported"),
    ({**describe_layer("Dense", units=3), "registered_name": "my>Dense"}, "a custom layer"),
    ({**describe_layer("Dense", units=3), "module": "evil.layers"}, "a custom layer"),
    (describe_layer("InputLayer", batch_shape=[None, 2]), "only the first layer may be"),
]


KINDS = (
    "a Lambda layer is code", "a network within the network", "this kind of layer is not supported",
    "a custom layer",
)  # fmt: skip


@pytest.mark.parametrize(("layer", "why"), REFUSED_LAYERS)
def test_a_layer_that_is_refused_is_named_with_the_reason(layer: Any, why: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_model_config(describe_network(layer), "x.h5")

    message = str(caught.value)
    assert message.startswith("x.h5: layer 2")
    assert layer["class_name"] in message
    assert why in message
    assert ("Supported are Dense, Flatten, " in message) == (why in KINDS)
    assert len(message) < 500


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "model_config is not valid JSON. The file is damaged; save the network again"),
        ("{", "model_config is not valid JSON"),
        ("[" * 100_000, "model_config is nested too deeply"),
        ('{"class_name": "Sequential", "config": ' + "9" * 5000 + "}", "is not valid JSON"),
        (" " * 4_000_001, "model_config has 4,000,001 characters, at most 4,000,000 are read"),
        ("[]", "model_config does not describe a network"),
        ('{"class_name": ["Sequential"]}', "model_config does not describe a network"),
        ('{"class_name": "Mine", "config": {}}', "is of class 'Mine', which is not one of Keras'"),
        ('{"class_name": "Functional", "config": {}}', "expected a list of 1 to 1000 layers"),
        ('{"class_name": "Sequential"}', "expected a list of 1 to 1000 layers, received null"),
        ('{"class_name": "Sequential", "config": []}', "expected a list of 1 to 1000 layers"),
        ('{"class_name": "Sequential", "config": [7]}', "layer 1: it has no class_name and config"),
        (describe_network(*[describe_layer("Flatten")] * 999), "expected a list of 1 to 1000"),
        (describe_network(describe_layer("Flatten", name="flatten")), "two layers have the name"),
        (describe_network(describe_layer("Flatten", name="x" * 1001)), "its name must be"),
        (describe_network(describe_layer("Flatten", name=None)), "received null"),
        (describe_network(shape=None), "model_config does not say the input shape"),
        (
            describe_network(shape=[None, None, 28]),
            "does not say the input shape but for (null, 28), and the weights fit no usual one",
        ),
        (describe_network(shape=[None]), "the input shape () is not"),
        (describe_network(shape=[None, True]), "the input shape (true) is not"),
        (describe_network(shape=[None, 33_555, 1000]), "the input shape (33555, 1000) is not"),
        (
            describe_network(
                describe_layer("Flatten"),
                describe_layer("Dense", name="y", units=60_000),
                describe_layer("Dense", name="z", units=4000),
            ),
            "parameters, at most 200,000,000 are read",
        ),
    ],
)
def test_a_network_that_is_refused_is_told_why(text: str, why: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_model_config(text, "x.h5")

    message = str(caught.value)
    assert message.startswith("x.h5: ")
    assert why in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_network_that_gives_no_vector_is_refused() -> None:
    text = KERAS_2_LIST.replace('"Flatten"', '"Dropout"')
    with pytest.raises(CheckpointError, match=r"its output \(13, 13, 10\) is not one number"):
        parse_model_config(text, "x.h5")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def list_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value within a JSON value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    inner = [place for key, item in items for place in list_places(item, (*path, key))]
    return [path, *inner] if path else inner


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_value_replaced_by_any_other_is_read_or_refused(data: st.DataObject) -> None:
    config = copy.deepcopy(
        json.loads(
            data.draw(st.sampled_from([KERAS_2, KERAS_2_LIST, json.dumps(describe_chain())]))
        )
    )
    *path, key = data.draw(st.sampled_from(list_places(config)))
    holder = config
    for step in path:
        holder = holder[step]
    holder[key] = data.draw(JSON_VALUES)

    message = ""
    try:
        assert len(parse_model_config(json.dumps(config), "x.h5").output_shape) == 1
    except CheckpointError as error:
        message = str(error)
    assert message.isprintable()
