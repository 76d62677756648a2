"""What the schema's models say about the keys of a config, for other modules to read.

`FieldInfo` describes one place in a config. From it come the completion of `--set key=value` and
the JSON Schema with which editors complete and check a config's YAML.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic.fields
from pydantic import BaseModel, BeforeValidator
from pydantic.json_schema import GenerateJsonSchema

from mnistcli.config.schema import Config
from mnistcli.config.validation_errors import KeyPath

JsonObject = dict[str, Any]

INSTALLED_SCHEMA = Path(__file__).with_name("schema.json")
"""What `write_json_schema` returned when this version was made, for editors to find."""

_VALUE_KEYWORDS = ("$ref", "anyOf", "oneOf", "discriminator")
"""The keywords of JSON Schema that say what a value may be; others describe it."""


@dataclass(frozen=True)
class FieldInfo:
    """One place in the config: a field of a model, or an entry of a list.

    Attributes:
        annotation: the Python type: a model, a union of models, a tuple or a scalar.
        metadata: bounds and validators that pydantic applies to it.
        tag_key: the key that chooses between the models of a union, `name` or `type`.
        default: the value where the key is left out; None if it is required, too.
        title: what messages call it.
        description: its meaning; may be empty.
    """

    annotation: Any
    metadata: tuple[Any, ...] = ()
    tag_key: str | None = None
    default: object = None
    title: str = ""
    description: str = ""

    @cached_property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models of a block; empty for a scalar or a list."""
        choices = get_args(self.annotation) if is_union(self.annotation) else (self.annotation,)
        return tuple(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))

    @property
    def is_nullable(self) -> bool:
        """Whether None is a valid value."""
        return is_union(self.annotation) and type(None) in get_args(self.annotation)

    @cached_property
    def item(self) -> FieldInfo | None:
        """The entries of a list; None where no list is accepted."""
        branches = get_args(self.annotation) if is_union(self.annotation) else (self.annotation,)
        plain = (split_annotation(branch)[0] for branch in branches)
        entry = next((get_args(a)[0] for a in plain if get_origin(a) is tuple), None)
        return None if entry is None else FieldInfo(*split_annotation(entry))

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The names that choose between the models of a union."""
        return tuple(tag for model in self.models for tag in self.list_tags(model))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that may stand for a whole block: `adam` for `{name: adam}`."""
        if self.tag_key is None or self.shorthand_key != self.tag_key:
            return ()
        complete = (model for model in self.models if _needs_only(model, self.tag_key))
        return tuple(tag for model in complete for tag in self.list_tags(model))

    @cached_property
    def shorthand_key(self) -> str | None:
        """The key of a block that its short form gives; None if there is no short form."""
        for probe in ("", 0):
            if isinstance(expanded := self.expand_shorthand(probe), dict):
                return str(next(iter(expanded)))
        return None

    def expand_shorthand(self, value: object) -> object:
        """Expand a short form, `adam` to `{name: adam}`; return any other value as it is."""
        for entry in self.metadata:
            if isinstance(entry, BeforeValidator):
                value = entry.func(value)  # type: ignore[call-arg]  # none of ours takes an info
        return value

    def list_tags(self, model: type[BaseModel]) -> tuple[str, ...]:
        """Return the names that choose one model of the union."""
        return get_args(model.model_fields[self.tag_key].annotation) if self.tag_key else ()

    def find_model(self, tag: object) -> type[BaseModel] | None:
        """Return the model that a tag chooses, or the only one there is."""
        if self.tag_key is None:
            return self.models[0] if self.models else None
        return next((m for m in self.models if tag in self.list_tags(m)), None)

    def list_fields(self) -> dict[str, FieldInfo]:
        """Return the fields of a block by their keys, those of all models of a union."""
        fields: dict[str, FieldInfo] = {}
        for model in self.models:
            for key in model.model_fields:
                fields.setdefault(key, get_field(model, key))
        return fields

    def find_child(self, key: str | int) -> FieldInfo | None:
        """Return a field of a block, of whichever model has it, or a list's entry."""
        if isinstance(key, int):
            return self.item
        return next((get_field(m, key) for m in self.models if key in m.model_fields), None)


ROOT = FieldInfo(Config)


def is_union(annotation: Any) -> bool:
    """Return whether an annotation is `A | B` or `Union[A, B]`."""
    return get_origin(annotation) in (Union, UnionType)


def is_literal(annotation: Any) -> bool:
    """Return whether an annotation is a `Literal`."""
    return get_origin(annotation) is Literal


def split_annotation(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split `Annotated[T, …]` into T and its metadata, that of a `Field(…)` included."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *entries = get_args(annotation)
    metadata: list[Any] = []
    for entry in entries:
        metadata.extend(entry.metadata if isinstance(entry, pydantic.fields.FieldInfo) else [entry])
    return inner, tuple(metadata)


def get_field(model: type[BaseModel], key: str) -> FieldInfo:
    """Return one field of a model."""
    info = model.model_fields[key]
    return FieldInfo(
        annotation=info.annotation,
        metadata=tuple(info.metadata),
        tag_key=info.discriminator if isinstance(info.discriminator, str) else None,
        default=None if info.is_required() else info.default,
        title=info.title or key,
        description=info.description or "",
    )


def find_field(path: Sequence[str | int]) -> FieldInfo | None:
    """Return the field at a path, of whichever models of the unions around it have it."""
    field: FieldInfo | None = ROOT
    for part in path:
        field = field.find_child(part) if field else None
    return field


def split_key(key: str) -> KeyPath:
    """Split a dotted key into a path; numbers are indices in lists, and keys elsewhere."""
    path: list[str | int] = []
    field: FieldInfo | None = ROOT
    for part in key.split("."):
        is_index = field is not None and field.item is not None and part.isdecimal()
        path.append(int(part[:9]) if is_index else part)
        field = field.find_child(path[-1]) if field else None
    return tuple(path)


def list_keys(field: FieldInfo = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key that any config may have, those inside of lists left out."""
    for key, child in field.list_fields().items():
        yield (*path, key)
        yield from list_keys(child, (*path, key))


@dataclass(frozen=True)
class ErrorLocation:
    """The location of one of pydantic's errors.

    Attributes:
        path: of the key, without the tags that pydantic puts between the keys.
        field: what is known of the key; None if there is no such key.
        owner: the model that the last key was looked up in; None for an entry of a list.
        parent: the field that holds the last key.
        tag: the tag of the owner; empty if it is not one of a union.
    """

    path: KeyPath
    field: FieldInfo | None
    owner: type[BaseModel] | None
    parent: FieldInfo
    tag: str = ""


def locate_error(loc: Sequence[str | int], root: FieldInfo = ROOT) -> ErrorLocation:
    """Translate the `loc` of one of pydantic's errors."""
    at = ErrorLocation((), root, None, root)
    model, tag = root.find_model(None), ""
    for part in loc:
        field = at.field
        if field is None or not (field.models or field.item):
            break  # the rest names a branch in a union of scalars
        if field.item and str(part).startswith("tuple["):
            continue  # the branch of a union that takes a list
        if field.item and not isinstance(part, int):
            break
        if field.tag_key and model is None:
            model, tag = field.find_model(part), str(part)
            continue
        child = field.item
        if model:
            child = get_field(model, str(part)) if part in model.model_fields else None
        at = ErrorLocation((*at.path, part), child, model, field, tag)
        model = child.find_model(None) if child and not child.tag_key else None
    return at


@dataclass(frozen=True)
class KeyCompletion:
    """One completion of what was typed.

    Attributes:
        text: the whole word after the completion.
        help: shown next to it; may be empty.
    """

    text: str
    help: str = ""


def iter_key_completions(typed: str) -> Iterator[KeyCompletion]:
    """Yield the completions of an argument of `--set`: the keys of a block, or a key's values.

    Args:
        typed: the argument so far, `training.optim` or `model.activation=re`.
    """
    key, equals, _ = typed.partition("=")
    if equals:
        yield from (KeyCompletion(f"{key}={value}") for value in _list_values(key))
        return
    prefix, dot, _ = key.rpartition(".")
    block = find_field(split_key(prefix)) if dot else ROOT
    if block is not None:
        yield from _complete_key(block, prefix + dot)


def make_json_schema() -> JsonObject:
    """Return the JSON Schema (draft 2020-12) of a config's YAML file.

    pydantic describes the models; what a file may leave out or abbreviate is added. Rules over
    several keys are not part of it.
    """
    schema = Config.model_json_schema(schema_generator=_Generator)
    blocks: dict[str, JsonObject] = {Config.__name__: schema, **schema["$defs"]}
    for model in dict.fromkeys(_list_models(ROOT)):
        for key, entry in blocks[model.__name__]["properties"].items():
            _add_short_forms(entry, get_field(model, key), blocks)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": "mnistcli config",
        "description": "One experiment. Keys that are left out take their defaults.",
    }


def write_json_schema() -> str:
    """Return the JSON Schema as the text of a file."""
    return json.dumps(make_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _needs_only(model: type[BaseModel], key: str) -> bool:
    """Return whether a key is the only one that a model requires, if any."""
    return all(name == key or not info.is_required() for name, info in model.model_fields.items())


def _list_values(key: str) -> tuple[str, ...]:
    """Return the words that are values of a dotted key."""
    path = split_key(key)
    field, parent = find_field(path), find_field(path[:-1])
    if field is None or parent is None:
        return ()
    if path[-1] == parent.tag_key:
        return parent.tags
    words = field.names or _list_words(field.annotation)
    return (*words, *(("null",) if field.is_nullable else ()))


def _list_words(annotation: Any) -> tuple[str, ...]:
    """Return the words that are values of an annotation, those of a union's members included."""
    annotation, _ = split_annotation(annotation)
    if annotation is bool:
        return ("true", "false")
    if is_literal(annotation):
        return get_args(annotation)
    if get_origin(annotation) is tuple:
        return ()
    return tuple(word for member in get_args(annotation) for word in _list_words(member))


def _complete_key(block: FieldInfo, prefix: str) -> Iterator[KeyCompletion]:
    """Yield the keys of a block: with a dot if keys follow, with `=` if a value may follow."""
    if block.item is not None:
        yield KeyCompletion(f"{prefix}0.", "the first; they are counted from 0")
    for key, child in block.list_fields().items():
        if child.models:
            yield KeyCompletion(f"{prefix}{key}.", child.description)
        if not child.models or child.shorthand_key or child.is_nullable:
            yield KeyCompletion(f"{prefix}{key}=", child.description)
        if child.item is not None and child.item.models:
            yield KeyCompletion(f"{prefix}{key}.", child.description)


class _Generator(GenerateJsonSchema):
    """Leaves out the titles that only repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def _list_models(field: FieldInfo) -> Iterator[type[BaseModel]]:
    """Yield every model of the config, once for each of its places."""
    for model in field.models:
        yield model
        for key in model.model_fields:
            child = get_field(model, key)
            yield from _list_models(child.item or child)


def _add_short_forms(entry: JsonObject, field: FieldInfo, blocks: dict[str, JsonObject]) -> None:
    """Add the short forms of a key, which its validators expand, to its schema."""
    if field.item is not None and "items" in entry:
        _add_short_forms(entry["items"], field.item, blocks)
    if field.tag_key and field.default is not None:  # a block without a name is the default's
        required = blocks[type(field.default).__name__].get("required", [])
        if field.tag_key in required:
            required.remove(field.tag_key)
    alternatives = [*_list_short_forms(field, blocks)]
    if not alternatives:
        return
    full = {key: entry.pop(key) for key in _VALUE_KEYWORDS if key in entry}
    entry["anyOf"] = [*alternatives, *(full["anyOf"] if [*full] == ["anyOf"] else [full])]


def _list_short_forms(field: FieldInfo, blocks: dict[str, JsonObject]) -> Iterator[JsonObject]:
    """Yield the schemas of the short forms: a name, a number, a mapping for a list."""
    key = field.shorthand_key
    if field.names:
        yield {"enum": list(field.names), "type": "string"}
    elif key is not None:
        yield blocks[field.models[0].__name__]["properties"][key]
    if isinstance(field.expand_shorthand({"0": 1.0, "1": 1.0}), list):
        yield {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
