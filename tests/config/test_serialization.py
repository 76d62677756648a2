"""Configs to YAML and JSON and back; forged records are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnistcli.config.loading import load_config
from mnistcli.config.schema import Config
from mnistcli.config.serialization import config_from_json, config_to_json, dump_config
from mnistcli.errors import ConfigError


def test_the_defaults_are_dumped_in_full() -> None:
    assert (
        dump_config(Config())
        == """\
dataset:
  name: mnist
  normalization: unit
  validation: 0.0
model:
  output_activation: softmax
  flatten: false
  kernel_initializer:
    name: glorot_uniform
  bias_initializer:
    name: zeros
  l1: 0.0
  l2: 0.0
  type: softmax
training:
  epochs: 100
  batch_size: 1024
  optimizer:
    name: sgd
    learning_rate: 0.01
    momentum: 0.0
    nesterov: false
    weight_decay: null
  loss: categorical_crossentropy
  shuffle: true
  seed: 0
  precision: float32
  checkpoint_every: 1
  schedule: null
  reduce_on_plateau: null
  early_stopping: null
  clip: null
  label_smoothing: 0.0
  class_weight: null
"""
    )


def test_every_recipe_survives_yaml_and_json(tmp_path: Path) -> None:
    for name in ("mnist-softmax", "cifar10-mlp", "mnist-gradient-tape", "xor"):
        config = load_config(name).config
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump_config(config))
        assert load_config(str(path)).config == config
        assert config_from_json(config_to_json(config), "run.h5") == config


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '{"training": {"epochs": NaN}}',
            "run.h5: its config is not valid JSON: NaN is not a JSON number."
            " The file was not written by this tool, or changed since",
        ),
        (
            '{"training": {}, "training": {}}',
            "run.h5: its config is not valid JSON: key training given twice."
            " The file was not written by this tool, or changed since",
        ),
        (
            "[1]",
            "run.h5: its config is a list of 1, not an object."
            " The file was not written by this tool, or changed since",
        ),
        (
            '{"training": {"epochs": "3"}}',
            "run.h5: training.epochs: expected a whole number from 1 to 1000000, received '3'."
            " Write 3 without quotes",
        ),
        (
            '{"training": {"loss": "binary_crossentropy"}}',
            "run.h5: training.loss: binary_crossentropy does not match softmax outputs."
            " Set training.loss: categorical_crossentropy, or model.output_activation: sigmoid",
        ),
        (
            " " * (2**20 + 1),
            "run.h5: a config of 1048577 characters."
            " The file was not written by this tool, or changed since",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_a_record_that_is_not_ours_is_refused(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_json(text, "run.h5")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"training": {"epochs": ' + "9" * 100_000 + "}}", "", "\ud800"]
)
def test_hostile_records_are_refused_like_others(text: str) -> None:
    with pytest.raises(ConfigError):
        config_from_json(text, "run.h5")
