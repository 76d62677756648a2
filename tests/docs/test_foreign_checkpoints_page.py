"""docs/foreign-checkpoints.md: what it lists is what is read, and refused in the words it gives."""

from __future__ import annotations

import ast
import json
import re
import typing
from pathlib import Path

import pytest

from mnistcli.checkpoints.record import MAX_PARAMETERS
from mnistcli.checkpoints.untrusted import keras_config
from mnistcli.checkpoints.untrusted.keras_config import parse_model_config
from mnistcli.config.schema import MAX_UNITS, Activation
from mnistcli.errors import CheckpointError

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "foreign-checkpoints.md").read_text(encoding="utf-8")
REFUSED = re.findall(r"^\| `([\w>]+)\((.*?)\)`.*? \| `(.*?)` \| ", TEXT, flags=re.MULTILINE)


def test_every_layer_and_activation_that_is_read_is_listed() -> None:
    assert len(REFUSED) > 10
    (table,) = re.findall(r"\| layer \| settings \|\n(.*?)\n\n", TEXT, flags=re.DOTALL)
    (activations,) = re.findall(r"\*\*Activations\*\*: (.*?): with", TEXT, flags=re.DOTALL)
    listed = [name for row in table.splitlines()[1:] for name in row.split("|")[1].split(",")]
    assert {name.strip(" `") for name in listed} == set(keras_config.LAYER_CLASSES)
    assert {*typing.get_args(Activation), "swish", "hard_swish"} == set(
        re.findall(r"`(\w+)`", activations)
    )


def test_the_limits_are_those_of_the_code() -> None:
    for limit in (
        keras_config.MAX_LAYERS, keras_config.MAX_NAME_CHARACTERS, keras_config.MAX_SIZE,
        MAX_PARAMETERS, MAX_UNITS,
    ):  # fmt: skip
        assert f"{limit:,} " in TEXT


@pytest.mark.parametrize(("class_name", "arguments", "message"), REFUSED)
def test_what_is_refused_is_refused_in_these_words(
    class_name: str, arguments: str, message: str
) -> None:
    call = ast.parse(f"f({arguments})", mode="eval").body
    assert isinstance(call, ast.Call)
    settings = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    entries = [
        {"class_name": "InputLayer", "config": {"name": "input", "batch_shape": [None, 8, 8, 2]}},
        {"class_name": class_name, "config": {"name": "x", **settings}},
        {"class_name": "Flatten", "config": {"name": "flatten"}},
    ]
    text = json.dumps({"class_name": "Sequential", "config": {"layers": entries}})
    with pytest.raises(CheckpointError) as caught:
        parse_model_config(text, "x.h5")
    assert caught.value.what == f"layer 2 'x' ({class_name}): {message}"
