"""`mnistcli doctor`: what is installed, what is missing and how to fix it, without TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import Run, Train
from helpers.checkpoints import write_dense
from mnistcli.config.schema import CLASS_COUNTS
from mnistcli.errors import ExitCode


def test_everything_that_is_needed_is_there(run: Run, tmp_path: Path) -> None:
    ended = run("doctor")
    assert (ended.code, ended.err) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in ended.out.splitlines()}
    assert list(rows) == [
        "mnistcli", "python", "keras", "tensorflow", "numpy", "h5py", "processor", "threads",
        *(["memory"] if "memory" in rows else []), *CLASS_COUNTS,
        "checkpoints", "downloads", "cache",
    ]  # fmt: skip
    assert rows["mnist"].startswith("unknown contents, sha256 ")
    assert rows["cifar10"] == "not found"
    assert rows["checkpoints"] == f"{tmp_path}, writable"
    assert ", writable" in rows["cache"]
    assert sorted(tmp_path.iterdir()) == []


def test_the_json_of_the_state_of_things(run: Run, digits_directory: Path) -> None:
    answer = run("doctor", "--json").json
    assert set(answer) == {
        "version", "versions", "processor", "processor_features", "processors", "threads",
        "available_memory", "datasets", "directories", "checkpoint", "problems",
    }  # fmt: skip
    assert answer["versions"]["python"] == sys.version.split()[0]
    mnist = answer["datasets"][0]
    assert (mnist["name"], mnist["location"]) == ("mnist", str(digits_directory / "mnist.npz"))
    assert len(mnist["sha256"]) == 64
    assert [d["purpose"] for d in answer["directories"]] == ["checkpoints", "downloads", "cache"]
    assert (answer["checkpoint"], answer["problems"]) == (None, [])


def test_tensorflow_is_not_imported(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import sys; from mnistcli.cli import app; code = app.run(['doctor']);"
        "loaded = {'keras', 'tensorflow'} & set(sys.modules);"
        "sys.exit(f'{loaded} were imported' if loaded else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_data_that_can_neither_be_found_nor_downloaded_are_exit_4(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    ended = run("doctor")
    assert ended.code == ExitCode.DATA
    assert "\nmnist          not found\n" in ended.out
    assert ended.err.startswith("mnistcli: error: MNIST: not found in ")
    assert "unset MNISTCLI_OFFLINE to download it" in ended.err
    [problem] = run("doctor", "--json").json["problems"]
    assert (problem["code"], problem["where"]) == (4, "MNIST")

    monkeypatch.delenv("MNISTCLI_OFFLINE")
    ended = run("doctor")
    assert (ended.code, ended.err) == (0, "")
    assert "\nmnist          not found: downloaded when it is needed\n" in ended.out


def test_damaged_data_are_named(run: Run) -> None:
    Path("data").mkdir()
    Path("data/mnist.npz").write_bytes(b"PK\3\4 and then nothing")
    ended = run("doctor", "--data-dir", "data")
    assert ended.code == ExitCode.DATA
    assert "\nmnist          damaged: data/mnist.npz\n" in ended.out
    assert ended.err.startswith("mnistcli: error: data/mnist.npz: is damaged or incomplete")


def test_a_working_directory_that_takes_no_files_is_exit_7(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("nothing is closed to this user")
    monkeypatch.chdir(closed)
    ended = run("doctor")
    assert (ended.code, ended.err) == (
        7,
        f"mnistcli: error: {closed}: this folder is not writable."
        " Go to another folder, or choose a place with -o\n",
    )


def test_a_library_that_is_missing_comes_with_the_command_that_installs_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.commands.doctor._LIBRARIES", ("keras", "no-such-library"))
    ended = run("doctor")
    assert (ended.code, ended.err) == (
        7,
        "mnistcli: error: no-such-library: not installed."
        " Install it: python -m pip install no-such-library\n",
    )


def test_a_checkpoint_is_described(run: Run, train_once: Train) -> None:
    model = train_once("--batch-size", 100, "--epochs", 2)
    ended = run("doctor", model)
    assert (ended.code, ended.err) == (0, "")
    seal, network, history = ended.out.splitlines()[-3:]
    assert seal == "model.h5: as mnistcli wrote it (its checksum holds)"
    assert network == "1 layer, 7,850 parameters, all finite"
    assert history.startswith("mnist, epochs: 2 of 2, seed 0, test accuracy 0.")
    answer = run("doctor", model, "--json").json["checkpoint"]
    assert (answer["seal"], answer["layers"], answer["parameters"]) == ("intact", 1, 7850)
    assert (answer["training"]["epochs"], answer["differences"]) == (2, [])

    with h5py.File(model, "r+") as file:
        file.attrs["note"] = "mine"
    changed = run("doctor", model)
    assert changed.code == 0
    assert "model.h5: changed since mnistcli wrote it (its checksum is gone)\n" in changed.out


def test_other_peoples_and_damaged_checkpoints_are_told_apart(run: Run, tmp_path: Path) -> None:
    theirs = write_dense(tmp_path / "theirs.h5")
    assert run("doctor", theirs, "--json").json["checkpoint"]["seal"] == "none"
    Path("bad.h5").write_bytes(np.arange(99).tobytes())
    ended = run("doctor", "bad.h5")
    assert ended.code == ExitCode.CHECKPOINT
    assert ended.err.startswith("mnistcli: error: bad.h5: ")
