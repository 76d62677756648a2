"""`mnistcli recipes`: list, show, copy, and the JSON Schema of configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from conftest import Run
from mnistcli.config.field_info import INSTALLED_SCHEMA, make_json_schema
from mnistcli.config.loading import load_config
from mnistcli.config.recipes import find_recipe, list_recipes

NAMES = [recipe.name for recipe in list_recipes()]


def test_a_row_says_what_is_trained_what_was_published_and_what_it_gives_here(run: Run) -> None:
    ended = run("recipes", "list")
    assert (ended.code, ended.err) == (0, "")
    rows = {line.split()[0]: line.split() for line in ended.out.splitlines() if line.strip()}
    assert rows["cifar10-mlp"] == [
        "cifar10-mlp", "cifar10", "mlp", "512-120-512", "10", "2.258", "0.5295", "0.5187-0.5338"
    ]  # fmt: skip
    assert rows["mnist-mlp"][-2:] == ["-", "0.9733-0.9768"]
    assert set(NAMES) <= set(rows)


def test_the_list_is_an_object_for_scripts(run: Run) -> None:
    answer = run("recipes", "list", "--json").json
    assert answer["version"] == 1
    assert [recipe["name"] for recipe in answer["recipes"]] == NAMES
    assert answer["recipes"][0] == {
        "name": "mnist-softmax",
        "about": "Softmax regression on MNIST, the default: one Dense layer, 7,850 parameters",
        "dataset": "mnist",
        "model": "softmax",
        "hidden": [],
        "epochs": 100,
        "published_test_accuracy": 0.9027,
        "measured": [
            {"seed": 0, "test_accuracy": 0.9013},
            {"seed": 1, "test_accuracy": 0.9015},
            {"seed": 2, "test_accuracy": 0.9033},
            {"seed": 3, "test_accuracy": 0.9030},
            {"seed": 4, "test_accuracy": 0.9036},
        ],
        "seconds_per_epoch": 0.031,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_shown_as_it_is(run: Run, name: str) -> None:
    ended = run("recipes", "show", name)
    assert (ended.code, ended.out, ended.err) == (0, find_recipe(name).text, "")


def list_names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def read_schema_path(copy: Path) -> Path:
    """What an editor follows: a file URI, or a path beside the YAML file."""
    first = copy.read_text(encoding="utf-8").splitlines()[0]
    uri = first.removeprefix("# yaml-language-server: $schema=")
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else copy.parent / uri


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_trains_the_same_and_leads_editors_to_the_schema(run: Run, name: str) -> None:
    ended = run("recipes", "copy", name)
    copy = Path(f"{name}.yaml")
    assert (ended.code, ended.out) == (0, f"{name}.yaml\n")
    assert ended.err == f"next  mnistcli train {name}.yaml\n"
    assert copy.read_text(encoding="utf-8").split("\n", 1)[1] == find_recipe(name).text
    assert load_config(str(copy)).config == load_config(name).config
    assert json.loads(read_schema_path(copy).read_text(encoding="utf-8")) == make_json_schema()


def test_scripts_get_objects(run: Run) -> None:
    shown = run("recipes", "show", "xor", "--json").json
    assert shown == {"version": 1, "name": "xor", "yaml": find_recipe("xor").text}
    copied = run("recipes", "copy", "xor", "--json")
    schema = INSTALLED_SCHEMA.as_uri()
    assert copied.json == {"version": 1, "path": "xor.yaml", "editor_schema": schema}
    assert copied.err == ""


def test_a_group_alone_is_no_command(run: Run) -> None:
    ended = run("recipes")
    line = "mnistcli: error: mnistcli recipes: missing command. See mnistcli recipes --help\n"
    assert (ended.code, ended.out, ended.err) == (2, "", line)


def test_a_copy_for_others_has_its_schema_beside_it(run: Run) -> None:
    Path("shared").mkdir()
    ended = run("recipes", "copy", "xor", "shared/my xor.yaml", "--with-schema", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "shared/my xor.yaml\n", "")
    assert list_names("shared") == ["mnistcli.schema.json", "my xor.yaml"]
    assert read_schema_path(Path("shared/my xor.yaml")) == Path("shared/mnistcli.schema.json")
    schema = Path("shared/mnistcli.schema.json").read_text(encoding="utf-8")
    assert json.loads(schema) == make_json_schema()


def test_no_file_of_the_users_is_replaced_unless_told_to(run: Run) -> None:
    Path("xor.yaml").write_text("training: {epochs: 7}\n")
    ended = run("recipes", "copy", "xor", "--with-schema")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: xor.yaml: exists. Choose another name, or give --overwrite\n",
    )
    assert Path("xor.yaml").read_text() == "training: {epochs: 7}\n"
    assert list_names(".") == ["xor.yaml"]
    assert run("recipes", "copy", "xor", "--overwrite").code == 0
    assert load_config("xor.yaml").config == load_config("xor").config


def test_the_schema_that_is_installed_is_that_of_the_models(run: Run) -> None:
    printed = run("recipes", "schema").json
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    installed = json.loads(INSTALLED_SCHEMA.read_text(encoding="utf-8"))
    assert installed == printed, "mnistcli recipes schema > src/mnistcli/config/schema.json"


@pytest.fixture(scope="module")
def check() -> Any:
    """Validates a YAML text as an editor does: with no knowledge but the schema."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = make_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return lambda text: validator.is_valid(json.loads(json.dumps(yaml.safe_load(text))))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_keeps_to_the_schema(check: Any, name: str) -> None:
    assert check(find_recipe(name).text)


@pytest.mark.parametrize(
    "text",
    [
        "training: {optimizer: adam}",
        "training: {optimizer: {learning_rate: 0.1}}",
        "training: {optimizer: {name: adamw, weight_decay: null}}",
        "training: {schedule: cosine, clip: {norm: 1}, class_weight: balanced}",
        "training: {schedule: {name: piecewise, boundaries: [1], factors: [0.1]}}",
        "training: {class_weight: {0: 1, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}}",
        "model: {type: mlp, hidden: [128, {units: 64, name: Last}]}",
        "model: {kernel_initializer: he_normal, bias_initializer: {name: random_normal}}",
        "dataset: {validation: test}",
        "{}",
    ],
)
def test_what_loads_keeps_to_the_schema(check: Any, text: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(text)
    load_config(str(tmp_path / "my.yaml"))
    assert check(text)


@pytest.mark.parametrize(
    "text",
    [
        "trainig: {}",
        "training: {epoch: 3}",
        "training: {epochs: 0}",
        "training: {epochs: '3'}",
        "training: {optimizer: adm}",
        "training: {optimizer: {name: adam, momentum: 0.9}}",
        "training: {optimizer: {beta_1: 0.9}}",
        "training: {schedule: piecewise}",
        "model: {hidden: [128]}",
        "model: {type: mlp, hidden: [0]}",
        "model: {type: mlp, hidden: ['128']}",
        "dataset: {name: mnits}",
    ],
)
def test_editors_see_the_same_mistakes_as_the_tool(check: Any, text: str, tmp_path: Path) -> None:
    from mnistcli.errors import ConfigError

    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(str(tmp_path / "my.yaml"))
    assert not check(text)
