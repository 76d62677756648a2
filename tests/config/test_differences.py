"""The config keys in which two configs differ."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mnistcli.config.loading import load_config
from mnistcli.config.overrides import Override
from mnistcli.config.serialization import diff_configs

Settings = Mapping[str, object]


def differ(first: Settings, second: Settings) -> dict[str, tuple[object, ...]]:
    configs = [
        load_config("mnist-mlp", [Override(key, value, "--set") for key, value in one.items()])
        for one in (first, second)
    ]
    found = diff_configs([loaded.config for loaded in configs])
    return {difference.key: difference.values for difference in found}


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({}, {}, {}),
        (
            {"training.seed": 1, "model.dropout": 0.2},
            {"training.seed": 2},
            {"model.dropout": (0.2, 0.0), "training.seed": (1, 2)},
        ),
        (  # each optimizer's own keys are told where somebody chose them
            {},
            {"training.optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}},
            {
                "training.optimizer.name": ("adam", "sgd"),
                "training.optimizer.learning_rate": (0.001, 0.1),
                "training.optimizer.momentum": (None, 0.9),
            },
        ),
        (
            {"model.hidden": [128]},
            {"model.hidden": [128, {"units": 64, "name": "Last"}]},
            {"model.hidden": ([128], [128, {"units": 64, "name": "Last"}])},
        ),
        (
            {"training.clip": {"norm": 1.0}},
            {},
            {"training.clip": ({"norm": 1.0, "value": None, "global_norm": None}, None)},
        ),
    ],
)
def test_configs_differ_in(first: Settings, second: Settings, found: dict[str, object]) -> None:
    assert differ(first, second) == found


def test_an_mlp_beside_a_softmax_tells_its_size() -> None:
    configs = [load_config(name).config for name in ("mnist-softmax-adam", "mnist-mlp")]
    found = {one.key: one.values for one in diff_configs(configs)}
    assert found == {
        "dataset.validation": ("test", 0.0),
        "model.type": ("softmax", "mlp"),
        "model.hidden": (None, [128]),
        "training.epochs": (15, 5),
        "training.batch_size": (100, 32),
    }
