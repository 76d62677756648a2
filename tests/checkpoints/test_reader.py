"""Reading whole-model .h5 files of Keras 2 and 3, and checkpoints with their runs."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import SOURCE, Run
from helpers.checkpoints import (
    describe_dense,
    draw_dense,
    make_run,
    seal,
    write_arrays,
    write_dense,
    write_model,
    write_names,
)
from helpers.inference import compute_logits
from mnistcli.checkpoints.reader import (
    Checkpoint,
    parse_checkpoint,
    parse_metadata,
    read_checkpoint,
)
from mnistcli.checkpoints.record import Record
from mnistcli.checkpoints.run_state import CallbackStates, NamedArray, RunState
from mnistcli.checkpoints.untrusted import sandbox
from mnistcli.checkpoints.untrusted.sandbox import MetadataReader, ParserOutput, ParserProcess
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.errors import CheckpointError, ExitCode
from mnistcli.metrics.scores import LossSpec
from mnistcli.models.activations import apply_activation
from mnistcli.tensorflow_import import load_backend

load_backend()

import keras  # noqa: E402
from keras import layers  # noqa: E402

NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], list[Any]]]] = {
    "softmax on 784": ((784,), lambda: [layers.Dense(10, "softmax")]),
    "mlp on 28x28": (
        (28, 28),
        lambda: [
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(10),
            layers.Activation("softmax"),
        ],
    ),
    "rescaling on 3072": (
        (3072,),
        lambda: [layers.Rescaling(1 / 255, -0.5), layers.Dense(10, "sigmoid")],
    ),
    "reshape on 784": (
        (784,),
        lambda: [
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, "softmax"),
        ],
    ),
    "convolution on 28x28x1": (
        (28, 28, 1),
        lambda: [
            layers.Conv2D(8, (3, 3), padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(4, 3, strides=2, use_bias=False),
            layers.AveragePooling2D(3, strides=1),
            layers.Flatten(),
            layers.Dense(10),
            layers.Softmax(),
        ],
    ),
    "every setting on 12x12x4": (
        (12, 12, 4),
        lambda: [
            layers.BatchNormalization(axis=1),
            layers.Rescaling([0.5, 1, 2, 3], [1, 0, 1, 0]),
            layers.Conv2D(6, 3, groups=2, activation="swish"),
            layers.LeakyReLU(0.1),
            layers.ReLU(6, 0.25, 0.125),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(data_format="channels_first"),
            layers.Dense(12, "hard_silu"),
            layers.ELU(0.5),
            layers.Reshape((3, 4)),
            layers.BatchNormalization(axis=1),
            layers.Flatten(data_format="channels_first"),
            layers.Dense(10, "softmax"),
        ],
    ),
    "channels first on 3x12x12": (
        (3, 12, 12),
        lambda: [
            layers.Conv2D(4, 3, data_format="channels_first", activation="relu"),
            layers.BatchNormalization(axis=1),
            layers.MaxPooling2D(data_format="channels_first"),
            layers.Conv2D(4, 3, padding="same", data_format="channels_first"),
            layers.Flatten(data_format="channels_first"),
            layers.Dense(10, "softmax"),
        ],
    ),
    "convolution on 32x32x3": (
        (32, 32, 3),
        lambda: [
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 5, activation="gelu", dilation_rate=2),
            layers.GlobalMaxPooling2D(),
            layers.Dropout(0.2),
            layers.Dense(10, "softmax"),
        ],
    ),
}


def make_network(name: str, seed: int = 0) -> keras.Sequential:
    """One of the networks, with weights that no initializer would give."""
    shape, make_layers = NETWORKS[name]
    network = keras.Sequential([keras.Input(shape), *make_layers()])
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        values = rng.normal(0, 0.1, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return network


@contextlib.contextmanager
def keras_saves() -> Iterator[None]:
    """Keras calls the format a legacy, and NumPy what Keras does when it saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(network: keras.Sequential, path: Path) -> Path:
    with keras_saves():
        network.save(path)
    return path


def draw_inputs(network: keras.Sequential) -> NDArray[np.float32]:
    shape = (7, *network.input_shape[1:])
    return np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)


def assert_gives_the_same(checkpoint: Checkpoint, network: keras.Sequential) -> None:
    """Hold our logits and probabilities against Keras' own."""
    inputs = draw_inputs(network)
    logits = compute_logits(checkpoint.architecture, checkpoint.weights, inputs)
    probabilities = apply_activation(checkpoint.architecture.head.activation, logits)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(probabilities, network.predict(inputs, verbose=0), **close)
    *body, head = network.layers
    x = inputs
    for layer in body:
        x = layer(x)
    if isinstance(head, layers.Dense):
        x = x @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(logits, x, **close)


@pytest.mark.parametrize("loss", [None, "sparse_categorical_crossentropy"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_keras_3_gives_the_logits_of_keras(
    tmp_path: Path, name: str, loss: str | None
) -> None:
    network = make_network(name)
    if loss is not None:
        network.compile("adam", loss, metrics=["accuracy"])
        network.optimizer.build(network.trainable_variables)
    checkpoint = read_checkpoint(save(network, tmp_path / "model.h5"))
    assert_gives_the_same(checkpoint, network)
    assert checkpoint.loss.name == loss
    assert checkpoint.record is None
    assert checkpoint.warnings == ()


def describe_for_keras_2(network: keras.Sequential) -> dict[str, Any]:
    """What Keras 2 would have written: no modules, no registered names, `batch_input_shape`."""

    def strip(value: Any) -> Any:
        if isinstance(value, list):
            return [strip(item) for item in value]
        if not isinstance(value, dict):
            return value
        kept = {
            k: v for k, v in value.items() if k not in ("module", "registered_name", "optional")
        }
        if value.get("class_name") == "DTypePolicy":
            return value["config"]["name"]
        return {
            k: strip(v) for k, v in kept.items() if k not in ("build_config", "quantization_config")
        }

    config = strip(json.loads(network.to_json()))
    entries = config["config"]["layers"]
    entries[0]["config"]["batch_input_shape"] = entries[0]["config"].pop("batch_shape")
    entries[0]["config"] |= {"sparse": False, "ragged": False}
    return {
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": entries},
        "keras_version": "2.4.0",
        "backend": "tensorflow",
    }


def write_as_keras_2(path: Path, network: keras.Sequential, piece_length: int) -> Path:
    """Lay a network out as Keras 2.4 did: bytes everywhere, `:0`, long lists in pieces."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(describe_for_keras_2(network)).encode()
        file.attrs["training_config"] = json.dumps(
            {"loss": "mse", "metrics": ["accuracy"]}
        ).encode()
        weights = file.create_group("model_weights")
        names = [layer.name for layer in network.layers]
        pieces = [names[i : i + piece_length] for i in range(0, len(names), piece_length)]
        for number, piece in enumerate(pieces):
            write_names(
                weights, f"layer_names{number}" if len(pieces) > 1 else "layer_names", piece
            )
        for layer in network.layers:
            arrays = {f"{layer.name}/{w.name}:0": w.numpy() for w in layer.weights}
            write_arrays(weights.create_group(layer.name), arrays)
        optimizer = {
            "Adam/iter:0": np.array(5, np.int64),
            "Adam/dense/kernel/m:0": np.zeros((2, 3), np.float32),
        }
        write_arrays(file.create_group("optimizer_weights"), optimizer)
    return path


@pytest.mark.parametrize("piece_length", [100, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_as_keras_2_wrote_it_gives_the_logits_of_keras(
    tmp_path: Path, name: str, piece_length: int
) -> None:
    network = make_network(name)
    checkpoint = read_checkpoint(
        write_as_keras_2(tmp_path / "old.h5", network, piece_length), "all"
    )
    assert_gives_the_same(checkpoint, network)
    assert checkpoint.loss == LossSpec("mean_squared_error")
    assert checkpoint.state is None


def test_arrays_are_paired_with_layers_by_their_order_as_keras_does(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((8,)), *(layers.Dense(8) for _ in range(3))])
    names = [layer.name for layer in network.layers]
    path = save(network, tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:  # the first two layers change their arrays
        file["model_weights"].move(names[2], "elsewhere")
        write_names(file["model_weights"], "layer_names", [names[1], names[0], "elsewhere"])
    inputs = draw_inputs(network)
    expected = keras.models.load_model(path, compile=False).predict(inputs, verbose=0)
    checkpoint = read_checkpoint(path)
    found = compute_logits(checkpoint.architecture, checkpoint.weights, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, network.predict(inputs, verbose=0), atol=0.1)


@pytest.mark.parametrize(
    "name",
    ["softmax on 784", "mlp on 28x28", "convolution on 28x28x1", "convolution on 32x32x3"],
)
def test_an_input_shape_that_the_file_does_not_say_is_found_by_the_weights(
    tmp_path: Path, name: str
) -> None:
    path = save(make_network(name), tmp_path / "model.h5")
    whole = read_checkpoint(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"].pop("build_input_shape", None)
        del config["config"]["layers"][0]
        file.attrs["model_config"] = json.dumps(config)

    for checkpoint in (read_checkpoint(path, "none"), read_checkpoint(path)):
        assert checkpoint.architecture == replace(whole.architecture, is_input_open=True)
    (line,) = MetadataReader([path]).results()
    assert isinstance(line, dict)
    assert parse_metadata(path, line).parameters == whole.architecture.parameter_count


def test_an_input_shape_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    config = describe_dense(4, 3)
    config["config"]["layers"][0] = {"class_name": "Reshape", "config": {
        "name": "odd", "target_shape": [7, 4]}}  # fmt: skip
    path = write_model(tmp_path / "model.h5", config, draw_dense(4, 3))
    expect_refusal(
        path,
        "model_config does not say the input shape, and the weights fit no usual one."
        " Give the network an input shape, then save it again",
    )


@pytest.mark.parametrize(("first", "last"), [("block1/fc1", "head/out"), ("x" * 900, "ä\x1b[1m")])
def test_layers_of_any_names_are_read(tmp_path: Path, first: str, last: str) -> None:
    config = describe_dense(4, 4)
    layer = config["config"]["layers"][1]
    entries = [{**layer, "config": {**layer["config"], "name": n}} for n in (first, last)]
    config["config"]["layers"][1:] = entries
    arrays = [{f"{name}/{k[6:]}": v for k, v in draw_dense(4, 4)["dense"].items()} for name in "ab"]
    arrays[1]["b/kernel"] = 2 * arrays[1]["b/kernel"]
    path = write_model(tmp_path / "model.h5", config, dict(zip((first, last), arrays, strict=True)))

    checkpoint = read_checkpoint(path)

    np.testing.assert_array_equal(checkpoint.weights[0] * 2, checkpoint.weights[2])
    assert checkpoint.architecture.layers[0].name == first


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_weights_of_any_precision_become_single(tmp_path: Path, dtype: str) -> None:
    weights = {"dense": {k: v.astype(dtype) for k, v in draw_dense(4, 3)["dense"].items()}}
    path = write_model(tmp_path / "model.h5", describe_dense(4, 3), weights)
    kernel, bias = read_checkpoint(path).weights
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, weights["dense"]["dense/kernel"].astype(np.float32))
    np.testing.assert_array_equal(bias, [0, 1, 2])


def test_compressed_weights_are_read(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/dense"]
        kernel = group["dense/kernel"][:]
        del group["dense/kernel"]
        group.create_dataset(
            "dense/kernel", data=kernel, compression="gzip", shuffle=True, fletcher32=True
        )
    np.testing.assert_array_equal(read_checkpoint(path).weights[0], kernel)


def test_only_what_was_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run())
    nothing, weights, everything = (read_checkpoint(path, w) for w in ("none", "weights", "all"))
    assert (nothing.weights, nothing.state, weights.state) == ((), None, None)
    assert nothing.progress == weights.progress == everything.progress == make_run()[0].progress
    assert len(weights.weights) == 2
    assert everything.state is not None
    assert everything.record == make_run()[1]


def expect_refusal(path: Path, line: str) -> None:
    """The file is refused with exit code 5 and with this one line."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == f"{path}: {line}"
    assert caught.value.code is ExitCode.CHECKPOINT == 5


GIVE = "Give a .h5 file that mnistcli or Keras saved"
AGAIN = "Restore it from a copy, or train again"


def test_a_missing_file(tmp_path: Path) -> None:
    expect_refusal(tmp_path / "missing.h5", f"no such checkpoint. {GIVE}")


def test_a_folder(tmp_path: Path) -> None:
    expect_refusal(tmp_path, f"is a folder. {GIVE}")


def test_a_pipe_without_a_writer_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    expect_refusal(tmp_path / "pipe.h5", f"not a regular file. {GIVE}")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.h5").touch()
    expect_refusal(tmp_path / "empty.h5", f"the file is empty. {AGAIN}")


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("epochs: 3\n")
    expect_refusal(tmp_path / "text.h5", f"is a YAML file, not an HDF5 file. {GIVE}")


def test_a_keras_zip(tmp_path: Path) -> None:
    save(make_network("softmax on 784"), tmp_path / "model.keras")
    expect_refusal(
        tmp_path / "model.keras",
        "is a Keras .keras file, not an HDF5 file. Save it as HDF5:"
        " keras.models.load_model('model.keras').save('model.h5')",
    )


def test_a_file_of_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    with keras_saves():
        make_network("softmax on 784").save_weights(path)
    expect_refusal(
        path,
        "weights without their network: layers/dense/vars/0 (784, 10), layers/dense/vars/1 (10,)."
        " Build the network, model.load_weights(…) and model.save('model.h5') in Keras",
    )


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "model.h5")
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) // 2, 100):
        path.write_bytes(data[:length])
        expect_refusal(
            path,
            "damaged: its end is missing. Wait if it is still being copied; otherwise restore"
            " it from a copy, or train again",
        )


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with path.open("wb") as stream:
        stream.truncate((2 << 30) + 1)
    expect_refusal(
        path,
        "2,147,483,649 bytes are more than the 2,147,483,648 that are read here."
        " Keras saves no such file: get another from whoever made it",
    )


def test_a_file_that_one_may_not_read(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "model.h5")
    path.chmod(0)
    program = (
        "import os, sys; from pathlib import Path;"
        "from mnistcli.checkpoints.reader import read_checkpoint;"
        "os.geteuid() or os.seteuid(65534); read_checkpoint(Path(sys.argv[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stderr.endswith(
        f"CheckpointError: {path}: cannot be read: Permission denied. {GIVE}\n"
    )


def rewrite(path: Path, **parts: object) -> Path:
    """Change parts of a record, and seal the file again."""
    replace_checkpoint(path, *make_run())
    with h5py.File(path, "r+") as file:
        for name, value in parts.items():
            file["mnistcli"].attrs[name] = value if isinstance(value, str) else json.dumps(value)
    seal(path)
    return path


def change(part: str, **values: object) -> dict[str, Any]:
    """One part of the usual record with other values in it."""
    return {**make_run()[1].model_dump(mode="json")[part], **values}


def test_a_record_of_a_later_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = rewrite(tmp_path / "model.h5", format_version=2, progress={"a": "new one"})
    expect_refusal(path, "written by a later mnistcli (format 2). Upgrade mnistcli")


def test_a_record_with_additions_is_read(tmp_path: Path) -> None:
    path = rewrite(
        tmp_path / "model.h5", novelty={"a": [1]}, progress=change("progress", novelty=None)
    )
    assert read_checkpoint(path).record == make_run()[1]


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"format_version": "one"}, "no JSON"),
        ({"format_version": 0}, "format_version: Input should be 1"),
        ({"config": "{"}, "Invalid JSON"),
        ({"config": "[" * 10_000}, "Invalid JSON"),
        ({"config": {"training": {"epochs": 0}}}, "config.training.epochs: "),
        ({"progress": change("progress", epoch=-1)}, "progress.epoch: "),
        ({"progress": change("progress", epoch=10**30)}, "progress.epoch: "),
        ({"progress": change("progress", epoch="2")}, "progress.epoch: "),
        ({"progress": change("progress", epoch=3)}, "history: 'accuracy' holds no number for"),
        ({"progress": change("progress", elapsed_s=float("inf"))}, "progress.elapsed_s: "),
        ({"class_names": list("012345678")}, "class_names: they are not those of mnist"),
        ({"class_names": [*"012345678", "\x1b[31mnine"]}, "class_names.9: "),
        ({"dataset": change("dataset", name="imagenet")}, "Value error, no such data set"),
        ({"preprocessing": {"offset": 0.0, "scale": 0.0}}, "preprocessing: offset 0 and scale 0"),
        ({"preprocessing": {"offset": float("nan"), "scale": 1.0}}, "preprocessing: offset nan"),
        ({"running": {"generators": {"seed": [2**63, 0]}, "metrics": {}}}, "running.generators."),
        ({"running": {"generators": {}, "metrics": {"loss/total": 1e300}}}, "running.metrics: "),
        ({"environment": change("environment", threads=0)}, "environment.threads: "),
        ({"test": '1}, "class_names": {"a": 1'}, "Invalid JSON"),
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_refused(
    tmp_path: Path, parts: dict[str, Any], what: str
) -> None:
    path = rewrite(tmp_path / "model.h5", **parts)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: its record of the run is damaged ({what}")
    assert line.endswith(f"). {AGAIN}")
    assert len(line) < len(str(path)) + 300


def test_a_run_of_before_there_were_callbacks_is_read_as_one_without(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run())
    with h5py.File(path, "r+") as file:
        record = file["mnistcli"].attrs
        del record["early_stopping"], record["reduce_on_plateau"]
        config = json.loads(record["config"])
        for key in ("schedule", "reduce_on_plateau", "early_stopping", "clip", "class_weight"):
            del config["training"][key]
        del config["training"]["label_smoothing"], config["model"]["l1"], config["model"]["l2"]
        record["config"] = json.dumps(config)
    seal(path)
    state = read_checkpoint(path, "all").state
    assert state is not None
    assert state.callbacks == CallbackStates()


def test_a_record_without_one_of_its_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    for name in (key for key, field in Record.model_fields.items() if field.is_required()):
        replace_checkpoint(path, *make_run())
        with h5py.File(path, "r+") as file:
            del file["mnistcli"].attrs[name]
        seal(path)
        line = f"its record of the run is damaged ({name}: Field required). {AGAIN}"
        expect_refusal(path, line)


# What a child that has been taken over could say.
@pytest.mark.parametrize(
    "forge",
    [
        lambda line: line.clear(),
        lambda line: line.update(model_config=None),
        lambda line: line.update(model_config=["{}"]),
        lambda line: line.update(training_config=7),
        lambda line: line.update(checksum="perfect"),
        lambda line: line.update(record=["format_version"]),
        lambda line: line.update(record={"format_version": {}}),
        lambda line: line.update(arrays=None),
        lambda line: line["arrays"].pop(),
        lambda line: line["arrays"].append(line["arrays"][0]),
        lambda line: line["arrays"][0].update(dtype="O"),
        lambda line: line["arrays"][0].update(dtype="f4,f4"),
        lambda line: line["arrays"][0].update(dtype="<f99"),
        lambda line: line["arrays"][0].update(dtype="f1"),
        lambda line: line["arrays"][0].update(shape=[-4, -3]),
        lambda line: line["arrays"][0].update(shape=[2**62, 4]),
        lambda line: line["arrays"][0].update(shape=[0, 2**70]),
        lambda line: line["arrays"][0].update(shape=[1] * 100 + [4, 3]),
        lambda line: line["arrays"][0].update(shape="43"),
        lambda line: line["arrays"][0].update(name=None),
    ],
)
def test_the_child_is_not_believed(tmp_path: Path, forge: Callable[[Any], object]) -> None:
    path = write_dense(tmp_path / "model.h5")
    parsed = ParserProcess(path, "weights").result()
    line = copy.deepcopy(parsed.line)
    forge(line)
    with pytest.raises(CheckpointError) as caught:
        parse_checkpoint(path, ParserOutput(line, parsed.arrays, "weights"))
    assert str(caught.value) == f"{path}: damaged: it was not read completely. {AGAIN}"


NO_RESULT = f"damaged: reading it gave no result. {AGAIN}"
CRASHED = f"the process that reads it was ended by a signal (Segmentation fault). {AGAIN}"
HANGS = f"damaged: reading it goes on and on. {AGAIN}"
LATE = f"damaged: it was not read within 1 s. {AGAIN}"
BROKEN = "the process that reads it did not start. See whether Python can: python -c 'import h5py'"


# What the child may do instead of answering, as programs in its place.
@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("", NO_RESULT),
        ("print('{')", NO_RESULT),
        ("print('[]')", NO_RESULT),
        ("print('[' * 100_000)", NO_RESULT),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", NO_RESULT),
        ("import os; os.kill(os.getpid(), 11)", CRASHED),
        ("import os; os.kill(os.getpid(), 24)", HANGS),
        ("import no_such_library", BROKEN),
        ("import time; time.sleep(60)", LATE),
    ],
)
def test_a_child_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, line: str
) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", program)
    monkeypatch.setattr(sandbox, "TIME_LIMIT_BASE_S", 1)
    expect_refusal(write_dense(tmp_path / "model.h5"), line)


def test_limits_that_the_user_has_set_himself_are_kept(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "model.h5")
    program = (
        "import resource, sys; from pathlib import Path;"
        "from mnistcli.checkpoints.reader import read_checkpoint;"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "resource.setrlimit(resource.RLIMIT_CPU, (4, 4));"
        "print(len(read_checkpoint(Path(sys.argv[1])).weights))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout == "2\n", ended.stderr


def test_a_run_whose_arrays_are_not_those_of_its_network_is_not_resumed(
    run: Run, tmp_path: Path
) -> None:
    assert run("train", "--epochs", 1, "--optimizer", "adam", "-o", "model.h5").code == 0
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        names = list(file["optimizer_weights"].attrs["weight_names"])
        write_names(file["optimizer_weights"], "weight_names", names[:-1])
    seal(tmp_path / "model.h5")
    ended = run("train", "--resume", "model.h5", "--more", 1)
    assert (ended.code, ended.err) == (
        5,
        "mnistcli: error: model.h5: its optimizer's arrays are not those that adam keeps for this"
        f" network. {AGAIN}\n",
    )
    assert run("evaluate", "model.h5").code == 0  # which asks for no optimizer


def change_state(**changes: object) -> tuple[RunState, Record]:
    """The usual run with other parts of its network's state."""
    state, record = make_run()
    return replace(state, network=replace(state.network, **changes)), record


STEP = NamedArray("sgd/iteration", np.array(2, np.int64))
RATE = NamedArray("sgd/learning_rate", np.array(0.01, np.float32))
SLOT = NamedArray("sgd/momentum", np.zeros((784, 10), np.float32))


@pytest.mark.parametrize(
    ("arrays", "training", "line"),
    [
        ((STEP,), {}, "its optimizer's arrays are not those that sgd keeps for this network"),
        ((STEP, RATE), {"optimizer": "adam"},
         "its optimizer's arrays are not those that adam keeps for this network"),
        ((STEP, RATE, SLOT), {},
         "its optimizer's arrays are not those that sgd keeps for this network"),
        ((STEP, RATE), {"schedule": "exponential"},
         "its record of the run is damaged (history: learning_rate is missing)"),
        ((STEP, replace(RATE, values=np.array(np.inf, np.float32))), {},
         "'sgd/learning_rate' holds numbers that are not finite"),
        ((STEP, RATE, SLOT, NamedArray("b", np.zeros(10, np.float64))),
         {"optimizer": {"name": "sgd", "momentum": 0.9}}, "'b' holds float64, not float32"),
    ],
)  # fmt: skip
def test_an_optimizer_that_is_not_the_runs_is_refused_when_it_is_read(
    tmp_path: Path, arrays: tuple[NamedArray, ...], training: dict[str, Any], line: str
) -> None:
    state, record = change_state(optimizer=arrays)
    config = Config.model_validate({"training": training})
    replace_checkpoint(tmp_path / "model.h5", state, record.model_copy(update={"config": config}))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "model.h5", "all")
    assert str(caught.value) == f"{tmp_path / 'model.h5'}: {line}. {AGAIN}"
    if "record" not in line:
        assert read_checkpoint(tmp_path / "model.h5").state is None


def test_generators_and_kept_weights_belong_to_the_network(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    running = {"generators": {"seed": [1, 2]}, "metrics": {}}
    with pytest.raises(CheckpointError, match="1 random generator for 0 dropout layers"):
        read_checkpoint(rewrite(path, running=running), "all")
    state, record = make_run()
    kept = CallbackStates(weights=state.network.layers[0].weights[1:])
    replace_checkpoint(path, replace(state, callbacks=kept), record)
    with pytest.raises(CheckpointError, match="that early stopping keeps are not this network's"):
        read_checkpoint(path, "all")
