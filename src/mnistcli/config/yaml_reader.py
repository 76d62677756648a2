"""Read YAML strictly: plain values, and the line and column of each.

Tags, duplicate keys and second documents are refused; anchors and aliases are allowed within
`MAX_NODES` and `MAX_DEPTH`. PyYAML parses the text into events. Its constructor is not used, since
it keeps no positions, takes the last of two equal keys and has no limits.

Unquoted scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema),
where PyYAML follows YAML 1.1: `1e-3` is a float, `yes`, `on`, `1:30` and `2001-01-01` are text,
`0o10` is octal. `010` is 8 in YAML 1.1 and 10 in YAML 1.2, and is refused.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import yaml

from mnistcli.config.validation_errors import ConfigIssue, KeyPath, Mark, format_value
from mnistcli.errors import ConfigError, Problem

MAX_BYTES = 2**20
MAX_NODES = 10_000
MAX_DEPTH = 32
MAX_DIGITS = 300

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it
_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE

_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Spaces from word processors and web pages, before a key or value, which would become part of it.
_WIDE_SPACE = re.compile(
    r"(?m)^(?:[^#\"'\n]*[:,\[{-])?[ ]*([\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000])"
)

_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF_OR_NAN = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class ScalarError(ValueError):
    """An ambiguous scalar; the arguments are what is wrong and a hint."""


def resolve_scalar(text: str) -> object:
    """Return the value of an unquoted scalar.

    Raises:
        ScalarError: the number is ambiguous, or has more than `MAX_DIGITS` digits.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_DIGITS and (_INT.fullmatch(text) or _BASED_INT.fullmatch(text)):
        raise ScalarError(f"a number of {len(text)} digits", "write a smaller one")
    if _INT.fullmatch(text):
        return int(text)
    if _BASED_INT.fullmatch(text):
        return int(text, 0)
    if _LEADING_ZERO.fullmatch(text):
        plain = int(text[:MAX_DIGITS])
        raise ScalarError(
            f"{format_value(text)} is octal in YAML 1.1 and decimal in YAML 1.2",
            f"write {plain} without the leading zero",
        )
    if _INF_OR_NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return float(text) if _FLOAT.fullmatch(text) else text


@dataclass(frozen=True)
class YamlDocument:
    """A parsed YAML document with the positions of its keys and values.

    Attributes:
        value: nested dicts with text keys, lists, text, numbers, booleans and None.
        key_marks: the position of each key.
        value_marks: the position of each value; of what is inside an alias, only the alias' own.
        issues: errors that did not stop the parser, in the order of the text.
    """

    value: object
    key_marks: dict[KeyPath, Mark]
    value_marks: dict[KeyPath, Mark]
    issues: tuple[ConfigIssue, ...]

    def find_mark(self, path: KeyPath, *, is_key: bool = False) -> Mark | None:
        """Return the position of a key or its value, else that of the nearest block around it."""
        if is_key and path in self.key_marks:
            return self.key_marks[path]
        while path and path not in self.value_marks:
            path = path[:-1]
        return self.value_marks.get(path) if path else None

    def cut(self, path: KeyPath) -> YamlDocument:
        """Return the value at a path, which exists, as a document of its own."""
        here: object = self.value
        for part in path:
            here = here[part]  # type: ignore[index]
        length = len(path)
        marks = [
            {at[length:]: mark for at, mark in marks.items() if at[:length] == path}
            for marks in (self.key_marks, self.value_marks)
        ]
        return YamlDocument(here, marks[0], marks[1], ())

    def is_written(self, path: KeyPath) -> bool:
        """Return whether the document has a key or a list's entry."""
        here = self.value
        for part in path:
            if isinstance(here, dict) and part in here:
                here = here[part]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]  # mypy narrows dicts and lists apart
            else:
                return False
        return True


def parse_yaml(data: bytes | str, where: str) -> YamlDocument:
    """Parse one YAML document.

    Args:
        data: the text, or its bytes in UTF-8; an empty one means None.
        where: its name in messages.

    Raises:
        ConfigError: it cannot be parsed to its end; lists all errors up to there.
    """
    text = _decode(data, where)
    builder = _Builder(where)
    try:
        return builder.build_document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = None if mark is None else Mark(mark.line + 1, mark.column + 1)
        builder.stop(place, f"not valid YAML: {_describe(error)}", _suggest(error))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML without libyaml lets the errors of chr() through.
        builder.stop(None, f"not valid YAML: {error}", "check the escapes in quoted text")


def _decode(data: bytes | str, where: str) -> str:
    if len(data) > MAX_BYTES:
        what = f"larger than {MAX_BYTES // 2**20} MiB, too large for a config"
        raise ConfigError([Problem(where, what, "give a config's YAML file")])
    if isinstance(data, bytes) and (data.startswith(_UTF_16_MARKS) or b"\0" in data[:2]):
        hint = "save it with the encoding UTF-8"
        raise ConfigError([Problem(where, "it is UTF-16 text, as Windows may write it", hint)])
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        what = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        _raise_at(where, before, what, "save the file as UTF-8 text")
    if bad := _UNPRINTABLE.search(text):
        what = f"character U+{ord(bad.group()):04X} is not allowed in YAML"
        _raise_at(where, text[: bad.start()], what, "remove it")
    if space := _WIDE_SPACE.search(text):
        name = unicodedata.name(space[1], "").lower()
        what = f"{name} (U+{ord(space[1]):04X}) where YAML takes spaces alone"
        _raise_at(where, text[: space.start(1)], what, "replace it by a space of the keyboard")
    return text


def _raise_at(where: str, before: str, what: str, hint: str) -> NoReturn:
    """Raise an error whose position is the end of the text before it."""
    mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
    raise ConfigError([Problem(f"{where}:{mark}", what, hint)])


def _describe(error: yaml.MarkedYAMLError) -> str:
    """Return the parser's message, with the line where the unfinished construct begins."""
    begin, end = error.context_mark, error.problem_mark
    if begin and end and begin.line < end.line:
        return f"{error.problem} ({error.context} from line {begin.line + 1})"
    return str(error.problem)


def _suggest(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "mapping values" in problem:
        return "check the indentation; put quotes around text that contains a colon"
    if "cannot start any token" in problem:
        return "indent with spaces, and put quotes around text that begins with @, ` or %"
    return "check the indentation, brackets and quotes up to here"


@dataclass(frozen=True)
class _Node:
    """A value with its number of nodes and its depth, aliases expanded."""

    value: object
    size: int = 1
    height: int = 0


@dataclass
class _Builder:
    """Builds values from the parser's events, and stops when there are too many."""

    where: str
    events: Iterator[yaml.Event] = field(default_factory=lambda: iter(()))
    node_count: int = 0
    anchors: dict[str, _Node] = field(default_factory=dict)
    key_marks: dict[KeyPath, Mark] = field(default_factory=dict)
    value_marks: dict[KeyPath, Mark] = field(default_factory=dict)
    issues: list[ConfigIssue] = field(default_factory=list)

    def stop(self, mark: Mark | None, what: str, hint: str) -> NoReturn:
        """Raise an error after those found before."""
        last = Problem(self.where if mark is None else f"{self.where}:{mark}", what, hint)
        raise ConfigError(
            [*(issue.to_problem(f"{self.where}:{issue.mark}") for issue in self.issues), last]
        )

    def build_document(self, events: Iterator[yaml.Event]) -> YamlDocument:
        self.events = events
        value: object = None
        next(events)  # the stream's start
        if isinstance(next(events), yaml.DocumentStartEvent):
            value = self.build(next(events), ()).value
            next(events)  # the document's end
            if isinstance(after := next(events), yaml.DocumentStartEvent):
                self.stop(_mark(after), "a second document begins", "keep one document a file")
        return YamlDocument(value, self.key_marks, self.value_marks, tuple(self.issues))

    def build(self, event: yaml.Event, path: KeyPath) -> _Node:
        self.value_marks[path] = _mark(event)
        if isinstance(event, yaml.AliasEvent):
            return self.expand_alias(event, path)
        self.check_size(event, path, _Node(None))
        assert isinstance(event, yaml.NodeEvent)
        node = self.build_content(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def build_content(self, event: yaml.NodeEvent, path: KeyPath) -> _Node:
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self.add_problem(path, event, f"tag {shown} is not allowed", "remove it")
        if isinstance(event, yaml.MappingStartEvent):
            return self.build_mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.build_sequence(path)
        assert isinstance(event, yaml.ScalarEvent)
        is_plain = event.implicit[0] and tag is None
        try:
            return _Node(resolve_scalar(event.value) if is_plain else event.value)
        except ScalarError as error:
            self.add_problem(path, event, *error.args)
            return _Node(event.value)

    def build_mapping(self, path: KeyPath) -> _Node:
        values: dict[str, object] = {}
        size, height = 1, 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, mark = self.read_key(event), _mark(event)
            if key == "<<":
                what, hint = "merge keys (<<) are not part of YAML 1.2", "write the keys themselves"
                self.issues.append(ConfigIssue((*path, key), what, hint, mark=mark))
            is_twice = key in values
            if is_twice:
                first = self.key_marks[(*path, key)].line
                what = f"key given twice, first on line {first}"
                hint = "remove one of them"
                self.issues.append(ConfigIssue((*path, key), what, hint, mark=mark))
            self.key_marks.setdefault((*path, key), mark)
            node = self.build(next(self.events), (*path, key))
            values.setdefault(key, node.value)
            size, height = size + node.size, max(height, node.height + 1)
        return _Node(values, size, height)

    def build_sequence(self, path: KeyPath) -> _Node:
        values: list[object] = []
        size, height = 1, 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            node = self.build(event, (*path, len(values)))
            values.append(node.value)
            size, height = size + node.size, max(height, node.height + 1)
        return _Node(values, size, height)

    def read_key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.tag or event.anchor:
            self.stop(_mark(event), "expected a key, a plain word", "write key: value")
        return event.value

    def expand_alias(self, event: yaml.AliasEvent, path: KeyPath) -> _Node:
        node = self.anchors.get(event.anchor or "")
        if node is None:
            what = f"alias *{event.anchor} has no finished anchor &{event.anchor} before it"
            self.add_problem(path, event, what, "write the value itself")
            return _Node(None)
        self.check_size(event, path, node)
        return node

    def check_size(self, event: yaml.Event, path: KeyPath, node: _Node) -> None:
        self.node_count += node.size
        if self.node_count > MAX_NODES:
            what = f"more than {MAX_NODES} values, aliases expanded"
            self.stop(_mark(event), what, "a config needs a few dozen")
        if len(path) + node.height > MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH} deep"
            self.stop(_mark(event), what, "a config is at most 5 deep")

    def add_problem(self, path: KeyPath, event: yaml.Event, what: str, hint: str) -> None:
        self.issues.append(ConfigIssue(path, what, hint, mark=_mark(event)))


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)  # PyYAML counts from 0
