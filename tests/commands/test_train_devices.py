"""`train --devices N`: the whole command on several devices, here parts of the processor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Run
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.tensorflow_import import load_backend

load_backend()

import tensorflow as tf  # noqa: E402

SMALL = ("--batch-size", 100, "--epochs", 2)


def read_devices(path: str) -> int:
    record = read_checkpoint(Path(path)).record
    assert record is not None
    return record.environment.devices


def test_devices_are_recorded_shown_used_again_and_change_bits_only(run: Run) -> None:
    one = run("train", *SMALL, "--json", "-o", "one.h5").json
    two = run("train", *SMALL, "--json", "-o", "m.h5", "--devices", 2).json
    assert two["history"]["loss"] == pytest.approx(one["history"]["loss"], rel=1e-6)
    assert two["history"]["accuracy"] == one["history"]["accuracy"]
    assert (read_devices("one.h5"), read_devices("m.h5")) == (1, 2)
    assert re.search(r"^trained on +2 devices$", run("summary", "m.h5").out, re.MULTILINE)
    assert "trained on" not in run("summary", "one.h5").out

    assert run("reproduce", "m.h5", "-q").out == "same\n"

    again = run("train", "--resume", "m.h5", "--more", 1)
    assert "cannot promise" not in again.err
    assert read_devices("m.h5") == 2
    other = run("train", "--resume", "m.h5", "--more", 1, "--devices", 1)
    assert "warning: cannot promise the same bits: devices 2 -> 1\n" in other.err
    assert read_devices("m.h5") == 1


@pytest.mark.slow
def test_everything_that_trains_does_so_on_several_devices(run: Run) -> None:
    ended = run("train", *SMALL, "--devices", 3, "--dry-run", "--json")
    assert ended.json["seconds"]["measured_steps"] >= 1
    assert ended.json["memory"]["weights"] == 3 * 7850 * 4
    ended = run("train", "--model", "mlp", "--devices", 3, "--overfit-one-batch", "--json")
    assert (ended.code, ended.json["learned"], ended.json["images"]) == (0, True, 32)
    words = ("--devices", 3, "--repeat", 2, "-o", "r.h5", "--tensorboard", "board", "--json")
    ended = run("train", *SMALL, *words)
    assert [Path(run["checkpoint"]).name for run in ended.json["runs"]] == ["r-s0.h5", "r-s1.h5"]
    assert len(list(Path("board").rglob("events.out.tfevents.*"))) == 4  # train and test of each
    single = run("train", *SMALL, "--devices", 3, "--seed", 1, "-o", "s1.h5", "--json").json
    assert ended.json["runs"][1]["history"] == single["history"]


def test_more_devices_than_there_are_gpus_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(2)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: gpus)
    ended = run("train", *SMALL, "--devices", 3, "-o", "m.h5")
    assert (ended.code, ended.out, list(Path().iterdir())) == (7, "", [])
    assert ended.err.splitlines()[-1] == (
        "mnistcli: error: --devices: 3 devices asked for, and this machine has 2 GPUs."
        " Give --devices 2 or less, or hide them: CUDA_VISIBLE_DEVICES=-1"
    )


def test_devices_are_counted_from_one(run: Run) -> None:
    ended = run("train", "--devices", 0)
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --devices: expected a whole number from 1, received '0'."
        " For example --devices 3\n",
    )
