"""The config as JSON Schema, for editors that complete and check YAML: made from the models.

pydantic writes down the models as they are; what a file may leave out or abbreviate is added
here. Rules over several keys (`mnistcli.config.cross_field_rules`) have no place in a schema.

The shape of the config, read off the models: which keys there are, and what each takes.

What can be typed next in `--set key=value`, read off the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from mnistcli.config.schema import Config
from mnistcli.config.validation_errors import KeyPath


@dataclass(frozen=True)
class Slot:
    """One place in the config: a field of a model, or an item of a list.

    Attributes:
        annotation: the Python type, a model, a union of models, a tuple or a scalar.
        metadata: bounds and validators that pydantic applies to it.
        tag_key: the key that chooses between the models of a union, `name` or `type`.
        default: what it is where nothing is said.
        title: what messages call it.
        description: what it means; may be empty.
    """

    annotation: Any
    metadata: tuple[Any, ...] = ()
    tag_key: str | None = None
    default: object = None
    title: str = ""
    description: str = ""

    @cached_property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models that may stand here; none for a scalar or a list."""
        choices = get_args(self.annotation) if is_union(self.annotation) else (self.annotation,)
        return tuple(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))

    @property
    def is_nullable(self) -> bool:
        """Tell whether null may stand here."""
        return is_union(self.annotation) and type(None) in get_args(self.annotation)

    @cached_property
    def item(self) -> Slot | None:
        """What one entry of a list is; null where this is no list."""
        if get_origin(self.annotation) is not tuple:
            return None
        annotation, metadata = split_annotation(get_args(self.annotation)[0])
        return Slot(annotation, metadata)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The names that choose between the models of a union."""
        return tuple(tag for model in self.models for tag in self.list_tags(model))

    def list_tags(self, model: type[BaseModel]) -> tuple[str, ...]:
        """The names that choose one model of the union."""
        return get_args(model.model_fields[self.tag_key].annotation) if self.tag_key else ()

    def find_model(self, tag: object) -> type[BaseModel] | None:
        """Return the model that a tag chooses, or the only one there is."""
        if self.tag_key is None:
            return self.models[0] if self.models else None
        return next((m for m in self.models if tag in self.list_tags(m)), None)

    def expand(self, value: object) -> object:
        """Write a shorthand out as the models do: `adam` becomes `{name: adam}`."""
        for entry in self.metadata:
            if isinstance(entry, BeforeValidator):
                value = entry.func(value)  # type: ignore[call-arg]  # none of ours takes an info
        return value

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that say all of a block: `adam` for `{name: adam}`."""
        if self.tag_key is None or self.shorthand_key != self.tag_key:
            return ()
        complete = (model for model in self.models if needs_only(model, self.tag_key))
        return tuple(tag for model in complete for tag in self.list_tags(model))

    @cached_property
    def shorthand_key(self) -> str | None:
        """The key that a shorthand stands for; null where there is none."""
        for probe in ("", 0):
            if isinstance(expanded := self.expand(probe), dict):
                return str(next(iter(expanded)))
        return None

    def list_fields(self) -> dict[str, Slot]:
        """Return the slots below by their keys, whichever models of a union have them."""
        fields: dict[str, Slot] = {}
        for model in self.models:
            for key in model.model_fields:
                fields.setdefault(key, field_slot(model, key))
        return fields

    def find_child(self, key: str | int) -> Slot | None:
        """Return the slot below, whichever model of a union has it."""
        if isinstance(key, int):
            return self.item
        return next((field_slot(m, key) for m in self.models if key in m.model_fields), None)


ROOT = Slot(Config)


def is_union(annotation: Any) -> bool:
    """Tell `A | B` and `Union[A, B]` from other annotations."""
    return get_origin(annotation) in (Union, UnionType)


def needs_only(model: type[BaseModel], key: str) -> bool:
    """Tell whether a model is complete once one of its keys is given."""
    return all(name == key or not info.is_required() for name, info in model.model_fields.items())


def is_literal(annotation: Any) -> bool:
    """Tell a choice of words from other annotations."""
    return get_origin(annotation) is Literal


def split_annotation(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Separate `Annotated[T, …]` into T and its metadata, those inside a `Field(…)` included."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *entries = get_args(annotation)
    metadata: list[Any] = []
    for entry in entries:
        metadata.extend(entry.metadata if isinstance(entry, FieldInfo) else [entry])
    return inner, tuple(metadata)


def field_slot(model: type[BaseModel], key: str) -> Slot:
    """Return a model's field as a slot."""
    info = model.model_fields[key]
    tag_key = info.discriminator if isinstance(info.discriminator, str) else None
    title = info.title or key
    description = info.description or ""
    return Slot(info.annotation, tuple(info.metadata), tag_key, info.default, title, description)


def find_slot(path: Sequence[str | int]) -> Slot | None:
    """Return the slot at a path, whichever models of the unions on the way have it."""
    slot: Slot | None = ROOT
    for part in path:
        slot = slot.find_child(part) if slot else None
    return slot


def split_key(key: str) -> KeyPath:
    """Take a dotted key apart: entries of lists are counted, `0` elsewhere is a key like others."""
    path: list[str | int] = []
    slot: Slot | None = ROOT
    for part in key.split("."):
        is_index = slot is not None and slot.item is not None and part.isdecimal()
        path.append(int(part[:9]) if is_index else part)
        slot = slot.find_child(path[-1]) if slot else None
    return tuple(path)


def list_keys(slot: Slot = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key that any config may have; lists are not entered."""
    for key, below in slot.list_fields().items():
        yield (*path, key)
        yield from list_keys(below, (*path, key))


def write_out(value: object, slot: Slot = ROOT) -> object:
    """Copy a tree of values with its shorthands expanded and its tags filled in.

    A block that does not say which model of a union it is, is the default's:
    `optimizer: {learning_rate: 0.1}` is the default optimizer with another learning rate.
    """
    value = slot.expand(value)
    if isinstance(value, list) and slot.item:
        return [write_out(entry, slot.item) for entry in value]
    if not isinstance(value, dict) or not slot.models:
        return value
    if slot.tag_key and slot.tag_key not in value and slot.default is not None:
        value = {slot.tag_key: getattr(slot.default, slot.tag_key), **value}
    model = slot.find_model(value.get(slot.tag_key))
    fields = model.model_fields if model else {}
    return {
        key: write_out(entry, field_slot(model, key)) if model and key in fields else entry
        for key, entry in value.items()
    }


@dataclass(frozen=True)
class Located:
    """Where an error of pydantic's is.

    Attributes:
        path: the user's path, without the tags that pydantic puts between the keys.
        slot: what stands there; null where no such key exists.
        owner: the model that the last key was looked up in; null for an entry of a list.
        parent: the slot that holds the last key.
        tag: which model of a union the owner is; empty where there is no choice.
    """

    path: KeyPath
    slot: Slot | None
    owner: type[BaseModel] | None
    parent: Slot
    tag: str = ""


def locate(loc: Sequence[str | int], root: Slot = ROOT) -> Located:
    """Translate pydantic's `loc` into the user's path and what the models say of it."""
    at = Located((), root, None, root)
    model, tag = root.find_model(None), ""
    for part in loc:
        slot = at.slot
        if slot is None or not (slot.models or slot.item):
            break  # the rest names a branch in a union of scalars
        if slot.tag_key and model is None:
            model, tag = slot.find_model(part), str(part)
            continue
        child = slot.item
        if model:
            child = field_slot(model, str(part)) if part in model.model_fields else None
        at = Located((*at.path, part), child, model, slot, tag)
        model = child.find_model(None) if child and not child.tag_key else None
    return at


@dataclass(frozen=True)
class Candidate:
    """One way to go on.

    Attributes:
        text: the whole of what would then stand there.
        meaning: said beside it; may be empty.
    """

    text: str
    meaning: str = ""


def list_assignments(typed: str) -> Iterator[Candidate]:
    """Yield what `--set` can go on with: the keys of one block, then the values of a key.

    Args:
        typed: what stands there so far, `training.optim` or `model.activation=re`.
    """
    key, equals, _ = typed.partition("=")
    if equals:
        yield from (Candidate(f"{key}={value}") for value in list_values(key))
        return
    prefix, dot, _ = key.rpartition(".")
    block = find_slot(split_key(prefix)) if dot else ROOT
    if block is not None:
        yield from _list_keys(block, prefix + dot)


def list_values(key: str) -> tuple[str, ...]:
    """Return the words that a dotted key accepts; none for an unknown key or for numbers."""
    path = split_key(key)
    slot, parent = find_slot(path), find_slot(path[:-1])
    if slot is None or parent is None:
        return ()
    if path[-1] == parent.tag_key:
        return parent.tags
    words = slot.names or list_words(slot.annotation)
    return (*words, *(("null",) if slot.is_nullable else ()))


def list_words(annotation: Any) -> tuple[str, ...]:
    """Return the words that an annotation's values can be, those of its branches included."""
    annotation, _ = split_annotation(annotation)
    if annotation is bool:
        return ("true", "false")
    if is_literal(annotation):
        return get_args(annotation)
    if get_origin(annotation) is tuple:
        return ()
    return tuple(word for branch in get_args(annotation) for word in list_words(branch))


def _list_keys(block: Slot, prefix: str) -> Iterator[Candidate]:
    """A block of keys is gone on with by a dot, or by `=` where a word can stand for it."""
    if block.item is not None:
        yield Candidate(f"{prefix}0.", "the first; they are counted from 0")
    for key, child in block.list_fields().items():
        meaning = child.description
        if child.models:
            yield Candidate(f"{prefix}{key}.", meaning)
        if not child.models or child.shorthand_key or child.is_nullable:
            yield Candidate(f"{prefix}{key}=", meaning)
        if child.item is not None and child.item.models:
            yield Candidate(f"{prefix}{key}.", meaning)


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
