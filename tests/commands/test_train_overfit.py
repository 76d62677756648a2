"""`train --overfit-one-batch`: whether a network can memorise one batch."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from conftest import Run, Train
from mnistcli.commands.train.overfit import get_first_batch, plan_overfitting, suggest_remedy
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split

OVERFIT = ("train", "--overfit-one-batch")
SMALL_STEPS = ("--learning-rate", 1e-6, "--batch-size", 4)  # too small to learn


def test_a_network_that_can_learn_gets_every_image_right(run: Run) -> None:
    ended = run(*OVERFIT, "mnist-mlp")
    assert ended.code == 0
    assert re.fullmatch(
        r"learned 32 images by heart in \d+ steps: loss \d\.\d{4} -> 0\.\d{4},"
        r" accuracy 0\.\d{4} -> 1\.0000 \(.+\)\n",
        ended.out,
    )
    assert ended.err.endswith("learning 32 images by heart, in 2,000 steps at most\n")
    assert list(Path().iterdir()) == []


def test_its_json(run: Run) -> None:
    answer = run(*OVERFIT, "mnist-mlp", "--batch-size", 8, "--json").json
    assert set(answer) == {
        "version", "learned", "images", "steps", "loss", "accuracy", "seconds",
    }  # fmt: skip
    assert (answer["learned"], answer["images"]) == (True, 8)
    assert 1 < answer["steps"] < 100
    assert answer["loss"]["last"] <= 0.1 * answer["loss"]["first"]
    assert answer["accuracy"]["first"] < answer["accuracy"]["last"] == 1


@pytest.mark.parametrize("form", ["--json", "-q", None])
def test_one_that_does_not_is_exit_3_with_the_figures_and_what_to_try(
    run: Run, form: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.commands.train.overfit.MAX_STEPS", 20)
    ended = run(*OVERFIT, *SMALL_STEPS, *([form] if form else []))
    assert ended.code == 3
    what = "4 images are not known by heart after 20 steps"
    hint = (
        "the loss hardly moves: try a larger learning rate (--learning-rate), other activations"
        " or initializers"
    )
    assert ended.err.endswith(
        f"mnistcli: error: --overfit-one-batch: {what}. {hint[0].upper()}{hint[1:]}\n"
    )
    if form == "--json":
        assert (ended.json["learned"], ended.json["steps"]) == (False, 20)
        error = {"code": 3, "kind": "gate", "where": "--overfit-one-batch"}
        assert ended.json["error"] == error | {"message": what, "hint": hint}
    elif form == "-q":
        assert ended.out == "not learned\n"
    else:
        assert ended.out.startswith("did not learn 4 images by heart in 20 steps: loss ")


def test_everything_that_holds_training_back_is_off(run: Run) -> None:
    settings = {
        "model.dropout": 0.9, "model.l2": 10, "training.label_smoothing": 0.9,
        "training.schedule": "{name: exponential, decay_rate: 1e-9}",
        "training.class_weight": "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]", "dataset.validation": 0.2,
        "training.loss": "categorical_crossentropy", "training.optimizer.name": "adamw",
        "training.optimizer.weight_decay": 1, "training.early_stopping": "{patience: 0}",
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    held_back = run(*OVERFIT, "mnist-mlp", *words, "--json").json
    free = run(
        *OVERFIT, "mnist-mlp", "--validation", 0.2, "--optimizer", "adam", "--json",
        "--set", "training.loss=categorical_crossentropy",
    ).json  # fmt: skip
    assert held_back["loss"] == pytest.approx(free["loss"], rel=1e-3)
    assert held_back["steps"] == free["steps"]


def test_other_first_weights_are_tried_too(run: Run, train_once: Train) -> None:
    model = train_once("--model", "mlp", "--hidden", 16, "--epochs", 30, "--batch-size", 20)
    words = (*OVERFIT, "--model", "mlp", "--hidden", 16, "--json")
    cold, warm = run(*words).json, run(*words, "--init-from", model).json
    assert warm["loss"]["first"] < cold["loss"]["first"]


@pytest.mark.parametrize(
    "words",
    [("-o", "m.h5"), ("--overwrite",), ("--resume", "m.h5"), ("--more", 1), ("--dry-run",),
     ("--force",), ("--tensorboard", "logs")],
)  # fmt: skip
def test_what_means_a_run_that_is_kept_is_refused(run: Run, words: tuple[object, ...]) -> None:
    ended = run(*OVERFIT, *words)
    flag = {"-o": "--output"}.get(str(words[0]), str(words[0]))
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        f"mnistcli: error: {flag}: --overfit-one-batch only tries, and keeps nothing."
        " Leave one of them out\n",
    )


def test_numbers_that_are_not_finite_name_their_step(run: Run) -> None:
    words = ("--model", "mlp", "--activation", "exponential", "--learning-rate", "1e6",
             "--set", "training.loss=mean_squared_error")  # fmt: skip
    ended = run(*OVERFIT, *words)
    assert ended.code == 6
    assert re.search(r"mnistcli: error: step \d+: .* no longer finite", ended.err)


def test_the_batch_is_the_first_of_the_runs_order() -> None:
    split = Split(np.arange(100, dtype=np.uint8)[:, None], np.arange(100, dtype=np.uint8))
    order = np.arange(100)[::-1]
    assert get_first_batch(split, order, 3).labels.tolist() == [99, 98, 97]
    assert len(get_first_batch(split, order, 1024)) == 32


def test_what_decides_how_it_learns_stays() -> None:
    config = Config.model_validate(
        {
            "model": {
                "type": "mlp",
                "activation": "tanh",
                "hidden": [{"units": 5, "dropout": 0.5}],
            },
            "training": {"optimizer": {"name": "sgd", "momentum": 0.9}, "clip": {"norm": 1.0}},
        }
    )
    plan = plan_overfitting(config, 32)
    assert plan.training.optimizer == config.training.optimizer
    assert plan.training.clip == config.training.clip
    assert plan.model.model_dump()["hidden"][0] == {
        "units": 5, "activation": None, "dropout": None, "name": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "hint"),
    [
        ((1.0, 2.0, 3.0), "the loss rises: lower"),
        ((1.0, 0.97, 0.95), "the loss hardly moves"),
        ((1.0, 0.8, 0.6), "the loss still falls: try a larger learning rate"),
        ((1.0, 0.5, 0.5), "the loss falls no more"),
    ],
)
def test_the_course_of_the_loss_says_what_to_try(losses: tuple[float, ...], hint: str) -> None:
    assert suggest_remedy(losses).startswith(hint)
