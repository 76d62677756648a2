"""pydantic's errors become faults in the user's words: the key, the mistake and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mnistcli.config.field_info import (
    ROOT,
    Located,
    Slot,
    find_slot,
    is_literal,
    is_union,
    list_keys,
    locate,
    split_annotation,
)
from mnistcli.config.validation_errors import (
    Fault,
    KeyPath,
    find_nearest,
    format_path,
    format_value,
)
from mnistcli.config.yaml_reader import ScalarError, resolve_scalar

_YES = {"yes", "on", "y", "true"}
_NO = {"no", "off", "n", "false"}


def explain_errors(error: ValidationError, root: Slot = ROOT) -> list[Fault]:
    """Turn each mistake that pydantic found into a fault, one a key, in pydantic's order.

    Args:
        error: what pydantic raised.
        root: of the model that was validated.
    """
    faults: dict[KeyPath, Fault] = {}
    for details in error.errors(include_url=False):
        if not _is_echo(details):
            fault = _explain(details, root)
            faults.setdefault(fault.path, fault)
    return list(faults.values())


def _is_echo(details: ErrorDetails) -> bool:
    """A list is not too short because entries of it are wrong, though pydantic says so."""
    is_short = details["type"] == "too_short"
    return is_short and len(details["input"]) >= details["ctx"]["min_length"]


def _explain(details: ErrorDetails, root: Slot) -> Fault:
    """Sort the kinds of error by what the user has to know."""
    at = locate(details["loc"], root)
    kind = details["type"]
    if at.slot is None:
        return _unknown_key(at, root)
    if kind == "missing":
        return _missing_key(at, at.slot)
    if kind.startswith("union_tag"):
        return _wrong_tag(at.path, at.slot, details["input"])
    return _wrong_value(at.path, at.slot, details["input"])


def _missing_key(at: Located, slot: Slot) -> Fault:
    """A key without a default, which the kind of its block may be to blame for."""
    tag_key = at.parent.tag_key
    involves = ((*at.path[:-1], tag_key),) if tag_key else ()
    if slot.title == at.path[-1]:
        return Fault(at.path, "missing", f"give it {expectation(slot)}", involves=involves)
    return Fault(at.path, "missing", f"give the {slot.title}", involves=involves)


def _wrong_value(path: KeyPath, slot: Slot, value: object) -> Fault:
    """A type, a range or a choice that does not fit."""
    what = f"expected {expectation(slot)}, received {format_value(value)}"
    return Fault(path, what, _suggest_value(slot, value))


def _wrong_tag(path: KeyPath, slot: Slot, value: Any) -> Fault:
    """The word that chooses a model is none of its choices."""
    key = slot.tag_key or ""
    if isinstance(value, dict) and key not in value:
        return Fault(path, f"the key {key} is missing", f"give it {_one_of(slot.tags)}")
    tag = value.get(key) if isinstance(value, dict) else value
    what = f"expected {_one_of(slot.tags)}, received {format_value(tag)}"
    return Fault((*path, key), what, _suggest_choice(tag, slot.tags))


def _unknown_key(at: Located, root: Slot) -> Fault:
    """A key that belongs to another kind, is misspelt, or stands in the wrong block."""
    *block, last = at.path
    key = str(last)
    siblings = tuple(at.owner.model_fields) if at.owner else ()
    owners = [m for m in at.parent.models if key in m.model_fields]
    if owners and at.owner:
        return _foreign_key(at, key, [t for m in owners for t in at.parent.list_tags(m)])
    elsewhere = {path[-1]: format_path(path) for path in reversed(list(list_keys(root)))}
    if key not in elsewhere and (near := find_nearest(key, siblings)):
        dotted = format_path((*block, near))
        return _misspelt_key(at.path, f"did you mean {near}?", f"did you mean {dotted}?")
    if near := find_nearest(key, elsewhere):
        return _misspelt_key(at.path, f"did you mean {elsewhere[near]}?")
    return _misspelt_key(at.path, f"the keys here are {', '.join(siblings)}")


def _misspelt_key(path: KeyPath, hint: str, flag_hint: str | None = None) -> Fault:
    """Say what all unknown keys have in common."""
    return Fault(path, "unknown key", hint, flag_hint, is_key=True)


def _foreign_key(at: Located, key: str, tags: list[str]) -> Fault:
    """A key that another model of the same union has: adam has no momentum, sgd does."""
    tag_path = (*at.path[:-1], at.parent.tag_key or "")
    slot = find_slot(at.path)
    what = f"{at.tag} has no {slot.title if slot else key}"
    hint = f"set {format_path(tag_path)}: {' or '.join(tags)}, or remove it"
    flag_hint = f"set {format_path(tag_path)}={tags[0]} too, or leave it out"
    return Fault(at.path, what, hint, flag_hint, is_key=True, involves=(tag_path,))


def expectation(slot: Slot) -> str:
    """Say what a slot takes: `a whole number from 1 to 65536`."""
    if slot.models:
        return _expect_mapping(slot)
    return _expect_scalar(slot.annotation, slot.metadata)


def _expect_list(metadata: Iterable[Any]) -> str:
    """How many entries a list has."""
    metadata = tuple(metadata)
    low = next(m.min_length for m in metadata if isinstance(m, MinLen))
    high = next(m.max_length for m in metadata if isinstance(m, MaxLen))
    return f"a list of {low} to {high} entries"


def _expect_mapping(slot: Slot) -> str:
    """A block's keys, and what may stand for the whole block."""
    return f"{_expect_block(slot)}, or null" if slot.is_nullable else _expect_block(slot)


def _expect_block(slot: Slot) -> str:
    """A block's keys, or the word that chooses them."""
    if slot.tag_key:
        block, words = f"a mapping with the key {slot.tag_key}", _one_of(slot.tags)
        return f"{words}, or {block}" if slot.shorthand_key else f"{block}: {words}"
    keys = ", ".join(slot.models[0].model_fields)
    field = slot.find_child(slot.shorthand_key) if slot.shorthand_key else None
    shorthand = f"{expectation(field)}, or " if field else ""
    return f"{shorthand}a mapping with keys among {keys}"


def _expect_scalar(annotation: Any, metadata: Iterable[Any]) -> str:
    """A number's range, a word's choices, a list's length."""
    if is_union(annotation):
        parts = [split_annotation(part) for part in get_args(annotation)]
        return ", or ".join(_expect_scalar(part, (*more, *metadata)) for part, more in parts)
    if is_literal(annotation):
        return _one_of(get_args(annotation))
    if get_origin(annotation) is tuple:
        return _expect_list(metadata)
    if get_origin(annotation) is dict:
        return "a mapping"
    names = {bool: "true or false", type(None): "null", int: "a whole number", float: "a number"}
    pattern = next((p for m in metadata if (p := getattr(m, "pattern", None))), None)
    text = f"text that matches {pattern}" if pattern else "text"
    noun = names.get(annotation, text)
    return f"{noun}{_expect_range(metadata)}" if annotation in (int, float) else noun


def _expect_range(metadata: Iterable[Any]) -> str:
    """Bounds in words; `below` and `above` exclude the number that follows."""
    low = high = ""
    for bound in metadata:
        match bound:
            case Ge(ge=number):
                low = f" from {_format_bound(number)}"
            case Gt(gt=number):
                low = f" above {_format_bound(number)}"
            case Le(le=number):
                high = f" to {_format_bound(number)}"
            case Lt(lt=number):
                high = f" to below {_format_bound(number)}"
    if low.startswith(" above") and high:
        return f"{low}, up{high}"
    return f"{low}{high}"


def _format_bound(number: Any) -> str:
    """1e6 is easier to read as 1000000."""
    return str(int(number) if number == int(number) else number)


def _one_of(words: Iterable[str]) -> str:
    """A single choice needs no list."""
    words = tuple(words)
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def _suggest_choice(value: object, words: Iterable[str]) -> str:
    """A misspelt word has a nearest right one."""
    near = find_nearest(value, words) if isinstance(value, str) else None
    return f"did you mean {near}?" if near else ""


def _suggest_value(slot: Slot, value: object) -> str:
    """Show how to write what was probably meant."""
    kinds, words = list_kinds(slot)
    if hint := _suggest_choice(value, words):
        return hint
    if isinstance(value, str):
        return _suggest_unquoted(value, kinds)
    if value is None and slot.models:
        return "give it a key, or remove it for the defaults"
    if type(value) is int and slot.item:
        return f"write [{value}]"
    if isinstance(value, float) and int in kinds and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    return ""


def _suggest_unquoted(text: str, kinds: set[Any]) -> str:
    """Numbers in quotes, and the many words that YAML 1.1 took for booleans."""
    word = text.lower()
    if bool in kinds and word in _YES | _NO:
        return f"write {'true' if word in _YES else 'false'}"
    try:
        number = resolve_scalar(text.replace("_", ""))
    except ScalarError:
        return ""
    is_number = type(number) in (int, float) and kinds & {int, float}
    if not is_number:
        return ""
    return f"write {number}" if "_" in text else f"write {number} without quotes"


def list_kinds(slot: Slot) -> tuple[set[Any], tuple[str, ...]]:
    """Return the Python types and the words that a slot accepts, a block's shorthand included."""
    field = slot.find_child(slot.shorthand_key) if slot.shorthand_key else None
    annotation = (field or slot).annotation
    branches = get_args(annotation) if is_union(annotation) else (annotation,)
    plain = [split_annotation(branch)[0] for branch in branches]
    words = tuple(word for a in plain if is_literal(a) for word in get_args(a))
    return {a for a in plain if not is_literal(a) and isinstance(a, type)}, words
