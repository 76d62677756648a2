"""Sweep files: all errors are reported at once, before any trial runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mnistcli.commands.sweep.definition import Sweep, SweepFile
from mnistcli.commands.sweep.sweep_yaml import load_sweep
from mnistcli.config.schema import HiddenLayer, MlpModel
from mnistcli.errors import ConfigError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str) -> Sweep:
    Path("s.yaml").write_text(text)
    return load_sweep("s.yaml")


def load_errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


GOOD = """
config: mnist-mlp
set: {dataset.validation: 0.1, training.epochs: 5}
search:
  training.optimizer.learning_rate: {low: 1e-4, high: 1e-1, log: true}
  model.hidden: [[64], [128], [256, 128]]
  model.dropout: {low: 0, high: 0.55, step: 0.1}
  training.batch_size: {choice: [32, 64]}
  training.seed: {low: 1, high: 7, step: 3}
trials: 40
"""


def test_a_search_space_becomes_configs() -> None:
    sweep = load(GOOD)
    assert (sweep.sampler, sweep.pruner, sweep.objective) == ("tpe", "median", "val_accuracy")
    rate, hidden, dropout, batch, seed = sweep.search
    assert rate.list_points() is None
    assert hidden.list_points() == ("[64]", "[128]", "[256, 128]")
    assert dropout.list_points() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert batch.list_points() == (32, 64)
    assert seed.list_points() == (1, 4, 7)
    values = sweep.decode_params(
        {
            "training.optimizer.learning_rate": 0.003,
            "model.hidden": "[256, 128]",
            "model.dropout": 0.30000000000000004,
            "training.batch_size": 64,
            "training.seed": 4,
        }
    )
    config = sweep.make_config(values)
    assert isinstance(config.model, MlpModel)
    assert config.model.hidden == (HiddenLayer(units=256), HiddenLayer(units=128))
    assert (config.model.dropout, config.dataset.validation) == (0.3, 0.1)
    assert (config.training.epochs, config.training.seed) == (5, 4)
    assert config.training.optimizer.learning_rate == 0.003
    assert Sweep.model_validate_json(sweep.model_dump_json()) == sweep


def test_a_config_stands_in_the_file_or_beside_it() -> None:
    Path("sweeps").mkdir()
    Path("sweeps/base.yaml").write_text("training: {epochs: 3}\ndataset: {validation: 0.2}\n")
    rest = "search: {training.batch_size: [32, 64]}\nsampler: grid\n"
    Path("sweeps/s.yaml").write_text(f"config: base.yaml\n{rest}")
    beside = load_sweep("sweeps/s.yaml")
    inside = load(f"config: {{training: {{epochs: 3}}, dataset: {{validation: 0.2}}}}\n{rest}")
    assert beside == inside
    assert beside.trials == 2
    assert [point["training.batch_size"] for point in beside.list_points()] == [32, 64]


def test_what_is_set_keeps_its_value_where_the_search_changes_the_optimizer() -> None:
    sweep = load(
        "config: mnist-mlp\nset: {dataset.validation: 0.1, training.optimizer.learning_rate: 0.5}\n"
        "search: {training.optimizer: [sgd, nadam]}\nsampler: grid\n"
    )
    optimizers = [
        sweep.make_config({"training.optimizer": name}).training.optimizer
        for name in ("sgd", "nadam")
    ]
    assert [o.name for o in optimizers] == ["sgd", "nadam"]
    assert [o.learning_rate for o in optimizers] == [0.5, 0.5]


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    assert load_errors("""
config: mnist-mlp
set: {dataset.validaton: 0.1}
search:
  training.optimizer.learning_rat: {low: 1e-4, high: 1e-1, log: true}
  model.hidden: [[64], [0]]
  model.dropout: {low: 0.0, high: 1, stp: 0.1}
  model.activation: {low: 0.0, high: 1}
  training.batch_size: {choice: [32, 64, 64]}
  training.epochs: [1.5]
  training.optimizer.name: [sgd, adma]
  training.optimizer.momentum: {low: 0, high: 1}
  training.seed: {low: 0, high: 1.5}
  model.l2: {low: 1, high: 0.1}
  model.l1: {low: 0, high: 1, log: true}
  training.label_smoothing: 0.1
sampler: tpr
seeds: 3
""") == [
        "s.yaml:3:7: dataset.validaton: unknown key. Did you mean dataset.validation?",
        "s.yaml:5:3: training.optimizer.learning_rat: unknown key."
        " Did you mean training.optimizer.learning_rate?",
        "s.yaml:6:24: model.hidden.0.units: expected a whole number from 1 to 65536, received 0",
        "s.yaml:7:35: model.dropout: expected a number from 0 to below 1, received 1.0",
        "s.yaml:7:38: model.dropout.stp: unknown key. Did you mean step?",
        "s.yaml:8:3: model.activation: it takes no numbers. Give a list of choices",
        "s.yaml:9:42: training.batch_size: 64 equals an earlier choice. Remove one of them",
        "s.yaml:10:21: training.epochs: expected a whole number from 1 to 1000000, received 1.5",
        "s.yaml:11:34: training.optimizer.name: expected one of sgd, rmsprop, adam, nadam, adamw,"
        " received 'adma'. Did you mean adam?",
        "s.yaml:12:47: training.optimizer.momentum: expected a number from 0 to below 1,"
        " received 1.0",
        "s.yaml:13:3: training.seed: it takes whole numbers."
        " Write low, high and step without a point",
        "s.yaml:14:3: model.l2: low 1 is not below high 0.1. Exchange them",
        "s.yaml:15:3: model.l1: low 0 has no logarithm. Begin above 0, or leave log out",
        "s.yaml:16:29: training.label_smoothing: expected a list of choices, or a range."
        " Write [a, b, c] or {low: 0.1, high: 1}",
        "s.yaml:17:1: trials: missing: tpe does not end by itself. Add trials: 20",
        "s.yaml:17:10: sampler: expected one of grid, random, tpe, received 'tpr'."
        " Did you mean tpe?",
        "s.yaml:18:1: seeds: unknown key. Did you mean seed?",
    ]


RATE = (
    "config: mnist-mlp\nset: {dataset.validation: 0.1}\nsearch:\n  training.optimizer.learning_rate"
)
BATCHES = "search: {training.batch_size: [32, 64]}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1:1: expected a mapping with keys among config, set, search, sampler, pruner,"
         " trials, objective, seed. Write key: value lines"),
        (BATCHES, "s.yaml:1:1: config: missing. Give it text, or a mapping"),
        ("config: mnist-mlp\nsearch: {}\nset: {dataset.validation: 0.1}\nsampler: grid\n",
         "s.yaml:2:1: search: there is nothing to search."
         " Name keys of the config, for example training.batch_size: [32, 64]"),
        (f"config: mnist-ml\n{BATCHES}trials: 2\n",
         "mnist-ml: no such file or recipe in HERE. Did you mean mnist-mlp?"),
        (f"config: mnist-mlp\n{BATCHES}trials: 2\n",
         "s.yaml:1:1: objective: val_accuracy needs a validation set of its own,"
         " dataset.validation is 0. Add it: set: {dataset.validation: 0.1}"),
        (f"config: mnist-mlp\nset: {{dataset.validation: test}}\n{BATCHES}trials: 2\n"
         "objective: val_loss\n",
         "s.yaml:5:1: objective: val_loss needs a validation set of its own, dataset.validation is"
         " the test set, which must not choose. Add it: set: {dataset.validation: 0.1}"),
        ("config: mnist-mlp\nsearch: {dataset.validation: [0.1, test]}\nsampler: grid\n",
         "s.yaml:2:36: dataset.validation: the objective needs a validation set of its own."
         " Give fractions above 0"),
        ("config: mnist-mlp\nset: {dataset.validation: 0.1}\nsampler: grid\n"
         "search: {training.optimizer.learning_rate: {low: 0.1, high: 1}}\n",
         "s.yaml:4:10: training.optimizer.learning_rate: a grid cannot count this range."
         " Give it a step, or a list of choices"),
        (f"config: mnist-mlp\nset: {{dataset.validation: 0.1}}\n{BATCHES}sampler: grid\n"
         "trials: 2\n",
         "s.yaml:5:1: trials: grid has a number of its own."
         " Remove it: grid tries every combination, and these are 2"),
        (f"config: mnist-mlp\nset: {{dataset.validation: 0.1, training.batch_size: 8}}\n{BATCHES}"
         "trials: 2\n",
         "s.yaml:3:10: training.batch_size: already given by s.yaml:2:32. Give it once"),
        ("config: mnist-mlp\nset: {dataset.validation: 0.1}\ntrials: 2\n"
         "search: {training.optimizer.momentum: [0.5, 0.9]}\n",
         "s.yaml:4:10: training.optimizer.momentum: adam has no momentum."
         " Set training.optimizer.name=sgd too, or leave it out"),
        (f"{RATE}: {{low: 1e-3, high: \"1e-1\"}}\ntrials: 2\n",
         "s.yaml:4:55: training.optimizer.learning_rate.high: expected a number from -1e+300 to"
         " 1e+300, received '1e-1'. Write 0.1 without quotes"),
        (f"{RATE}: {{low: 1e-3}}\ntrials: 2\n",
         "s.yaml:4:37: training.optimizer.learning_rate.high: missing."
         " Give it a number from -1e+300 to 1e+300"),
        (f"{RATE}: {{low: 1e-3, max: 0.1}}\ntrials: 2\n",
         "s.yaml:4:49: training.optimizer.learning_rate.max: unknown key. Did you mean high?"),
        (f"{RATE}: {{low: 1e-3, high: 1e-1}}\ntrials: 1.5\n",
         "s.yaml:5:9: trials: expected a whole number from 1 to 100000, or null, received 1.5"),
        (f"{RATE}: {{low: 1e-3, high: 1e-1}}\ntrials: null\n",
         "s.yaml:1:1: trials: missing: tpe does not end by itself. Add trials: 20"),
        (f"{RATE}: {{low: 1e-3, high: 1e-1}}\ntrials: \"3\"\n",
         "s.yaml:5:9: trials: expected a whole number from 1 to 100000, or null, received '3'."
         " Write 3 without quotes"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_line(text: str, message: str) -> None:
    assert load_errors(text) == [message.replace("HERE", str(Path.cwd()))]


def test_the_file_in_the_docs_is_one_and_shows_every_key() -> None:
    docs = Path(__file__).parents[2] / "docs" / "sweeps.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    assert len(load(text).search) == 4
    assert set(re.findall(r"^(\w+):", text, re.MULTILINE)) == set(SweepFile.model_fields)


def test_a_missing_file_has_a_nearest_one() -> None:
    Path("rates.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        load_sweep("rate.yaml")
    missing = f"rate.yaml: no such file in {Path.cwd()}"
    assert str(caught.value) == f"{missing}. Did you mean rates.yaml?"


def test_a_value_may_need_a_kind_that_is_searched_too() -> None:
    sweep = load(
        "config: mnist-mlp\nset: {dataset.validation: 0.1}\ntrials: 2\n"
        "search: {training.optimizer: [adam, sgd], training.optimizer.momentum: [0.5, 0.9]}\n"
    )
    momentum = {"training.optimizer.momentum": 0.9}
    assert sweep.make_config({"training.optimizer": "sgd", **momentum}).training.optimizer.name
    with pytest.raises(ConfigError, match=r"training\.optimizer\.momentum: adam has no momentum"):
        sweep.make_config({"training.optimizer": "adam", **momentum})


def test_a_config_in_place_of_a_sweep_is_named() -> None:
    Path("my.yaml").write_text("training: {epochs: 3}")
    with pytest.raises(ConfigError) as caught:
        load_sweep("my.yaml")
    assert str(caught.value) == (
        "my.yaml: is a config, not a sweep."
        " Name it in a sweep's file: config: my.yaml, and search: …"
    )
