"""Explain pydantic's errors in the user's words: the key, what is wrong, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mnistcli.config.allowed_values import KEYS_OF_FLAGS
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
    split_key,
)
from mnistcli.config.suggestions import find_nearest, find_synonym
from mnistcli.config.validation_errors import (
    ConfigIssue,
    KeyPath,
    format_path,
    format_value,
)
from mnistcli.config.yaml_reader import ScalarError, resolve_scalar
from mnistcli.errors import MAX_PROBLEMS, quote_words
from mnistcli.file_kinds import is_existing_path

_YES = {"yes", "on", "y", "true"}
_NO = {"no", "off", "n", "false"}
_NULL = {"none", "nil", "null", "off", "false"}
_SET = "--set"
_TAG_WORDS = {"type", "name", "kind", "class", "class_name"}
_FLAGS_OF_KEYS = {key: flag for flag, key in KEYS_OF_FLAGS.items()}
_ELSEWHERE_CUTOFF = 0.8

# Numbers in other notations: 64,32 and 28x28; 1,000; 20%; 10^-3; 10k; 5 epochs.
_NUMBERS = re.compile(r"\d+(?:\s*[x\u00d7,;*-]\s*\d+|\s+\d+)+,?|\d+,")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[,\s]\d{3})+")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_POWER = re.compile(r"10(?:\^|\*\*)\(?([-+]?\d{1,2})\)?")
_ROUND = re.compile(r"(\d{1,6})([km])")
_UNIT = re.compile(r"\s*(?:epochs?|steps?|px|s|f|l)$")


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


def find_key(word: str, siblings: Sequence[str] = (), root: FieldInfo = ROOT) -> str | None:
    """Return the dotted key that was probably meant by an unknown one, None if none is near.

    Args:
        word: its last part.
        siblings: the dotted keys of its block, which need not be spelt as closely as others.
        root: the model that has the keys.
    """
    everywhere = [format_path(path) for path in list_keys(root)]
    ends = {key.rpartition(".")[2]: key for key in reversed(everywhere)}
    near_ends = {key.rpartition(".")[2]: key for key in siblings}
    if found := find_synonym(word, siblings) or find_synonym(word, everywhere) or ends.get(word):
        return found
    if near := find_nearest(word, near_ends):
        return near_ends[near]
    return ends.get(find_nearest(word, ends, _ELSEWHERE_CUTOFF) or "")


def suggest_flag(word: str, value: str | None, flags: Sequence[str]) -> str:
    """Suggest what to type for an unknown flag; empty if nothing is near.

    Args:
        word: with its dashes.
        value: what follows it on the command line; None if nothing does.
        flags: of the command.
    """
    near = find_synonym(word, [*flags, *(KEYS_OF_FLAGS.values() if _SET in flags else ())])
    key = None if near in flags or _SET not in flags else near or find_key(_strip(word))
    near = near if near in flags else _FLAGS_OF_KEYS.get(key or "")
    if near is None and key is not None:
        return suggest_assignment(key, value, is_negated=word.startswith("--no-"))
    near = near or find_nearest(word, flags)
    return f"did you mean {near}?" if near else ""


def suggest_assignment(key: str, value: str | None, *, is_negated: bool = False) -> str:
    """Suggest the argument of `--set` for a dotted key, quoted for a shell."""
    field = find_field(split_key(key))
    if field is not None and field.models and not field.shorthand_key:  # a block: its first key
        first = next(iter(field.list_fields()))
        key, field = f"{key}.{first}", field.find_child(first)
    default = None if field is None else field.default
    if field is not None and field.annotation is bool:
        value = str(not is_negated).lower()
    if field is not None and value:
        value = find_synonym(value, [*field.tags, *list_accepted(field)[1]]) or value
    shown = value or ("VALUE" if default is None or default == () else f"{default}")
    return f"write {quote_words(_SET, f'{key}={shown}')}"


def _strip(word: str) -> str:
    return word.lstrip("-").removeprefix("no-").replace("-", "_")


def _is_redundant(details: ErrorDetails) -> bool:
    # pydantic calls a list too short if entries of it are invalid.
    kind, value = details["type"], details["input"]
    if kind == "too_short":
        return bool(len(value) >= details["ctx"]["min_length"])
    # A word that a union accepts besides lists: what is wrong with the list is said by itself.
    is_branch = str(details["loc"][-1]).startswith("literal[")
    return kind == "literal_error" and is_branch and isinstance(value, list)


def _explain(details: ErrorDetails, root: FieldInfo) -> ConfigIssue:
    at = locate_error(details["loc"], root)
    kind = details["type"]
    if at.field is None:
        return _make_unknown_key_issue(at, details["input"], root)
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
    hint, literal = _suggest_value(field, value, is_entry=isinstance(path[-1], int))
    is_block = bool(field.models) and not field.shorthand_key and bool(hint)
    flag_hint = f"set its keys: --set {format_path(path)}.KEY=VALUE" if is_block else None
    return ConfigIssue(path, what, hint, flag_hint, literal=literal)


def _make_wrong_tag_issue(path: KeyPath, field: FieldInfo, value: Any) -> ConfigIssue:
    key = field.tag_key or ""
    if isinstance(value, dict) and key not in value:
        return ConfigIssue(
            path, f"the key {key} is missing", f"give it {_join_choices(field.tags)}"
        )
    tag = value.get(key) if isinstance(value, dict) else value
    what = f"expected {_join_choices(field.tags)}, received {format_value(tag)}"
    if field.is_nullable and str(tag).lower() in _NULL:
        return ConfigIssue(path, what, "write null", literal="null")
    if path == ("dataset",) and isinstance(tag, str) and is_existing_path(tag):
        literal = f"{{name: files, path: {json.dumps(tag, ensure_ascii=False)}}}"
        flag_hint = f"give {quote_words('--data', tag)}"
        return ConfigIssue((*path, key), what, f"write dataset: {literal}", flag_hint)
    return ConfigIssue((*path, key), what, _suggest_choice(tag, field.tags))


def _make_unknown_key_issue(at: ErrorLocation, value: object, root: FieldInfo) -> ConfigIssue:
    *block, last = at.path
    key = str(last)
    siblings = tuple(at.owner.model_fields) if at.owner else ()
    owners = [m for m in at.parent.models if key in m.model_fields]
    if owners and at.owner:
        return _make_foreign_key_issue(at, key, [t for m in owners for t in at.parent.list_tags(m)])
    near = find_key(key, [format_path((*block, sibling)) for sibling in siblings], root)
    if key in _TAG_WORDS and at.parent.tag_key:
        near = format_path((*block, at.parent.tag_key))
    hint = f"did you mean {near}?" if near else f"the keys here are {', '.join(siblings)}"
    if key.isdecimal() and value is None:  # {epochs: 1,000} are two keys
        hint = "in braces a comma ends a value: write numbers without one, and lists in brackets"
    return ConfigIssue(at.path, "unknown key", hint, is_key=True)


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
    if not isinstance(value, str):
        return ""
    # torch.optim.Adam(lr=0.1) is named by the last word before the brackets.
    near = find_nearest(re.split(r"[(,]", value)[0].rpartition(".")[2], words)
    return f"did you mean {near}?" if near else ""


def _suggest_value(field: FieldInfo, value: object, *, is_entry: bool) -> tuple[str, str]:
    """Return a hint on how to write the value that was probably meant, and that value in YAML."""
    kinds, words = list_accepted(field)
    if field.is_nullable and isinstance(value, str) and value.lower() in _NULL:
        return "write null", "null"
    if hint := _suggest_choice(value, words):
        return hint, ""
    if field.models and not field.shorthand_key:
        return _suggest_block(field, value)
    literal = _find_literal(field, kinds, value)
    if is_entry and isinstance(value, str) and _is_list(value) and int in kinds:
        literal = _join_numbers(value)
    is_quoted = isinstance(value, str) and _is_number(value)
    return f"write {literal}{' without quotes' if is_quoted else ''}" if literal else "", literal


def _suggest_block(field: FieldInfo, value: object) -> tuple[str, str]:
    """Return a hint on how to write the block that was probably meant, and that in YAML."""
    keys = field.list_fields()
    literal = ""
    if value in field.tags:
        literal = f"{{{field.tag_key}: {value}}}"
    elif type(value) is int and "patience" in keys:
        literal = f"{{patience: {value}}}"
    elif value is True and isinstance(keys[first := next(iter(keys))].default, str):
        literal = f"{{{first}: {keys[first].default}}}"
    if literal:
        return f"write {literal}", literal
    if value is None:
        return "indent its keys below it, or remove it for the defaults", ""
    return "write key: value lines below it, without dashes", ""


def _find_literal(field: FieldInfo, kinds: set[Any], value: object) -> str:
    """Return how the value that was probably meant is written in YAML; empty if there is none."""
    if isinstance(value, str):
        return _find_literal_in_text(value, kinds, has_entries=field.item is not None)
    if str in kinds and isinstance(value, int | float | None):
        return f'"{format_value(value)}"'
    if bool in kinds and type(value) is int and value in (0, 1):
        return format_value(bool(value))
    if type(value) is int and field.item:
        return f"[{', '.join([str(value)] * _count_least(field))}]"
    if isinstance(value, float) and int in kinds and value.is_integer() and abs(value) < 1e15:
        return f"{int(value)}"
    return ""


def _count_least(field: FieldInfo) -> int:
    """Return how many entries a list must have."""
    branches = get_args(field.annotation) if is_union(field.annotation) else ()
    metadata = [*field.metadata, *(m for branch in branches for m in split_annotation(branch)[1])]
    return next((m.min_length for m in metadata if isinstance(m, MinLen)), 1)


def _find_literal_in_text(text: str, kinds: set[Any], *, has_entries: bool) -> str:
    word = text.strip().lower()
    if bool in kinds and word in _YES | _NO:
        return "true" if word in _YES else "false"
    if has_entries and _is_list(word):
        return f"[{_join_numbers(word)}]"
    if not kinds & {int, float}:
        return ""
    number = _find_number(word)
    is_fitting = isinstance(number, int) or (isinstance(number, float) and float in kinds)
    return f"{number}" if is_fitting else ""


def _join_numbers(text: str) -> str:
    return ", ".join(re.findall(r"\d+", text))


def _is_list(text: str) -> bool:
    return _NUMBERS.fullmatch(text.strip(" ()[]").lower()) is not None


def _is_number(text: str) -> bool:
    try:
        return type(resolve_scalar(text)) in (int, float)
    except ScalarError:
        return False


def _find_number(word: str) -> object:
    """Return the number that a word means in another notation, None if it is none."""
    if percent := _PERCENT.fullmatch(word):
        return float(percent[1]) / 100
    if power := _POWER.fullmatch(word):
        return 10.0 ** int(power[1])
    if thousands := _ROUND.fullmatch(word):
        return int(thousands[1]) * (1000 if thousands[2] == "k" else 1_000_000)
    plain = _UNIT.sub("", word)
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain.replace(",", ".")
    try:
        number = resolve_scalar(re.sub(r"[_ ]", "", plain))
    except ScalarError:
        return None
    return None if isinstance(number, bool) else number
