"""Two processes on loopback train one run: equal weights, and only the chief prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Run
from helpers.workers import SMALL, Start, read_hash, start_pair  # noqa: F401
from mnistcli.checkpoints.reader import read_checkpoint


def test_two_workers_have_the_losses_of_one_and_equal_weights(run: Run, start: Start) -> None:
    words = (*SMALL, "--epochs", 3, "--json", "-o", "m.h5")
    pair = start(*words)
    one = run("train", *words).json
    first, second = pair.wait()
    assert (first.code, second.code, second.out) == (0, 0, ""), first.err + second.err

    answer = json.loads(first.out)
    assert len(one["history"]) == 4  # of training and of validation, each loss and accuracy
    for name, values in one["history"].items():
        assert answer["history"][name] == pytest.approx(values, rel=1e-5), name
    assert answer["test"] == pytest.approx(one["test"], rel=1e-4)

    assert read_hash(0) == read_hash(1)
    assert sorted(path.name for path in Path("w0").iterdir()) == ["m.best.h5", "m.h5", "run.log"]
    assert [path.name for path in Path("w1").iterdir()] == ["run.log"]
    record = read_checkpoint(Path("w0/m.h5")).record
    assert record is not None
    assert (record.environment.devices, record.environment.workers) == (1, 2)
    assert "trained on     2 workers" in run("summary", "w0/m.h5").out
    assert run("reproduce", "w0/m.h5").err.splitlines()[-1] == (
        "mnistcli: error: w0/m.h5: its bits cannot be compared here: workers 2 -> 1."
        " Reproduce it with the versions, processor and settings that it was made with"
    )
