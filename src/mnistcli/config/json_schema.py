"""The config as JSON Schema, for editors that complete and check YAML: made from the models.

pydantic writes down the models as they are; what a file may leave out or abbreviate is added
here. Rules over several keys (`mnistcli.config.cross_field_rules`) have no place in a schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from mnistcli.config.field_info import ROOT, Slot, field_slot
from mnistcli.config.schema import Config

JsonObject = dict[str, Any]
INSTALLED_SCHEMA = Path(__file__).with_name("schema.json")
"""What `write_json_schema` returned when this version was made, for editors to find."""


class _Generator(GenerateJsonSchema):
    """Without titles that only repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def make_json_schema() -> JsonObject:
    """Return the JSON Schema (draft 2020-12) that a config's YAML file keeps to."""
    schema = Config.model_json_schema(schema_generator=_Generator)
    blocks: dict[str, JsonObject] = {Config.__name__: schema, **schema["$defs"]}
    for model in dict.fromkeys(_list_models(ROOT)):
        for key, entry in blocks[model.__name__]["properties"].items():
            _allow_short_forms(entry, field_slot(model, key), blocks)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": "mnistcli config",
        "description": "One experiment. Keys that are left out take their defaults.",
    }


def write_json_schema() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(make_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _list_models(slot: Slot) -> Iterator[type[BaseModel]]:
    """Yield every model of the config, once for each place that it has."""
    for model in slot.models:
        yield model
        for key in model.model_fields:
            below = field_slot(model, key)
            yield from _list_models(below.item or below)


def _allow_short_forms(entry: JsonObject, slot: Slot, blocks: dict[str, JsonObject]) -> None:
    """Add what a key's validators turn into its full form."""
    if slot.item is not None:
        _allow_short_forms(entry["items"], slot.item, blocks)
    if slot.tag_key and slot.default is not None:  # a block without a name is the default's
        required = blocks[type(slot.default).__name__].get("required", [])
        if slot.tag_key in required:
            required.remove(slot.tag_key)
    alternatives = [*_list_short_forms(slot, blocks)]
    if not alternatives:
        return
    full = {key: entry.pop(key) for key in _FULL_FORM if key in entry}
    entry["anyOf"] = [*alternatives, *(full["anyOf"] if [*full] == ["anyOf"] else [full])]


_FULL_FORM = ("$ref", "anyOf", "oneOf", "discriminator")
"""The keys of a schema that say what a value may be; others describe it."""


def _list_short_forms(slot: Slot, blocks: dict[str, JsonObject]) -> Iterator[JsonObject]:
    """Yield the schemas of a slot's shorthands: a name, a number, a mapping for a list."""
    key = slot.shorthand_key
    if slot.names:
        yield {"enum": list(slot.names), "type": "string"}
    elif key is not None:
        yield blocks[slot.models[0].__name__]["properties"][key]
    if isinstance(slot.expand({"0": 1.0, "1": 1.0}), list):
        yield {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
