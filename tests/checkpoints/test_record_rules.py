"""A record that cannot be true is refused, by one set of rules for every command.

Each case takes the file of a real run, which early stopping ended, and changes what it says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import Run, Train
from helpers.checkpoints import seal
from helpers.commands import STOPPED_EARLY
from mnistcli.checkpoints.reader import Checkpoint, parse_checkpoint
from mnistcli.checkpoints.untrusted.sandbox import ParserOutput, ParserProcess
from mnistcli.errors import CheckpointError

AGAIN = "Restore it from a copy, or train again"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def parsed(train_once: Train) -> ParserOutput:
    """What the child reads of the file of a run."""
    return ParserProcess(train_once(*STOPPED_EARLY), "all").result()


def parse_changed(parsed: ParserOutput, change: Change) -> Checkpoint:
    """Read the file as if its record said something else."""
    record = {name: json.loads(text) for name, text in parsed.line["record"].items()}
    change(record)
    texts = {name: json.dumps(value) for name, value in record.items()}
    return parse_checkpoint(Path("m.h5"), replace(parsed, line={**parsed.line, "record": texts}))


def put(path: str, value: object) -> Change:
    """Set a value at a dotted path."""

    def change(record: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            record = record[name]
        record[last] = value

    return change


def set_classes(names: list[str]) -> Change:
    return put("class_names", names)


CONTRADICTIONS: list[tuple[Change, str]] = [
    # the config's own rules
    (
        put("config.dataset.validation", 0.0),
        "config.training.early_stopping: it monitors val_loss, and there is no validation set",
    ),
    (put("config.training.label_smoothing", 0.1), "config.training.loss: "),
    (put("config.training.class_weight", [1.0, 2.0]), "config.training.class_weight: "),
    (put("config.training.clip", {"norm": 1.0, "value": 1.0}), "config.training.clip: "),
    # the network
    (
        put("config.model.output_activation", "sigmoid"),
        "config.model.output_activation: its network ends in softmax, its config says sigmoid",
    ),
    (put("config.model.activation", "tanh"), "config.model: "),
    (put("config.model.dropout", 0.2), "config.model: "),
    (put("config.model.hidden", [17]), "config.model: "),
    (put("config.dataset.name", "cifar10"), "it was trained on mnist, its config says cifar10"),
    (put("config.training.loss", "sparse_categorical_crossentropy"), "config.training.loss: "),
    # the data set
    (put("dataset.sha256", "0" * 64), "dataset: the hash of the data is not that of its arrays"),
    (put("dataset.sha256", "good"), "dataset: its hashes are none of a data set"),
    (put("dataset.arrays.x_train", "\x1b[31m"), "dataset: its hashes are none of a data set"),
    (put("dataset.known_as", "canonical MNIST"), "dataset: it is not 'canonical MNIST'"),
    (put("dataset.held_out", 7.0), "dataset.held_out: "),
    (set_classes([*"1023456789"]), "class_names: they are not those of mnist"),
    (set_classes(["0"] * 10), "class_names: two are alike"),
    # scaling, in the numbers of float32
    (put("preprocessing.scale", 1e-300), "preprocessing: offset 0 and scale 1e-300"),
    (put("preprocessing.offset", 1e300), "preprocessing: offset 1e+300 and scale 255"),
    (put("preprocessing.scale", 256.0), "preprocessing: "),
    (put("preprocessing.scale", -255.0), "preprocessing: "),
    # how far it has come
    (put("progress.step", 10**9), "progress.step: "),
    (put("progress.step", 10**6), "progress.step: after "),
    (put("progress.epoch", 31), "history: "),
    (put("config.training.epochs", 2), "progress.epoch: "),
    (put("progress.best_epoch", 29), "progress.best_epoch: 29, in its history it is "),
    (put("progress.elapsed_s", 1e308), "progress.elapsed_s: "),
    (put("progress.elapsed_s", -1.0), "progress.elapsed_s: "),
    (put("config.training.reduce_on_plateau", None), "history: learning_rate, of which its "),
    (put("reduce_on_plateau", None), "reduce_on_plateau: "),
    (put("reduce_on_plateau.wait", 40), "reduce_on_plateau.wait: "),
    (put("reduce_on_plateau.best", 0.0), "reduce_on_plateau.best: "),
    # early stopping
    (put("early_stopping", None), "early_stopping: "),
    (put("early_stopping", {}), "early_stopping.best: None, in its history "),
    (put("early_stopping.best", 0.0), "early_stopping.best: 0.0, in its history "),
    (put("early_stopping.best_epoch", 10**9), "early_stopping.best: "),
    (put("early_stopping.wait", 29), "early_stopping.wait: "),
    (put("config.training.early_stopping.patience", 20), "early_stopping.is_stopped: "),
    (put("config.training.early_stopping.restore_best", False), "early_stopping.is_restored: "),
    # scores
    (put("test.accuracy", 0.98765), "test.accuracy: no share of 200 images is 0.98765"),
    (put("test.count", 0), "test.count: "),
    (put("test.loss", 1e308), "test.loss: 1e+308"),
    (put("test.loss", -3.0), "test.loss: -3"),
    (put("running.metrics", {"loss/total": float("nan")}), "running.metrics: "),
    (put("running.generators", {}), "0 random generators for 1 dropout layer"),
    (put("init_from", "/etc/passwd"), "init_from and init_weights_sha256: "),
]  # fmt: skip


@pytest.mark.parametrize(("change", "what"), CONTRADICTIONS)
def test_a_record_that_contradicts_itself_its_network_or_its_history_is_refused(
    parsed: ParserOutput, change: Change, what: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_changed(parsed, change)
    line = str(caught.value)
    assert line.startswith(f"m.h5: its record of the run is damaged ({what}")
    assert line.endswith(f"). {AGAIN}")


def test_the_record_as_it_was_written_is_read(parsed: ParserOutput) -> None:
    record = parse_changed(parsed, lambda _: None).record
    assert record is not None
    assert record.is_stopped_early
    assert 0 < record.weights_epoch == record.progress.best_epoch < record.progress.epoch < 30
    # as one that was stopped in an epoch, and resumed up to the epochs that are done
    parse_changed(parsed, put("progress.step", 1))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("accuracy", 1e308, "history: 'accuracy' goes from "),
        ("loss", 1e308, "history: 'loss' goes from "),
        ("val_accuracy", -0.5, "history: 'val_accuracy' goes from "),
        ("val_loss", 0.0, "progress.best_epoch: "),
        ("epoch_duration_s", 1e300, "history: 'epoch_duration_s' goes from "),
    ],
)
def test_a_history_that_cannot_be_is_refused_by_ls_too(
    run: Run, train_once: Train, name: str, value: float, what: str
) -> None:
    path = train_once(*STOPPED_EARLY)
    with h5py.File(path, "r+") as file:
        file[f"mnistcli/history/{name}"][-1] = value
    seal(path)
    for ended in (run("summary", path), run("train", "--resume", path, "--more", 1)):
        assert ended.code == 5
        assert ended.err.startswith(f"mnistcli: error: {path}: its record of the run is damaged")
        assert what in ended.err
    [row] = run("ls", path, "--json").json["checkpoints"]
    assert row["status"] == "refused"
    assert what in row["reason"]


def test_no_command_believes_a_record_that_cannot_be_true(run: Run, train_once: Train) -> None:
    path = train_once(*STOPPED_EARLY)
    with h5py.File(path, "r+") as file:
        file["mnistcli"].attrs["preprocessing"] = '{"offset":0.0,"scale":1e-300}'
    seal(path)
    before = path.read_bytes()
    for words in (
        ("summary", path),
        ("evaluate", path),
        ("predict", path, "--first", 1),
        ("report", path, "-o", "r.html"),
        ("plot", "curves", path, "-o", "c.svg"),
        ("compare", path, path),
        ("train", "--resume", path, "--more", 1),
        ("reproduce", path),
    ):
        ended = run(*words)
        assert (ended.code, ended.out) == (5, ""), words
        assert "preprocessing: offset 0 and scale 1e-300" in ended.err
    assert path.read_bytes() == before
    assert [p.name for p in Path().iterdir()] == [path.name]


def test_steps_that_the_optimizer_has_not_done_are_not_resumed(run: Run, train_once: Train) -> None:
    path = train_once("--epochs", 2)  # of two steps each
    shutil.copy(path, "other.h5")
    for steps, done in ((10**5, 4), (3, 10**6), (2, 4), (1, 6)):
        shutil.copy("other.h5", path)
        with h5py.File(path, "r+") as file:
            record = file["mnistcli"].attrs
            progress = json.loads(record["progress"]) | {"step": steps}
            config = json.loads(record["config"])
            config["training"]["epochs"] = 3
            record["progress"], record["config"] = json.dumps(progress), json.dumps(config)
            record["test"] = "null"
            weights = file["optimizer_weights"]
            weights[weights.attrs["weight_names"][0]][()] = done  # sgd/iteration, sgd_1/iteration …
        seal(path)
        before = path.read_bytes()
        ended = run("train", "--resume", path, "--more", 1)
        assert ended.code == 5, ended.err
        assert path.read_bytes() == before


def test_outputs_that_are_not_finite_are_an_error_and_no_class(run: Run, train_once: Train) -> None:
    path = train_once("--epochs", 2)
    with h5py.File(path, "r+") as file:
        weights = file["model_weights/dense"]
        kernel = weights[weights.attrs["weight_names"][0]]
        kernel[:] = np.full(kernel.shape, 3e38, np.float32)
    seal(path)
    for words in (("evaluate", path), ("predict", path, "--first", 3, "--json")):
        ended = run(*words)
        assert ended.code == 5
        assert "its outputs are not finite for " in ended.err


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("threads", "threads: the run was trained with 4096 threads, this machine runs at most "),
        ("devices", "--devices: 4096 devices are more than this machine can be divided into. "),
    ],
)
def test_what_a_record_asks_for_is_compared_with_the_machine_first(
    run: Run, train_once: Train, key: str, line: str
) -> None:
    path = train_once(*STOPPED_EARLY)
    with h5py.File(path, "r+") as file:
        record = file["mnistcli"].attrs
        record["environment"] = json.dumps(json.loads(record["environment"]) | {key: 4096})
    seal(path)
    for words in (("train", "--resume", path, "--more", 1), ("reproduce", path)):
        ended = run(*words)
        assert ended.code == 7
        assert ended.err.startswith(f"mnistcli: error: {line}")
    assert run("evaluate", path).code == 0  # which uses neither
