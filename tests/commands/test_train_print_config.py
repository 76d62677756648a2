"""`train --print-config`: the config that a run would have, and where each value comes from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Run
from mnistcli.config.loading import load_config
from mnistcli.config.overrides import parse_assignment
from mnistcli.config.recipes import list_recipes

MY_CONFIG = """\
model:
  type: mlp
  hidden: [64, {units: 32, dropout: 0.1}]
training:
  optimizer: {name: sgd, learning_rate: 0.5, momentum: 0.9}
  epochs: 7
"""
PRINTED = """\
dataset:
  name: mnist                     # default
  normalization: unit             # default
  validation: 0.0                 # default
model:
  output_activation: softmax      # default
  flatten: false                  # default
  kernel_initializer:
    name: he_normal               # --set
  bias_initializer:
    name: zeros                   # default
  l1: 0.0                         # default
  l2: 0.0                         # default
  type: mlp                       # my.yaml:2
  hidden:
  - units: 64                     # my.yaml:3
    activation: null              # default
    dropout: null                 # default
    name: null                    # default
  - units: 16                     # --set
    activation: null              # default
    dropout: 0.1                  # my.yaml:3
    name: null                    # default
  activation: relu                # default
  dropout: 0.0                    # default
training:
  epochs: 7                       # my.yaml:6
  batch_size: 32                  # --batch-size
  optimizer:
    learning_rate: 0.001          # default
    beta_1: 0.8                   # --set
    beta_2: 0.999                 # default
    epsilon: 1.0e-07              # default
    name: adam                    # --optimizer
    weight_decay: null            # default
  loss: categorical_crossentropy  # default
  shuffle: true                   # default
  seed: 0                         # default
  precision: float32              # default
  checkpoint_every: 1             # default
  schedule: null                  # default
  reduce_on_plateau: null         # default
  early_stopping: null            # default
  clip: null                      # default
  label_smoothing: 0.0            # default
  class_weight: null              # default
"""
FLAGS = (
    "--optimizer", "adam", "--batch-size", "32", "--set", "training.optimizer.beta_1=0.8",
    "--set", "model.kernel_initializer=he_normal", "--set", "model.hidden.1.units=16",
)  # fmt: skip


def test_each_value_is_printed_with_the_place_it_comes_from(run: Run) -> None:
    Path("my.yaml").write_text(MY_CONFIG)
    ended = run("train", "my.yaml", *FLAGS, "--print-config")
    assert (ended.code, ended.out) == (0, PRINTED)
    assert ended.err == (
        "optimizer adam takes its default learning rate 0.001\n"
        "optimizer adam drops sgd's momentum\n"
    )


def test_a_recipes_values_come_from_its_lines_and_a_list_flag_brings_no_more_than_it_says(
    run: Run,
) -> None:
    ended = run("train", "xor", "--hidden", "4", "--print-config", "-q")
    assert ended.err == ""
    lines = [line.split("#") for line in ended.out.splitlines() if "#" in line]
    origins = {key.strip(): origin.strip() for key, origin in lines}
    assert origins["- units: 4"] == "--hidden"
    assert origins["activation: null"] == "default"
    assert origins["epochs: 100"] == "recipe xor:26"


def test_short_forms_say_what_they_stand_for_and_no_more(run: Run) -> None:
    weights = ", ".join(f"{label}: 1.5" for label in range(10))
    Path("my.yaml").write_text(f"training:\n  optimizer: adam\n  class_weight: {{{weights}}}\n")
    origins = run("train", "my.yaml", "--print-config", "--json").json["origins"]
    assert origins["training.optimizer.name"] == "my.yaml:2"
    assert origins["training.optimizer.beta_1"] == "default"
    assert origins["training.class_weight.9"] == "my.yaml:3"
    assert origins["model.type"] == "default"


def test_a_script_gets_the_config_and_the_places_by_key(run: Run) -> None:
    answer = run("train", "xor", "--seed", 3, "--print-config", "--json").json
    assert list(answer) == ["version", "config", "origins"]
    assert answer["config"]["training"]["seed"] == 3
    assert answer["origins"]["training.seed"] == "--seed"
    assert answer["origins"]["model.hidden.0.units"] == "recipe xor:18"


@pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes()])
@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("training.optimizer=adamw", "training.optimizer.weight_decay=1e-7"),
        ("training.schedule={name: piecewise, boundaries: [1, 2.5], factors: [0.1, 1e-3]}",),
        ("model={type: mlp, hidden: [3, {units: 5, name: Last}], bias_initializer: ones}",),
        ("training.clip.norm=1.5", "training.class_weight=balanced", "model.l2=1e-4"),
    ],
    ids=["as it is", "optimizer", "schedule", "network", "regularization"],
)
def test_what_is_printed_loads_again_as_the_same_config(
    run: Run, name: str, assignments: tuple[str, ...]
) -> None:
    flags = [word for assignment in assignments for word in ("--set", assignment)]
    ended = run("train", name, *flags, "--print-config")
    assert ended.code == 0, ended.err
    Path("printed.yaml").write_text(ended.out)
    expected = load_config(name, [parse_assignment(text) for text in assignments]).config
    assert load_config("printed.yaml").config == expected


def test_neither_data_nor_tensorflow_are_needed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    program = (
        "import sys; from mnistcli.cli import app; code = app.run(sys.argv[1:]);"
        "loaded = {'keras', 'tensorflow'} & set(sys.modules);"
        "sys.exit(f'{loaded} were imported' if loaded else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "train", "--print-config", "--data-dir", "nowhere"],
        env={**environment, "MNISTCLI_DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("dataset:\n  name: mnist ")


def test_a_files_name_cannot_leave_its_comment(run: Run) -> None:
    name = "a\nepochs: 1 .yaml"
    Path(name).write_text("training: {epochs: 9}\n")
    ended = run("train", name, "--print-config")
    Path("printed.yaml").write_text(ended.out)
    assert load_config("printed.yaml").config.training.epochs == 9
