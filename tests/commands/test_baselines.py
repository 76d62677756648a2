"""`compare --baseline`: scikit-learn's classifiers next to networks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Run, Train, make_digits
from mnistcli.commands.compare import MAX_ITERATIONS, run_baseline
from mnistcli.config.allowed_values import BASELINES, BaselineName
from mnistcli.datasets import digits
from mnistcli.datasets.base import Dataset, Split

pytest.importorskip("sklearn")

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

ORACLES = {
    "logistic-regression": LogisticRegression(),
    "random-forest": RandomForestClassifier(random_state=0),
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits.read_dataset(frozenset({"train", "test"}))


@pytest.mark.parametrize("name", BASELINES)
def test_they_are_scikit_learns_own_on_numbers_from_0_to_1(
    name: BaselineName, dataset: Dataset
) -> None:
    train, test = (split.images.reshape(-1, 64) / 16 for split in (dataset.train, dataset.test))
    oracle = ORACLES[name].fit(train.astype(np.float32), dataset.train.labels)
    fitted = run_baseline(name, dataset.train, dataset.test, dataset.info, 2)
    assert np.array_equal(fitted.classes, oracle.predict(test.astype(np.float32)))
    chances = oracle.predict_proba(test.astype(np.float32)).astype(np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    assert fitted.loss == pytest.approx(log_loss(dataset.test.labels, chances), rel=1e-6)
    assert fitted.has_converged
    assert fitted.fit_s > 0
    again = run_baseline(name, dataset.train, dataset.test, dataset.info, 1)
    assert (again.loss, again.classes.tolist()) == (fitted.loss, fitted.classes.tolist())


def test_one_that_was_stopped_says_so_and_a_class_without_images_is_unlikely(
    dataset: Dataset,
) -> None:
    generator = np.random.default_rng(0)
    noise = Split(generator.integers(0, 17, (600, 8, 8), np.uint8), dataset.train.labels[:600] % 9)
    fitted = run_baseline("logistic-regression", noise, dataset.test, dataset.info, 1)
    assert not fitted.has_converged
    assert 9 not in fitted.classes
    assert 1 < fitted.loss < 10


def test_they_are_rows_and_pairs_as_checkpoints_are(run: Run, train_once: Train) -> None:
    model = train_once("--batch-size", 100, "--epochs", 1)
    words = ("compare", model, "--baseline", "random-forest", "--baseline", "logistic-regression")
    ended = run(*words, "--json")
    assert ended.code == 0
    answer = ended.json
    network, forest, linear = answer["results"]
    assert [row["kind"] for row in answer["results"]] == ["checkpoint", "baseline", "baseline"]
    assert (forest["checkpoint"], linear["checkpoint"]) == ("random-forest", "logistic-regression")
    assert forest["trained_on"] == network["trained_on"] == linear["trained_on"]
    assert (forest["epochs"], forest["count"], answer["differences"]) == (None, 200, [])
    assert min(row["fit_seconds"] for row in answer["results"]) > 0
    rows = run("predict", model, "--split", "test", "--json").json["predictions"]
    right = np.array([row["class"] == row["truth"] for row in rows])
    train, test = make_digits(1050, seed=1), make_digits(200, seed=2)
    inputs = [split.images.reshape(-1, 784).astype(np.float32) / 255 for split in (train, test)]
    oracle = RandomForestClassifier(random_state=0).fit(inputs[0], train.labels)
    forest_right = oracle.predict(inputs[1]) == test.labels
    assert forest["correct"] == forest_right.sum()
    pair = answer["pairs"][0]
    assert pair["only_second"] == (forest_right & ~right).sum()
    assert pair["only_first"] == (right & ~forest_right).sum()
    assert len(answer["pairs"]) == 3
    assert answer["unpaired"] == []

    assert answer["results"][2]["loss"] < 1
    shown = run("compare", model, "--baseline", "random-forest")
    assert shown.err.endswith("fitting random-forest on 1,050 images of MNIST\n")
    cells = [line.split() for line in shown.out.splitlines()]
    assert cells[1][-3:] == ["time", "loss", "function"]
    assert cells[4][:5] == ["B", "random-forest", "mnist", "test", "-"]
    assert "s" in cells[4]
    assert "the configs are the same" not in shown.out


def test_what_cannot_be_compared_fairly_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compare", "a.h5", "--baseline", "random-forest")
    ended = run(*words, "--split", "validation")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --baseline: baselines are fitted to the whole training set, the"
        " validation images included. Use --split test\n",
    )
    ended = run("compare", "a.h5", "--baseline", "random-frest")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --baseline: unknown name 'random-frest'. Did you mean random-forest?\n",
    )
    monkeypatch.setitem(sys.modules, "sklearn", None)
    ended = run(*words)
    assert (ended.code, ended.err) == (
        7,
        "mnistcli: error: scikit-learn: not installed."
        ' Install it: python -m pip install "mnistcli[sklearn]"\n',
    )


def test_the_limit_in_the_readme_is_the_one_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"after {MAX_ITERATIONS} iterations" in " ".join(text.split())
