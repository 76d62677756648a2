"""The JSON Schemas of the package match the result types and the commands' output."""

from __future__ import annotations

import copy
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from answer_schemas import ANSWERS, DIRECTORY, build_schema, name_file
from jsonschema import Draft202012Validator

from conftest import Ended, Run, Train
from helpers.checkpoints import write_dense
from helpers.json_schemas import check, load
from mnistcli.cli.app import app

GOOD = ("--epochs", 2, "--validation", 0.2)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_files_are_made_from_the_types(name: str) -> None:
    """Where this fails, `make schemas` writes them again; a changed promise needs a new version."""
    assert load(name) == build_schema(name)
    Draft202012Validator.check_schema(load(name))


def test_there_are_no_other_files() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == set(map(name_file, ANSWERS))


def list_forms(group: Any, prefix: str = "") -> Iterator[str]:
    """The machine-readable forms of every command's output, as its flags tell them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from list_forms(command, f"{prefix}{name} ")
            continue
        flags = {flag for parameter in command.params for flag in parameter.opts}
        yield from (f"{prefix}{name}" for _ in flags & {"--json"})
        yield from (f"{prefix}{name}.{form}" for form in ("jsonl", "csv") if f"--{form}" in flags)


def test_every_form_of_every_command_has_a_schema() -> None:
    assert set(list_forms(typer.main.get_command(app))) == set(ANSWERS) - {"error"}


def check_lines(name: str, ended: Ended) -> None:
    assert ended.code == 0, ended.err
    for line in ended.out.splitlines():
        check(name, json.loads(line))


def check_csv(name: str, ended: Ended) -> None:
    """Read each cell as the schema says; what is empty is null, and so is what is no number."""
    assert ended.code == 0, ended.err
    schema = load(name)
    others = schema.get("additionalProperties", {"type": ["string", "null"]})
    header, *lines = csv.reader(ended.out.splitlines())
    assert [column for column in header if column in schema["required"]] == schema["required"]
    for line in lines:
        row = {
            column: read_cell(schema["properties"].get(column, others), cell)
            for column, cell in zip(header, line, strict=True)
        }
        Draft202012Validator(schema).validate(row)


def read_cell(schema: dict[str, Any], cell: str) -> Any:
    """Return the number, the boolean, the text or the null that a cell stands for."""
    kinds = json.dumps([schema.get("type"), *schema.get("anyOf", [])])
    if cell == "" and "null" in kinds:
        return None
    return json.loads(cell) if re.search("number|integer|boolean", kinds) else cell


def test_train_prints_what_its_schemas_say(run: Run) -> None:
    check("train", run("train", *GOOD, "--json", "-o", "a.h5").json)
    check("train", run("train", "--dry-run", "--json").json)
    check_lines("train.jsonl", run("train", *GOOD, "--jsonl", "-o", "b.h5"))
    check("train", run("train", "--print-config", "--json").json)
    check_lines("train.jsonl", run("train", "--dry-run", "--jsonl"))
    check("train", run("train", "xor", "--overfit-one-batch", "--json").json)


def test_evaluate_prints_what_its_schemas_say(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    check("evaluate", run("evaluate", model, "--json").json)
    check("evaluate", run("evaluate", model, "--json", "--fail-under", "accuracy=1").json)
    many = run("evaluate", model, model, "--json", "--fail-under", "accuracy=1").json
    assert len(many["error"]["problems"]) == 2
    check("evaluate", many)
    check_csv("evaluate.csv", run("evaluate", model, model, "--csv"))


def test_predict_prints_what_its_schemas_say(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    check("predict", run("predict", model, "--first", 3, "--json").json)
    check("predict", run("predict", model, "--first", 3, "--top", 2, "--json").json)
    check_lines("predict.jsonl", run("predict", model, "--first", 3, "--jsonl"))
    check_lines("predict.jsonl", run("predict", model, "--first", 3, "--top", 2, "--jsonl"))
    check_csv("predict.csv", run("predict", model, "--first", 3, "--csv"))


def test_summary_prints_what_its_schema_says(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    check("summary", run("summary", model, "--json").json)
    check("summary", run("summary", model, "--weights", "--json").json)
    check("summary", run("summary", "cifar10-mlp", "--json").json)
    check("summary", run("summary", write_dense(Path("theirs.h5")), "--json").json)


def test_ls_prints_what_its_schemas_say(run: Run, train_once: Train) -> None:
    train_once(*GOOD, name="a.h5")
    train_once("--epochs", 1, name="b.h5")
    write_dense(Path("theirs.h5"))
    Path("no.h5").write_text("no")
    answer = run("ls", "--json").json
    assert len(answer["checkpoints"]) == 4
    check("ls", answer)
    check_csv("ls.csv", run("ls", "--csv"))


def test_plot_prints_what_its_schema_says(run: Run, train_once: Train) -> None:
    pytest.importorskip("matplotlib")
    model = train_once(*GOOD)
    check("plot", run("plot", "curves", model, "--json").json)
    check("plot", run("plot", "calibration", model, "--json").json)


def test_data_prints_what_its_schema_says(run: Run) -> None:
    check("data", run("data", "mnist", "--json").json)
    check("data", run("data", "mnist", "--index", 0, "--matrix", "raw", "--json").json)
    check("data", run("data", "mnist", "--fetch", "--json").json)


def test_doctor_and_reproduce_print_what_their_schemas_say(run: Run, train_once: Train) -> None:
    model = train_once("--epochs", 1)
    check("doctor", run("doctor", model, "--json").json)
    check("doctor", run("doctor", "missing.h5", "--json").json)
    check("reproduce", run("reproduce", model, "--json").json)


def test_report_prints_what_its_schema_says(run: Run, train_once: Train) -> None:
    check("report", run("report", train_once(*GOOD), "--json").json)
    check("report", run("report", write_dense(Path("theirs.h5")), "--json").json)


def test_recipes_prints_what_its_schemas_say(run: Run) -> None:
    check("recipes list", run("recipes", "list", "--json").json)
    check("recipes show", run("recipes", "show", "xor", "--json").json)
    check("recipes copy", run("recipes", "copy", "xor", "--json").json)


@pytest.mark.parametrize(
    "words",
    [
        "train --epochs 0 --json",
        "train --epochs 0 --seed -1 --jsonl",
        "evaluate missing.h5 --json",
        "predict missing.h5 x.png --jsonl",
        "summary missing.h5 --json",
        "ls --sort nothing --json",
        "doctor --data-dir missing --json",
        "reproduce missing.h5 --json",
        "plot curves missing.h5 --show --json",
        "data mnits --json",
        "report missing.h5 --json",
    ],
)
def test_every_error_is_in_the_commands_schema_and_in_that_of_errors(run: Run, words: str) -> None:
    ended = run(*words.split())
    assert ended.code in (2, 4, 5)
    name = words.split(maxsplit=1)[0] + (".jsonl" if words.endswith("--jsonl") else "")
    check(name, ended.json)
    check("error", ended.json)


def test_the_schemas_notice_what_is_broken_and_allow_what_is_new(
    run: Run, train_once: Train
) -> None:
    answer = run("evaluate", train_once(*GOOD), "--json").json
    validator = Draft202012Validator(load("evaluate"))
    for change, is_valid in (
        (lambda result: result.update(loss=None), True),  # what is not a number
        (lambda result: result.update(new="key"), True),
        (lambda result: result.pop("loss"), False),
        (lambda result: result.update(accuracy=None), False),
        (lambda result: result.update(accuracy=1.5), False),
        (lambda result: result.update(confusion=[["one"]]), False),
    ):
        changed = copy.deepcopy(answer)
        change(changed["results"][0])
        assert validator.is_valid(changed) == is_valid
    assert not validator.is_valid({**answer, "version": 2})
