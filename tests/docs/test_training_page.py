"""docs/training.md: it has every training setting, and every key in it exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnistcli.commands.train.overfit import MAX_IMAGES, MAX_STEPS
from mnistcli.config.loading import load_config
from mnistcli.config.overrides import Override, parse_assignment
from mnistcli.config.schema import (
    Clip,
    Cosine,
    EarlyStopping,
    MlpModel,
    ReduceOnPlateau,
    TrainingConfig,
)

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`[^|]+) \| ([^|]+) \| (.+) \|$", TEXT, re.MULTILINE)
KEYS = [key for keys, _, _ in ROWS for key in re.findall(r"`([^`]+)`", keys)]
BASIC = {"epochs", "batch_size", "loss", "shuffle", "seed", "checkpoint_every"}  # README's
VALUES: dict[str, Any] = {
    "momentum": 0.9, "nesterov": False, "weight_decay": 0.1, "warmup_epochs": 1,
    "reduce_on_plateau": {"monitor": "loss"}, "early_stopping": {"patience": 3},
    "label_smoothing": 0.1,
    "class_weight": "balanced", "l1": 0.1, "l2": 0.1, "dropout": 0.1, "validation": 0.1,
    "optimizer": "adam", "piecewise": {"boundaries": [1], "factors": [0.1]},
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_every_key_shown_is_one_that_can_be_set(key: str) -> None:
    path, _, shown = key.partition(": ")
    name = path.rsplit(".", 1)[-1]
    value = yaml.safe_load(shown) if shown else VALUES[name]
    if isinstance(value, dict):
        value |= VALUES.get(value.get("name", ""), {})
    settings = [Override(path, value, "test")]
    if name != "validation":
        settings.append(Override("dataset.validation", 0.1, "test"))
    if name == "warmup_epochs":
        settings.append(Override("training.schedule.name", "cosine", "test"))
    load_config("mnist-mlp" if path.startswith("model.") else None, settings)


def test_every_setting_is_shown() -> None:
    shown = " ".join(KEYS) + " ".join(meaning for _, _, meaning in ROWS)
    names = {*TrainingConfig.model_fields} - BASIC
    for model in (Clip, Cosine, EarlyStopping, ReduceOnPlateau):
        names |= {*model.model_fields} - {"name"}
    names |= {"l1", "l2", "dropout"} & {*MlpModel.model_fields}
    assert [name for name in names if not re.search(rf"\b{name}\b", shown)] == []


def test_the_limits_of_overfitting_are_those_of_the_code() -> None:
    assert f"first {MAX_IMAGES} images" in TEXT
    assert f"{MAX_STEPS:,} steps" in TEXT


def test_assignments_of_the_text_can_be_read() -> None:
    for assignment in re.findall(r"--set (\S+?)`?(?:\s|$)", TEXT):
        assert parse_assignment(assignment.strip("`")).key
