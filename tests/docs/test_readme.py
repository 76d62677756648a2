"""The README: its commands, exit codes, config and recipes are correct."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from conftest import Run, save_with_keras
from mnistcli.cli.app import app
from mnistcli.config.recipes import ReferenceResult, list_recipes
from mnistcli.config.schema import Config
from mnistcli.errors import ExitCode

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
CODE = "\n".join(text for kind, text in BLOCKS if kind in ("console", "sh"))
COMMANDS = re.findall(r"(?:^|[$|(`;] ?)mnistcli (\w+[^|\n`;)]*)", CODE + "\n" + README)


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_command_shown_exists_with_its_flags(command: str) -> None:
    words = shlex.split(command.split("#", maxsplit=1)[0].replace("$", ""))
    here: Any = typer.main.get_command(app)
    while words and words[0] in getattr(here, "commands", ()):
        here = here.commands[words.pop(0)]
    flags = {flag for parameter in here.params for flag in parameter.opts}
    assert not hasattr(here, "commands")
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= flags | {"--help"}


def test_every_exit_code_is_explained() -> None:
    codes = re.findall(r"^\| +(\d+) \| .+ \|$", README, re.MULTILINE)
    assert [int(code) for code in codes] == [int(code) for code in ExitCode]


def test_the_config_shown_is_the_default() -> None:
    (text,) = (text for kind, text in BLOCKS if kind == "yaml")
    shown = yaml.safe_load(text)
    default = Config().model_dump(mode="json")
    for block in ("dataset", "model", "training"):
        for key, value in shown[block].items():
            actual = default[block][key]
            name = actual["name"] if key.endswith("initializer") else actual
            assert value == name or value.items() <= actual.items(), key


def test_every_recipe_is_listed() -> None:
    assert [recipe.name for recipe in list_recipes() if f"`{recipe.name}`" not in README] == []


STEPS = [
    (line.removeprefix("$ ").split("#")[0].strip(), shown)
    for kind, text in BLOCKS
    if kind == "console"
    for line, shown in re.findall(r"^(\$ mnistcli .*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
]


REAL_DATA = {"canonical", "MNIST"}  # which drawn digits are not


def test_every_command_does_what_is_shown_below_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert STEPS
    monkeypatch.setenv("COLUMNS", "120")
    for command, shown in STEPS:
        if "theirs.h5" in command:
            write_foreign_checkpoint(tmp_path / "theirs.h5")
        ended = run(*shlex.split(re.split("[|>]", command)[0])[1:])
        assert ended.code == 0, (command, ended.err)
        said = set(re.findall(r"[a-zA-Z]{3,}", ended.out + ended.err))
        assert set(re.findall(r"[a-zA-Z]{3,}", shown)) - said <= REAL_DATA, command


def write_foreign_checkpoint(path: Path) -> None:
    """Save a softmax regression as a script of Keras' does."""
    import keras

    layers = [keras.Input((784,)), keras.layers.Dense(10, "softmax")]
    save_with_keras(keras.Sequential(layers), path)


def write_range(figure: ReferenceResult) -> str:
    low, high = (f"{f(figure.measured):.{figure.digits}f}" for f in (min, max))
    return low if low == high else f"{low}-{high}"


def write_published(figure: ReferenceResult) -> str:
    return "" if figure.published is None else f"{figure.published:.{figure.digits}f}"


def test_the_recipes_figures_are_those_of_their_headers() -> None:
    _, _, table = README.partition("| recipe | what | published accuracy |")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", table.partition("\n\n")[0], re.MULTILINE))
    for recipe in list_recipes():
        figure = recipe.read_reference_results().test_accuracy
        cells = [cell.strip() for cell in rows[recipe.name].split(" | ")]
        assert cells == [recipe.about, write_published(figure), write_range(figure)]


def test_the_reproduced_figures_are_those_of_the_headers_and_hold() -> None:
    _, _, table = README.partition("| recipe | figure | published | seeds 0 to 4 | now | verdict |")
    lines = [line for line in table.partition("\n\n")[0].splitlines()[2:] if line]
    rows = iter([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    for recipe in list_recipes():
        for number, figure in enumerate(recipe.read_reference_results().rows):
            name, *cells, now, verdict = next(rows)
            assert name == (recipe.name if number == 0 else "")
            assert cells == [figure.name, write_published(figure), write_range(figure)]
            assert verdict == figure.judge(float(now))
    assert list(rows) == []
