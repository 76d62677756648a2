"""The JSON Schemas of the package, and checks of results against them."""

from __future__ import annotations

import json
from typing import Any

from answer_schemas import DIRECTORY, name_file
from jsonschema import Draft202012Validator


def load(name: str) -> dict[str, Any]:
    """A schema as it ships."""
    return json.loads((DIRECTORY / name_file(name)).read_text(encoding="utf-8"))


def close(schema: Any) -> Any:
    """The same schema, of objects that hold nothing but what it names."""
    if isinstance(schema, list):
        return [close(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items()}
    if isinstance(schema.get("required"), list):
        closed.setdefault("additionalProperties", False)
    return closed


def check(name: str, answer: Any) -> None:
    """Hold an answer against the schema, and against one that allows no key beside those named."""
    for schema in (load(name), close(load(name))):
        Draft202012Validator(schema).validate(answer)
