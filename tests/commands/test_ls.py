"""`mnistcli ls`: the table, differing config keys, sorting, and files that are not runs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from conftest import Run
from helpers.checkpoints import describe_network, make_run, write_dense
from mnistcli.checkpoints.record import TestSetScore
from mnistcli.checkpoints.run_state import EarlyStoppingState
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.models.architecture import plan_architecture

SAVED = 1_750_000_000  # 2025-06-15 15:06:40 UTC
FIXED = [
    "checkpoint", "status", "reason", "dataset", "dataset.sha256", "model", "parameters",
    "epochs", "planned_epochs", "last.loss", "last.accuracy", "last.val_loss",
    "last.val_accuracy", "best.loss", "best.accuracy", "best.val_loss", "best.val_accuracy",
    "test.loss", "test.accuracy", "seconds.total", "seconds.per_epoch", "saved",
    "trial.study", "trial.number", "trial.state", "stopped_early", "weights_epoch",
    "metrics.loss", "metrics.accuracy", "metrics.val_loss", "metrics.val_accuracy",
]  # fmt: skip


def write_run(
    name: str,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    history: Mapping[str, tuple[float, ...]] | None = None,
    test: TestSetScore | None = None,
) -> Path:
    """A run as `train` leaves it, with the values given."""
    metrics = dict(history or {"loss": (0.7, 0.4), "accuracy": (0.8, 0.9)})
    epochs = len(next(iter(metrics.values())))
    state, record = make_run(epochs)
    settings = {"epochs": max(2, epochs), **(training or {})}
    stops = "early_stopping" in settings
    if stops:
        metrics |= {"val_loss": (0.6, 0.5), "val_accuracy": (0.7, 0.8)}
    if "schedule" in settings:
        metrics["learning_rate"] = (0.1,) * epochs
    elif "learning_rate" in metrics:
        settings["schedule"] = "exponential"
    validation = 0.2 if stops else "test" if "val_loss" in metrics else 0.0
    config = Config.model_validate(
        {
            "dataset": {"validation": validation},
            "model": model or {"type": "softmax"},
            "training": settings,
        }
    )
    network = describe_network(plan_architecture(config.model, (28, 28), 10))
    state = replace(
        state,
        network=replace(state.network, model_config=json.dumps(network)),
        progress=replace(state.progress, history=metrics),
    )
    best_epoch = 2 if stops else 0
    changes = {
        "config": config,
        "test": test,
        "progress": record.progress.model_copy(update={"best_epoch": best_epoch}),
        "early_stopping": EarlyStoppingState(0.5, best_epoch=1) if stops else None,
    }
    replace_checkpoint(Path(name), state, record.model_copy(update=changes))
    os.utime(name, (SAVED, SAVED))
    return Path(name)


def score(accuracy: float, loss: float | None = 0.5, count: int = 100) -> TestSetScore:
    return TestSetScore(count=count, loss=loss, accuracy=accuracy)


@pytest.fixture
def sweep(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs of one experiment with two learning rates, one of them not finished."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for number, (rate, epochs, accuracy) in enumerate(
        ((0.1, 2, 0.81), (0.01, 2, 0.93), (0.001, 5, None)), start=9
    ):
        optimizer = {"name": "adam", "learning_rate": rate}
        test = None if accuracy is None else score(accuracy)
        write_run(f"run-{number}.h5", None, {"epochs": epochs, "optimizer": optimizer}, test=test)


def list_rows(run: Run, *words: object) -> list[dict[str, str]]:
    return list(csv.DictReader(run("ls", "--csv", *words).out.splitlines()))


def list_names(run: Run, *words: object) -> list[str]:
    return [row["checkpoint"] for row in list_rows(run, *words)]


@pytest.mark.usefixtures("sweep")
def test_people_see_a_row_a_run_with_what_differs_in_natural_order(run: Run) -> None:
    ended = run("ls")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split("   ") for line in map(str.strip, ended.out.splitlines())] == [
        line.split("   ")
        for line in (
            "checkpoint   dataset   model     learning_rate   epochs   last.accuracy"
            "   best.accuracy   test.accuracy   seconds.total   saved",
            "─" * 138,
            "run-9.h5     mnist     softmax             0.1        2          0.9000"
            "          0.9000          0.8100             1.5   2025-06-15 15:06",
            "run-10.h5    mnist     softmax            0.01        2          0.9000"
            "          0.9000          0.9300             1.5   2025-06-15 15:06",
            "run-11.h5    mnist     softmax           0.001      2/5          0.9000"
            "          0.9000               -             1.5   2025-06-15 15:06",
        )
    ]


@pytest.mark.usefixtures("sweep")
def test_the_json_holds_the_promised_keys_and_the_records_values(run: Run) -> None:
    answer = run("ls", "--json").json
    assert set(answer) == {"version", "checkpoints", "differing"}
    assert answer["differing"] == ["training.optimizer.learning_rate"]
    first, _, last = answer["checkpoints"]
    assert first.pop("config")["training"]["optimizer"]["learning_rate"] == 0.1
    assert first == {
        "checkpoint": "run-9.h5",
        "status": "run",
        "reason": "",
        "dataset": {"name": "mnist", "sha256": "0" * 64},
        "model": "softmax",
        "parameters": 7850,
        "epochs": 2,
        "planned_epochs": 2,
        "stopped_early": False,
        "weights_epoch": 2,
        "metrics": {"loss": 0.4, "accuracy": 0.9},
        "last": {"loss": 0.4, "accuracy": 0.9},
        "best": {"loss": 0.4, "accuracy": 0.9},
        "test": {"loss": 0.5, "accuracy": 0.81},
        "seconds": {"total": 1.5, "per_epoch": 0.5},
        "saved": "2025-06-15T15:06:40Z",
        "trial": None,
    }
    assert (last["test"], last["epochs"], last["planned_epochs"]) == (None, 2, 5)


def test_best_is_the_best_of_all_epochs_and_what_is_not_finite_is_none(run: Run) -> None:
    history = {
        "loss": (0.5, 0.3, 0.4),
        "accuracy": (0.7, 0.9, 0.8),
        "val_loss": (0.6, 0.2, float("nan")),
        "val_accuracy": (0.5, 0.4, 0.3),
        "learning_rate": (0.1, 0.01, 0.001),
    }
    write_run("a.h5", None, None, history, score(0.5, loss=None))
    [row] = run("ls", "--json").json["checkpoints"]
    assert row["best"] == {"loss": 0.3, "accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.5}
    assert row["last"] == {
        "loss": 0.4, "accuracy": 0.8, "val_loss": None, "val_accuracy": 0.3, "learning_rate": 0.001,
    }  # fmt: skip
    assert row["test"] == {"loss": None, "accuracy": 0.5}
    [cells] = list_rows(run)
    assert (cells["last.val_loss"], cells["best.val_loss"], cells["test.loss"]) == ("", "0.2", "")
    header, _, line = run("ls").out.splitlines()
    shown = dict(zip(header.split(), line.split(), strict=False))
    assert (shown["last.val_accuracy"], shown["best.val_accuracy"]) == ("0.3000", "0.5000")


@pytest.mark.usefixtures("sweep")
def test_csv_has_the_fixed_columns_then_what_differs_with_numbers_in_full(run: Run) -> None:
    history = {"loss": (1 / 3,), "accuracy": (2 / 3,)}
    write_run("third.h5", None, None, history, score(1 / 7, count=7))
    lines = run("ls", "--csv").out.splitlines()
    extra = ["training.optimizer.name", "training.optimizer.learning_rate"]
    assert lines[0].split(",") == [*FIXED, *extra]
    row = list_rows(run)[-1]
    assert (row["checkpoint"], row["last.loss"]) == ("third.h5", "0.3333333333333333")
    assert (row["test.accuracy"], row[extra[0]]) == ("0.14285714285714285", "sgd")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ["run-9.h5", "run-10.h5", "run-11.h5"]),
        ("--reverse", ["run-11.h5", "run-10.h5", "run-9.h5"]),
        ("--sort test.accuracy", ["run-9.h5", "run-10.h5", "run-11.h5"]),
        ("--sort test.accuracy -r", ["run-10.h5", "run-9.h5", "run-11.h5"]),
        ("--sort training.optimizer.learning_rate", ["run-11.h5", "run-10.h5", "run-9.h5"]),
        ("--sort learning_rate", ["run-11.h5", "run-10.h5", "run-9.h5"]),
        ("--sort planned_epochs --reverse", ["run-11.h5", "run-9.h5", "run-10.h5"]),
        ("--sort seed", ["run-9.h5", "run-10.h5", "run-11.h5"]),
        ("--sort batch_size run-11.h5 run-9.h5", ["run-9.h5", "run-11.h5"]),
    ],
)
@pytest.mark.usefixtures("sweep")
def test_any_column_and_any_config_key_gives_the_order(
    run: Run, words: str, expected: list[str]
) -> None:
    assert list_names(run, *words.split()) == expected


@pytest.mark.usefixtures("sweep")
def test_the_column_that_gives_the_order_is_shown(run: Run) -> None:
    assert "last.loss" not in run("ls").out
    assert "last.loss" in run("ls", "--sort", "last.loss").out.splitlines()[0]
    assert "batch_size" in run("ls", "--sort", "batch_size").out.splitlines()[0]


@pytest.mark.usefixtures("sweep")
def test_an_unknown_column_is_met_with_those_that_exist(run: Run) -> None:
    ended = run("ls", "--sort", "test.acuracy")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "mnistcli: error: --sort: unknown column 'test.acuracy'. Did you mean test.accuracy?"
        f" The columns are {', '.join(FIXED)}, training.optimizer.learning_rate\n"
    )
    ended = run("ls", "--sort", "accuracy")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --sort: 'accuracy' can be more than one column. Write one of"
        " last.accuracy, best.accuracy, test.accuracy, metrics.accuracy\n",
    )
    assert run("ls", "--json", "--csv").code == 2


MLP = {"type": "mlp", "hidden": [256, {"units": 64, "activation": "tanh", "dropout": 0.5}]}


def test_only_what_tells_runs_apart_is_shown(run: Run) -> None:
    """Keys that only one kind of model or optimizer has tell nothing that its name doesn't."""
    write_run("a.h5", MLP, {"optimizer": "adam"})
    write_run("b.h5", None, {"optimizer": {"name": "sgd", "weight_decay": 0.1}})
    write_run("c.h5", None, {"early_stopping": {"patience": 3}, "schedule": "cosine"})
    answer = run("ls", "--json").json
    assert [row["model"] for row in answer["checkpoints"]] == [
        "mlp 256-64(tanh,0.5)", "softmax", "softmax",
    ]  # fmt: skip
    assert answer["differing"] == [
        "dataset.validation",
        "training.optimizer.name",
        "training.optimizer.learning_rate",
        "training.optimizer.weight_decay",
        "training.schedule.name",
        "training.early_stopping.monitor",
    ]
    write_run("d.h5", None, {"early_stopping": {"patience": 9}})
    differing = run("ls", "c.h5", "d.h5", "--json").json["differing"]
    assert differing == ["training.schedule.name", "training.early_stopping.patience"]
    assert run("ls", "b.h5", "--json").json["differing"] == []


@pytest.fixture
def mixed(sweep: None, tmp_path: Path) -> None:
    """Beside the runs a damaged, a changed and a foreign file, and things that are no .h5."""
    data = bytearray(Path("run-9.h5").read_bytes())
    data[data.index(b'"seed": 0') + 8] ^= 1
    Path("damaged.h5").write_bytes(data)
    shutil.copy("run-9.h5", "changed.h5")
    with h5py.File("changed.h5", "r+") as file:
        file["model_weights/dense/sequential/dense/bias"][0] = 7
    write_dense(Path("theirs.HDF5"))
    Path("no.h5").write_text("no")
    for name in ("notes.txt", ".hidden.h5", "run-9.h5.tmp"):
        Path(name).write_text("no checkpoint")
    Path("folder.h5").mkdir()


@pytest.mark.usefixtures("mixed")
def test_what_is_no_run_has_a_row_of_its_own_with_the_reason(run: Run) -> None:
    ended = run("ls")
    assert (ended.code, ended.err) == (0, "")
    runs, others = ended.out.split("\n\n")
    assert [line.split()[0] for line in runs.splitlines()[2:]] == [
        "run-9.h5", "run-10.h5", "run-11.h5",
    ]  # fmt: skip
    assert others.splitlines() == [
        " changed.h5    changed since mnistcli wrote it (its checksum is gone)",
        " damaged.h5    damaged: its contents do not match its checksum",
        " no.h5         is a text file, not an HDF5 file",
        " theirs.HDF5   foreign: saved by Keras 3.15.1, without a run of mnistcli's",
    ]
    rows = {row["checkpoint"]: row for row in run("ls", "--json").json["checkpoints"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "changed.h5": "changed", "damaged.h5": "refused", "no.h5": "refused", "run-9.h5": "run",
        "run-10.h5": "run", "run-11.h5": "run", "theirs.HDF5": "foreign",
    }  # fmt: skip
    assert rows["theirs.HDF5"]["parameters"] == 15
    assert rows["damaged.h5"]["config"] is None
    assert list_names(run, "--sort", "test.accuracy", "-r")[:2] == ["run-10.h5", "run-9.h5"]


@pytest.mark.usefixtures("mixed")
def test_files_and_folders_are_listed_once_and_what_is_missing_is_exit_5(run: Run) -> None:
    Path("deep").mkdir()
    shutil.move("run-11.h5", "deep/run-11.h5")
    assert list_names(run, "deep", "run-9.h5", "deep/run-11.h5") == [
        "deep/run-11.h5", "run-9.h5",
    ]  # fmt: skip
    ended = run("ls", "run-9.h5", "gone.h5", "--json")
    assert ended.code == 5
    missing = f"no such file or folder in {Path.cwd()}"
    assert ended.err == f"mnistcli: error: gone.h5: {missing}. Correct the path\n"
    assert [
        (row["checkpoint"], row["status"], row["reason"]) for row in ended.json["checkpoints"]
    ] == [
        ("gone.h5", "refused", missing),
        ("run-9.h5", "run", ""),
    ]


def test_an_empty_folder_is_said_and_is_no_error(run: Run) -> None:
    ended = run("ls")
    assert (ended.code, ended.out, ended.err) == (0, "", "no checkpoints here\n")
    assert run("ls", "--json").json == {"version": 1, "checkpoints": [], "differing": []}
    assert run("ls", "--csv").out == ",".join(FIXED) + "\n"


@pytest.mark.usefixtures("sweep")
def test_names_do_not_talk_to_the_terminal(run: Run) -> None:
    name = 'evil\x1b[2J\n,".h5'
    shutil.copy("run-9.h5", name)
    Path("bad\x1b.h5").write_text("no")
    ended = run("ls")
    assert "\x1b" not in ended.out
    assert r' evil\x1b[2J\n,".h5' in ended.out
    assert r" bad\x1b.h5   is a text file, not an HDF5 file" in ended.out
    rows = list(csv.DictReader(run("ls", "--csv").out.splitlines(keepends=True)))
    assert name in [row["checkpoint"] for row in rows]


@pytest.mark.usefixtures("sweep")
def test_nothing_heavy_is_imported(environment: dict[str, str]) -> None:
    program = (
        "import sys; from mnistcli.cli import app; code = app.run(['ls']);"
        "loaded = {'keras', 'tensorflow', 'h5py', 'rich.table', 'PIL'} & set(sys.modules);"
        "sys.exit(f'{loaded} were imported' if loaded else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
