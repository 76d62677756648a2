"""`mnistcli reproduce`: bit-identical results, results that differ, and refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import Ended, Run, Train
from helpers.checkpoints import write_dense
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.record import Record
from mnistcli.checkpoints.run_state import RunState
from mnistcli.checkpoints.writer import replace_checkpoint

SMALL = ("--batch-size", 100)
HARD = (
    *SMALL, "--optimizer", "adam", "--learning-rate", 0.001, "--model", "mlp", "--hidden", 16,
    "--dropout", 0.2, "--validation", 0.2, "--seed", 5,
)  # fmt: skip


def change(path: Path, edit: Callable[[RunState, Record], tuple[RunState, Record]]) -> Path:
    """Seal a checkpoint again with another content."""
    checkpoint = read_checkpoint(path, "all")
    assert checkpoint.state is not None
    assert checkpoint.record is not None
    replace_checkpoint(path, *edit(checkpoint.state, checkpoint.record))
    return path


def drop_warnings(ended: Ended) -> str:
    return "".join(x for x in ended.err.splitlines(True) if "warning: " not in x)


def test_a_run_that_grew_in_parts_gives_the_same_bits_in_one(run: Run, train_once: Train) -> None:
    model = train_once(*HARD, "--epochs", 1)
    assert run("train", "--resume", model, "--more", 2).code == 0
    before = model.read_bytes()
    ended = run("reproduce", model)
    assert (ended.code, ended.out) == (0, "model.h5, 3 epochs: same bits in all 19 arrays\n")
    assert [line.split()[1] for line in drop_warnings(ended).splitlines()] == ["1/3", "2/3", "3/3"]

    answer = run("reproduce", model, "--json").json
    assert set(answer) == {
        "version", "checkpoint", "dataset", "epochs", "same", "arrays", "differences", "seconds",
    }  # fmt: skip
    assert (answer["version"], answer["same"], answer["differences"]) == (1, True, [])
    assert (answer["checkpoint"], answer["epochs"], answer["arrays"]) == ("model.h5", 3, 19)
    assert model.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["model.best.h5", "model.h5"]

    best = run("reproduce", "model.best.h5", "-q")
    assert (best.code, best.out, drop_warnings(best)) == (0, "same\n", "")


def test_other_bits_are_exit_3_with_the_array_and_the_distance(run: Run, train_once: Train) -> None:
    def nudge(state: RunState, record: Record) -> tuple[RunState, Record]:
        [dense] = state.network.layers
        bias = dense.weights[1]
        values = bias.values.copy()
        values[3] += np.float32(0.5)
        changed = replace(dense, weights=(dense.weights[0], replace(bias, values=values)))
        return replace(state, network=replace(state.network, layers=(changed,))), record

    model = change(train_once(*SMALL, "--epochs", 1), nudge)
    ended = run("reproduce", model)
    assert ended.code == 3
    first, *table = filter(None, ended.out.splitlines())
    assert first == "model.h5, 1 epoch: other bits in 1 of 6 arrays"
    assert table[-1].split() == ["sequential/dense/bias", "10", "1", "0.5"]
    assert (
        drop_warnings(ended)
        .splitlines()[-1]
        .startswith(
            "mnistcli: error: model.h5: 1 of 6 arrays have other bits. Something that no record"
        )
    )

    answered = run("reproduce", model, "--json")
    assert (answered.code, answered.json["error"]["code"]) == (3, 3)
    assert (answered.json["same"], answered.json["arrays"]) == (False, 6)
    [difference] = answered.json["differences"]
    assert difference == {
        "name": "sequential/dense/bias", "size": 10, "differing": 1,
        "max_abs_difference": pytest.approx(0.5),
    }  # fmt: skip


def test_a_run_from_other_weights_is_reproduced_from_them(run: Run, train_once: Train) -> None:
    first = train_once(*SMALL, "--epochs", 1)
    Path("runs").mkdir()
    words = (*SMALL, "--seed", 9, "--init-from", first, "--epochs", 1, "-o", "runs/m.h5")
    assert run("train", *words).code == 0
    assert run("reproduce", "runs/m.h5", "-q").out == "same\n"
    shutil.move(first, "runs/model.h5")
    assert run("reproduce", "runs/m.h5", "-q").out == "same\n"  # found beside it

    assert run("train", "--resume", "runs/model.h5", "--more", 1).code == 0
    ended = run("reproduce", "runs/m.h5")
    assert (ended.code, drop_warnings(ended)) == (
        5,
        "mnistcli: error: runs/m.h5: it began with other weights than those that runs/model.h5"
        " holds now. Put the checkpoint back as it was then\n",
    )
    Path("runs/model.h5").unlink()
    ended = run("reproduce", "runs/m.h5")
    assert (ended.code, drop_warnings(ended)) == (
        5,
        "mnistcli: error: runs/m.h5: it began with the weights of model.h5, which is not there."
        " Put that checkpoint back where it was\n",
    )


def test_where_bits_prove_nothing_nothing_is_trained(run: Run, train_once: Train) -> None:
    def age(state: RunState, record: Record) -> tuple[RunState, Record]:
        made = record.environment
        older = made.model_copy(update={"versions": {**made.versions, "keras": "3.0.0"}})
        return state, record.model_copy(update={"environment": older})

    model = change(train_once(*SMALL, "--epochs", 1), age)
    ended = run("reproduce", model)
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.startswith(
        "mnistcli: error: model.h5: its bits cannot be compared here: keras 3.0.0 -> 3."
    )
    assert ended.err.endswith(
        ". Reproduce it with the versions, processor and settings that it was made with\n"
    )
    assert run("reproduce", model, "--json").json["error"]["code"] == 7


def test_other_data_are_named(run: Run, train_once: Train, digits_directory: Path) -> None:
    model = train_once(*SMALL, "--epochs", 1)
    with np.load(digits_directory / "mnist.npz") as data:
        arrays = dict(data)
    arrays["y_train"] = np.roll(arrays["y_train"], 1)
    Path("other").mkdir()
    np.savez("other/mnist.npz", **arrays)
    ended = run("reproduce", model, "--data-dir", "other")
    assert (ended.code, ended.out, drop_warnings(ended)) == (
        4,
        "",
        "mnistcli: error: other/mnist.npz: not the MNIST that model.h5 was trained on."
        " Point --data-dir to the data of that run\n",
    )


def test_a_run_in_the_middle_of_an_epoch_has_to_be_finished_first(
    run: Run, train_once: Train
) -> None:
    def interrupt(state: RunState, record: Record) -> tuple[RunState, Record]:
        progress = record.progress.model_copy(update={"step": 7})
        return state, record.model_copy(update={"progress": progress})

    model = change(train_once(*SMALL, "--epochs", 1), interrupt)
    ended = run("reproduce", model)
    assert (ended.code, ended.out, ended.err) == (
        5,
        "",
        "mnistcli: error: model.h5: saved in the middle of epoch 2, after 7 of its steps: nothing"
        " in it stands at the end of an epoch, where runs can be compared."
        " Finish it first: mnistcli train --resume model.h5\n",
    )


def test_a_file_that_is_no_longer_ours_says_nothing_of_how_it_was_made(
    run: Run, train_once: Train, tmp_path: Path
) -> None:
    model = train_once(*SMALL, "--epochs", 1)
    with h5py.File(model, "r+") as file:
        file.attrs["note"] = "mine"
    theirs = write_dense(tmp_path / "theirs.h5")
    for path, what in (
        (model, "changed since mnistcli wrote it (its checksum is gone)"),
        (theirs, "no run of mnistcli's to train again"),
    ):
        ended = run("reproduce", path)
        assert (ended.code, ended.out, ended.err) == (
            5,
            "",
            f"mnistcli: error: {path}: {what}."
            " Only a file as mnistcli wrote it says how it was made\n",
        )
