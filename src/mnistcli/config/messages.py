"""Explain pydantic's errors in the user's words: the key, what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mnistcli.config.field_info import (
    ROOT,
    ErrorLocation,
    FieldInfo,
    find_field,
    is_literal,
    is_union,
    list_keys,
    locate_error,
    split_annotation,
)
from mnistcli.config.validation_errors import (
    ConfigIssue,
    KeyPath,
    find_nearest,
    format_path,
    format_value,
)
from mnistcli.config.yaml_reader import ScalarError, resolve_scalar
from mnistcli.errors import MAX_PROBLEMS

_YES = {"yes", "on", "y", "true"}
_NO = {"no", "off", "n", "false"}


def explain_errors(error: ValidationError, root: FieldInfo = ROOT) -> list[ConfigIssue]:
    """Return the issues of one of pydantic's errors, one for each key, in pydantic's order.

    Args:
        error: what pydantic raised.
        root: the model that was validated.
    """
    issues: dict[KeyPath, ConfigIssue] = {}
    for details in error.errors(include_url=False):
        if not _is_redundant(details):
            # More are not shown, and each costs a search for the nearest key.
            issue = (
                _explain(details, root)
                if len(issues) < MAX_PROBLEMS
                else ConfigIssue(locate_error(details["loc"], root).path, "wrong too")
            )
            issues.setdefault(issue.path, issue)
    return list(issues.values())


def list_accepted(field: FieldInfo) -> tuple[set[Any], tuple[str, ...]]:
    """Return the Python types and the words that are values of a field, its short form included."""
    short = field.find_child(field.shorthand_key) if field.shorthand_key else None
    annotation = (short or field).annotation
    branches = get_args(annotation) if is_union(annotation) else (annotation,)
    plain = [split_annotation(branch)[0] for branch in branches]
    words = tuple(word for a in plain if is_literal(a) for word in get_args(a))
    return {a for a in plain if not is_literal(a) and isinstance(a, type)}, words


def _is_redundant(details: ErrorDetails) -> bool:
    # pydantic calls a list too short if entries of it are invalid.
    is_short = details["type"] == "too_short"
    return is_short and len(details["input"]) >= details["ctx"]["min_length"]


def _explain(details: ErrorDetails, root: FieldInfo) -> ConfigIssue:
    at = locate_error(details["loc"], root)
    kind = details["type"]
    if at.field is None:
        return _make_unknown_key_issue(at, root)
    if kind == "missing":
        return _make_missing_key_issue(at, at.field)
    if kind.startswith("union_tag"):
        return _make_wrong_tag_issue(at.path, at.field, details["input"])
    return _make_wrong_value_issue(at.path, at.field, details["input"])


def _make_missing_key_issue(at: ErrorLocation, field: FieldInfo) -> ConfigIssue:
    tag_key = at.parent.tag_key
    depends_on = ((*at.path[:-1], tag_key),) if tag_key else ()
    if field.title == at.path[-1]:
        return ConfigIssue(
            at.path, "missing", f"give it {_describe_expected(field)}", depends_on=depends_on
        )
    return ConfigIssue(at.path, "missing", f"give the {field.title}", depends_on=depends_on)


def _make_wrong_value_issue(path: KeyPath, field: FieldInfo, value: object) -> ConfigIssue:
    what = f"expected {_describe_expected(field)}, received {format_value(value)}"
    return ConfigIssue(path, what, _suggest_value(field, value))


def _make_wrong_tag_issue(path: KeyPath, field: FieldInfo, value: Any) -> ConfigIssue:
    key = field.tag_key or ""
    if isinstance(value, dict) and key not in value:
        return ConfigIssue(
            path, f"the key {key} is missing", f"give it {_join_choices(field.tags)}"
        )
    tag = value.get(key) if isinstance(value, dict) else value
    what = f"expected {_join_choices(field.tags)}, received {format_value(tag)}"
    return ConfigIssue((*path, key), what, _suggest_choice(tag, field.tags))


def _make_unknown_key_issue(at: ErrorLocation, root: FieldInfo) -> ConfigIssue:
    *block, last = at.path
    key = str(last)
    siblings = tuple(at.owner.model_fields) if at.owner else ()
    owners = [m for m in at.parent.models if key in m.model_fields]
    if owners and at.owner:
        return _make_foreign_key_issue(at, key, [t for m in owners for t in at.parent.list_tags(m)])
    elsewhere = {path[-1]: format_path(path) for path in reversed(list(list_keys(root)))}
    if key not in elsewhere and (near := find_nearest(key, siblings)):
        dotted = format_path((*block, near))
        return _make_misspelt_key_issue(at.path, f"did you mean {near}?", f"did you mean {dotted}?")
    if near := find_nearest(key, elsewhere):
        return _make_misspelt_key_issue(at.path, f"did you mean {elsewhere[near]}?")
    return _make_misspelt_key_issue(at.path, f"the keys here are {', '.join(siblings)}")


def _make_misspelt_key_issue(path: KeyPath, hint: str, flag_hint: str | None = None) -> ConfigIssue:
    return ConfigIssue(path, "unknown key", hint, flag_hint, is_key=True)


def _make_foreign_key_issue(at: ErrorLocation, key: str, tags: list[str]) -> ConfigIssue:
    """Return the issue of a key that another model of the union has: adam has no momentum."""
    tag_path = (*at.path[:-1], at.parent.tag_key or "")
    field = find_field(at.path)
    what = f"{at.tag} has no {field.title if field else key}"
    hint = f"set {format_path(tag_path)}: {' or '.join(tags)}, or remove it"
    flag_hint = f"set {format_path(tag_path)}={tags[0]} too, or leave it out"
    return ConfigIssue(at.path, what, hint, flag_hint, is_key=True, depends_on=(tag_path,))


def _describe_expected(field: FieldInfo) -> str:
    """Describe the values that a field accepts: `a whole number from 1 to 65536`."""
    if field.models:
        return _describe_mapping(field)
    return _describe_scalar(field.annotation, field.metadata)


def _describe_list(metadata: Iterable[Any]) -> str:
    metadata = tuple(metadata)
    low = next(m.min_length for m in metadata if isinstance(m, MinLen))
    high = next(m.max_length for m in metadata if isinstance(m, MaxLen))
    return f"a list of {low} to {high} entries"


def _describe_mapping(field: FieldInfo) -> str:
    return f"{_describe_block(field)}, or null" if field.is_nullable else _describe_block(field)


def _describe_block(field: FieldInfo) -> str:
    if field.tag_key:
        block, words = f"a mapping with the key {field.tag_key}", _join_choices(field.tags)
        return f"{words}, or {block}" if field.shorthand_key else f"{block}: {words}"
    keys = ", ".join(field.models[0].model_fields)
    short = field.find_child(field.shorthand_key) if field.shorthand_key else None
    shorthand = f"{_describe_expected(short)}, or " if short else ""
    return f"{shorthand}a mapping with keys among {keys}"


def _describe_scalar(annotation: Any, metadata: Iterable[Any]) -> str:
    if is_union(annotation):
        parts = [split_annotation(part) for part in get_args(annotation)]
        if float in dict(parts):  # whole numbers are among the numbers
            parts = [(part, more) for part, more in parts if part is not int]
        return ", or ".join(_describe_scalar(part, (*more, *metadata)) for part, more in parts)
    if is_literal(annotation):
        return _join_choices(get_args(annotation))
    if get_origin(annotation) is tuple:
        return _describe_list(metadata)
    if get_origin(annotation) is dict:
        return "a mapping"
    names = {bool: "true or false", type(None): "null", int: "a whole number", float: "a number"}
    pattern = next((p for m in metadata if (p := getattr(m, "pattern", None))), None)
    text = f"text that matches {pattern}" if pattern else "text"
    noun = names.get(annotation, text)
    return f"{noun}{_describe_range(metadata)}" if annotation in (int, float) else noun


def _describe_range(metadata: Iterable[Any]) -> str:
    """Describe bounds; `below` and `above` exclude the number after them."""
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
    # 1e6 is easier to read as 1000000, 1e300 is not.
    is_short = number == int(number) and abs(number) < 1e15
    return f"{int(number)}" if is_short else f"{number:g}"


def _join_choices(words: Iterable[str]) -> str:
    words = tuple(words)
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def _suggest_choice(value: object, words: Iterable[str]) -> str:
    near = find_nearest(value, words) if isinstance(value, str) else None
    return f"did you mean {near}?" if near else ""


def _suggest_value(field: FieldInfo, value: object) -> str:
    """Suggest how to write the value that was probably meant; empty if there is none."""
    kinds, words = list_accepted(field)
    if hint := _suggest_choice(value, words):
        return hint
    if isinstance(value, str):
        return _suggest_unquoted(value, kinds)
    if value is None and field.models:
        return "give it a key, or remove it for the defaults"
    if type(value) is int and field.item:
        return f"write [{value}]"
    if isinstance(value, float) and int in kinds and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    return ""


def _suggest_unquoted(text: str, kinds: set[Any]) -> str:
    """Suggest a number for one in quotes, and a boolean for a word that is one in YAML 1.1."""
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
