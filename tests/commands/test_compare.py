"""`mnistcli compare`: config differences, confidence intervals and significance tests."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Ended, Run, Train
from helpers.checkpoints import write_dense

ADAM = (
    "--batch-size", 100, "--optimizer", "adam", "--learning-rate", 0.001, "--validation", 0.2,
)  # fmt: skip
NOT_CANONICAL = "is not canonical MNIST"


@pytest.fixture
def models(train_once: Train) -> tuple[Path, Path, Path]:
    """Two runs that differ in their seed, and a worse one."""
    return (
        train_once(*ADAM, "--epochs", 2, name="a.h5"),
        train_once(*ADAM, "--epochs", 2, "--seed", 1, name="b.h5"),
        train_once("--batch-size", 100, "--epochs", 1, name="c.h5"),
    )


def drop_warnings(ended: Ended) -> str:
    return "".join(x for x in ended.err.splitlines(True) if NOT_CANONICAL not in x)


def find_right(run: Run, model: Path) -> Any:
    """Image by image, as another command says it."""
    rows = run("predict", model, "--split", "test", "--json").json["predictions"]
    return np.array([row["class"] == row["truth"] for row in rows])


def test_pairs_are_compared_image_by_image(run: Run, models: tuple[Path, ...]) -> None:
    ended = run("compare", *models, "--json")
    assert (ended.code, drop_warnings(ended)) == (0, "")
    answer = ended.json
    assert set(answer) == {
        "version", "split", "confidence", "results", "differences", "pairs", "unpaired",
    }  # fmt: skip
    assert (answer["version"], answer["split"], answer["confidence"]) == (1, "test", 0.95)
    right = [find_right(run, model) for model in models]
    for model, vector, result in zip(models, right, answer["results"], strict=True):
        assert set(result) == {
            "kind", "checkpoint", "dataset", "trained_on", "epochs", "count", "correct", "accuracy",
            "interval", "loss", "loss_name", "loss_reason", "fit_seconds",
        }  # fmt: skip
        [evaluated] = run("evaluate", model, "--json").json["results"]
        assert {key: result[key] for key in ("checkpoint", "count", "accuracy", "loss")} == {
            key: evaluated[key] for key in ("checkpoint", "count", "accuracy", "loss")
        }
        assert (result["correct"], result["dataset"]) == (vector.sum(), "mnist")
        assert result["interval"]["low"] < result["accuracy"] < result["interval"]["high"]
    assert [(pair["first"], pair["second"]) for pair in answer["pairs"]] == [(0, 1), (0, 2), (1, 2)]
    for pair in answer["pairs"]:
        one, other = right[pair["first"]], right[pair["second"]]
        assert pair["only_first"] == (one & ~other).sum()
        assert pair["only_second"] == (other & ~one).sum()
        assert pair["difference"] == pytest.approx(other.mean() - one.mean())
        assert pair["distinguishable"] == (pair["adjusted_p_value"] < 0.05)
        assert pair["adjusted_p_value"] >= pair["p_value"]
    assert [pair["distinguishable"] for pair in answer["pairs"]] == [False, True, True]
    assert [row["key"] for row in answer["differences"]] == [
        "dataset.validation", "training.epochs", "training.optimizer.name",
        "training.optimizer.learning_rate", "training.seed",
    ]  # fmt: skip
    assert answer["differences"][2]["values"] == ["adam", "adam", "sgd"]


def test_people_are_told_whether_it_is_chance(run: Run, models: tuple[Path, ...]) -> None:
    ended = run("compare", *models[:2])
    assert (ended.code, drop_warnings(ended)) == (0, "")
    lines = [line.strip() for line in ended.out.splitlines() if line.strip()]
    assert lines[0].split() == [
        "checkpoint", "data", "epochs", "images", "accuracy", "95", "%", "interval", "loss",
        "loss", "function",
    ]  # fmt: skip
    assert lines[2].split()[:6] == ["A", "a.h5", "mnist", "test", "2", "200"]
    assert lines[-2].split() == ["training.seed", "0", "1"]
    assert lines[-1].startswith("B - A = ")
    assert " points, p = 0." in lines[-1]
    assert ": not distinguishable (" in lines[-1]
    assert run("compare", *models[:2], "-q").out.splitlines() == [lines[-1]]
    worse = run("compare", *models, "-q").out.splitlines()[1]
    assert worse.startswith("C - A = -")
    assert ", p < 0.001 allowing for 3 pairs: A is better (" in worse


def test_csv_has_a_line_for_each_pair(run: Run, models: tuple[Path, ...]) -> None:
    answer = run("compare", *models, "--json").json
    rows = list(csv.DictReader(io.StringIO(run("compare", *models, "--csv").out)))
    assert [(row["first"], row["second"]) for row in rows] == [
        ("a.h5", "b.h5"), ("a.h5", "c.h5"), ("b.h5", "c.h5"),
    ]  # fmt: skip
    for row, pair in zip(rows, answer["pairs"], strict=True):
        assert float(row["p_value"]) == pair["p_value"]
        assert int(row["only_first"]) == pair["only_first"]
        assert row["distinguishable"] == str(pair["distinguishable"]).lower()
        assert float(row["second_low"]) == answer["results"][pair["second"]]["interval"]["low"]


def test_other_images_are_said_and_not_paired(
    run: Run, train_once: Train, models: tuple[Path, ...]
) -> None:
    first, second, _ = models
    ended = run("compare", first, second, "--split", "validation", "--json")
    assert (ended.code, ended.json["pairs"]) == (0, [])
    assert ended.json["unpaired"] == [
        {"first": 0, "second": 1, "reason": "other images of mnist validation"}
    ]
    xor = train_once("xor", "--epochs", 1, name="xor.h5")
    lines = run("compare", first, xor).out.splitlines()
    assert lines[-1] == "B and A: not compared, different data (mnist and xor)"
    [row] = csv.DictReader(io.StringIO(run("compare", first, xor, "--csv").out))
    assert (row["first"], row["second"], row["p_value"]) == ("a.h5", "xor.h5", "")


def test_other_peoples_files_are_compared_on_the_data_that_is_named(
    run: Run, models: tuple[Path, ...], tmp_path: Path
) -> None:
    theirs = write_dense(tmp_path / "theirs.h5", 784, 10)
    ended = run("compare", "a.h5", theirs, "--dataset", "mnist", "--normalization", "unit")
    assert ended.code == 0
    assert "B: no config in the file" in ended.out
    assert ended.out.splitlines()[-1].startswith("B - A = -")
    unnamed = run("compare", "a.h5", theirs)
    assert (unnamed.code, unnamed.out) == (2, "")
    assert "the file does not say which data it is for" in unnamed.err


def test_one_form_at_a_time(run: Run) -> None:
    ended = run("compare", "a.h5", "b.h5", "--json", "--csv")
    assert ended.code == 2
    assert "--json, --csv: they exclude each other. Give one of them" in ended.err
