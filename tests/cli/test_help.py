"""Every command's help fits a terminal, groups its flags, and ends with examples that work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from conftest import Run
from mnistcli.cli.app import app

PROGRAM: Any = typer.main.get_command(app)


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that name each command, and each group of commands."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


def find(path: tuple[str, ...]) -> Any:
    command = PROGRAM
    for name in path:
        command = command.commands[name]
    return command


PATHS = list(walk(PROGRAM))


@pytest.fixture(params=PATHS, ids=lambda path: " ".join(path) or "mnistcli")
def path(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


@pytest.fixture
def text(run: Run, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> str:
    """The help, as a terminal of 80 columns shows it."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    ended = run(*path, "--help")
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def test_help_fits_80_columns_and_cuts_nothing(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\w…( |$)", text)


def test_help_ends_with_examples_of_that_very_command_that_parse(
    text: str, path: tuple[str, ...]
) -> None:
    examples = [line.strip() for line in text.split("Examples:")[1].splitlines() if line.strip()]
    assert examples
    for example in examples:
        program, *words = shlex.split(re.split(r" (?:\||&&|>) ", example)[0])
        assert program == "mnistcli", f"wrapped: {example}"
        assert tuple(words[: len(path)]) == path
        named = max((p for p in PATHS if tuple(words[: len(p)]) == p), key=len)
        command = find(named)
        assert not hasattr(command, "commands"), f"{example} names no command"
        command.make_context("mnistcli", words[len(named) :])


def test_every_flag_has_a_meaning_and_a_group(path: tuple[str, ...]) -> None:
    for parameter in find(path).params:
        assert parameter.help, parameter.name
        if path and parameter.param_type_name == "option":
            assert parameter.rich_help_panel, parameter.name


def test_environment_variables_are_named_beside_the_flags_that_do_the_same(run: Run) -> None:
    words = run("train", "--help").out
    for variable in ("MNISTCLI_DATA_DIR", "MNISTCLI_OFFLINE=1", "MNISTCLI_DEBUG=1"):
        assert variable in words
