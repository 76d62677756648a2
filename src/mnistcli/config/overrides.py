"""The tree of a config's values with the source of each, and overrides that are merged into it.

A tree is read from a YAML document or from a config. Each of its nodes knows whether its value is
from the file, from a flag or a default: messages and `--print-config` read the places there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_jsonable_python

from mnistcli.config.field_info import ROOT, FieldInfo, find_field, get_field, split_key
from mnistcli.config.schema import Config
from mnistcli.config.validation_errors import (
    ConfigIssue,
    KeyPath,
    Mark,
    format_path,
    format_value,
    is_related,
    starts_with,
)
from mnistcli.config.yaml_reader import YamlDocument, parse_yaml
from mnistcli.errors import Problem, UsageError

_SET = "--set"
_OPTIMIZER: KeyPath = ("training", "optimizer")
_LEARNING_RATE = "learning_rate"


@dataclass(frozen=True)
class FileSource:
    """The place in the file that a value comes from.

    Attributes:
        path: what the file calls it: `training.optimizer` for the name in `optimizer: adam`.
        mark: of the value, or of the nearest block around it; None if the file has none.
        key_mark: of the key, else as `mark`.
        is_short: the value is written in a short form, as `optimizer: adam`.
    """

    path: KeyPath
    mark: Mark | None
    key_mark: Mark | None
    is_short: bool = False


@dataclass(frozen=True)
class FlagSource:
    """The flag that a value comes from, and the value's position among those of all flags."""

    flag: str
    position: int


Source = FileSource | FlagSource


@dataclass
class Node:
    """A value of a config.

    Attributes:
        value: a dict or a list of nodes, or a plain value.
        source: None for a default.
    """

    value: Any
    source: Source | None = None

    def find_child(self, part: str | int) -> Node | None:
        """Return the node of a key or of a list's entry, None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            entry: Node = self.value[part]
            return entry
        return None

    def list_children(self) -> list[Node]:
        """Return the nodes of all keys or entries."""
        if isinstance(self.value, dict):
            return list(self.value.values())
        return self.value if isinstance(self.value, list) else []

    def list_flags(self) -> Iterator[FlagSource]:
        """Yield the flags that the value or a part of it comes from."""
        if isinstance(self.source, FlagSource):
            yield self.source
        for child in self.list_children():
            yield from child.list_flags()

    def to_plain(self) -> Any:
        """Return the value with plain dicts and lists."""
        if isinstance(self.value, dict):
            return {key: child.to_plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.to_plain() for child in self.value]
        return self.value


@dataclass
class ConfigTree:
    """The values of a config with their sources.

    Attributes:
        root: the whole config, short forms expanded; keys that are left out have their defaults.
        label: the file's name in messages; empty without a file.
    """

    root: Node
    label: str = ""

    @classmethod
    def from_document(cls, document: YamlDocument, label: str) -> ConfigTree:
        """Return the tree of a YAML document, whose text may be empty."""

        def find_source(path: KeyPath) -> Source:
            mark, key_mark = document.find_mark(path), document.find_mark(path, is_key=True)
            return FileSource(path, mark, key_mark)

        values = {} if document.value is None else document.value
        return cls(_build(values, ROOT, (), find_source), label)

    @classmethod
    def from_config(cls, config: Config) -> ConfigTree:
        """Return the tree of a config, in which all values count as defaults."""
        return cls(_build_default(config, ROOT))

    def remove(self, path: KeyPath) -> None:
        """Remove a key, or everything."""
        if not path:
            self.root = Node({})
            return
        nodes = self.follow(path[:-1])
        if len(nodes) == len(path) and isinstance(nodes[-1].value, dict):
            nodes[-1].value.pop(path[-1], None)

    def describe_source(self, path: KeyPath) -> str:
        """Return `--flag`, `file:line` or `default` for a value of the validated config."""
        nodes = self.follow(path)
        source = nodes[-1].source if len(nodes) > len(path) else None
        if source is None:
            return "default"
        if isinstance(source, FlagSource):
            return source.flag
        return f"{self.label}:{source.mark.line}" if source.mark else self.label

    def find_flag(self, path: KeyPath) -> FlagSource | None:
        """Return the first flag that set a key, a part of it, or a value around it."""
        nodes = self.follow(path)
        if len(nodes) > len(path):
            return min(nodes[-1].list_flags(), key=lambda flag: flag.position, default=None)
        source = nodes[-1].source
        return source if isinstance(source, FlagSource) else None

    def follow(self, path: KeyPath) -> list[Node]:
        """Return the nodes along a path from the root, as far as there are any."""
        nodes = [self.root]
        for part in path:
            child = nodes[-1].find_child(part)
            if child is None:
                break
            nodes.append(child)
        return nodes


@dataclass(frozen=True)
class Override:
    """One key that the command line sets.

    Attributes:
        key: dotted, `training.optimizer.learning_rate`; a list's entries are counted from 0.
        value: a plain Python value; a mapping is merged key by key.
        flag: as it was typed, `--learning-rate` or `--set`.
    """

    key: str
    value: object
    flag: str


@dataclass
class MergeResult:
    """What came of the overrides besides the merged tree.

    Attributes:
        notices: what changes in keys that no override names, one line each.
        problems: the overrides that cannot be carried out.
    """

    notices: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse_assignment(text: str) -> Override:
    """Parse the argument of `--set`: a dotted key, `=`, and a value in YAML.

    Raises:
        UsageError: there is no `=`, no key, or the value is not one YAML value.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        what = f"{format_value(text)} is no key=value"
        raise UsageError(_SET, what, "for example --set training.epochs=10")
    where = f"{_SET} {key}"
    document = parse_yaml(value, where)
    if document.issues:
        problem = document.issues[0].to_problem(where)
        raise UsageError(where, problem.what, problem.hint)
    return Override(key, document.value, _SET)


def merge_overrides(tree: ConfigTree, overrides: Sequence[Override]) -> MergeResult:
    """Merge overrides into a tree of valid values.

    A new optimizer brings its own defaults. Another kind of model or initializer keeps the keys
    that both kinds have.
    """
    result = MergeResult()
    assignments = _flatten(overrides, result.problems)
    given = [assignment.path for assignment in assignments]
    for assignment in sorted(assignments, key=lambda a: len(a.path)):
        if _chooses_kind(assignment.path):
            result.notices += _change_kind(tree, assignment, given)
    for assignment in assignments:
        if not _chooses_kind(assignment.path) and (problem := _assign(tree, assignment)):
            result.problems.append(problem)
    return result


def _build(
    value: object,
    field_info: FieldInfo | None,
    path: KeyPath,
    find_source: Callable[[KeyPath], Source | None],
) -> Node:
    """Copy a value into nodes, with short forms expanded and missing tags filled in.

    A block that does not say which model of a union it is, is the default's:
    `optimizer: {learning_rate: 0.1}` is the default optimizer with another learning rate.
    """
    source = find_source(path)
    expanded = value if field_info is None else field_info.expand_shorthand(value)
    if expanded is not value:  # the parts of a short form have the place of the whole
        if isinstance(source, FileSource) and isinstance(expanded, dict):
            source = replace(source, is_short=True)
        find_source = _always(source)
    if isinstance(expanded, list):
        item = field_info.item if field_info else None
        entries = enumerate(expanded)
        return Node([_build(v, item, (*path, i), find_source) for i, v in entries], source)
    if not isinstance(expanded, dict):
        return Node(expanded, source)
    children: dict[str, Node] = {}
    model = None
    if field_info is not None and field_info.models:
        tag_key, tag = field_info.tag_key, expanded.get(field_info.tag_key)
        if tag_key and tag_key not in expanded and field_info.default is not None:
            tag = getattr(field_info.default, tag_key)
            children[tag_key] = Node(tag)
        model = field_info.find_model(tag)
    for key, entry in expanded.items():
        child = get_field(model, key) if model and key in model.model_fields else None
        children[key] = _build(entry, child, (*path, key), find_source)
    return Node(children, source)


def _always(source: Source | None) -> Callable[[KeyPath], Source | None]:
    return lambda _: source


def _build_default(default: object, field_info: FieldInfo) -> Node:
    return _build(to_jsonable_python(default), field_info, (), _always(None))


@dataclass(frozen=True)
class _Assignment:
    """A key that an override sets to something else than a block."""

    path: KeyPath
    value: object
    source: FlagSource


def _flatten(overrides: Sequence[Override], problems: list[Problem]) -> list[_Assignment]:
    """Split overrides into single keys; a key that is set by two of them is a problem."""
    assignments: list[_Assignment] = []
    for override in overrides:
        earlier, flag = list(assignments), override.flag
        path = split_key(override.key)
        for leaf, value in _list_leaves(path, override.value, find_field(path)):
            rival = next((a for a in earlier if is_related(leaf, [a.path])), None)
            if rival:
                issue = ConfigIssue(leaf, _describe_conflict(leaf, flag, rival), "give it once")
                problems.append(issue.to_problem(flag))
            elif value == {}:
                issue = ConfigIssue(leaf, "an empty mapping sets nothing", "give it a key")
                problems.append(issue.to_problem(flag))
            else:
                source = FlagSource(flag, len(assignments))
                assignments.append(_Assignment(leaf, value, source))
    return assignments


def _describe_conflict(path: KeyPath, flag: str, rival: _Assignment) -> str:
    whose = "" if rival.path == path else f"{format_path(rival.path)} is "
    another = "another " if rival.source.flag == flag else ""
    return f"{whose}already given by {another}{rival.source.flag}"


def _list_leaves(
    path: KeyPath, value: object, field_info: FieldInfo | None
) -> Iterator[tuple[KeyPath, object]]:
    """Yield the keys that a value sets: `name`, for `optimizer=adam` and `{name: adam}` alike."""
    value = field_info.expand_shorthand(value) if field_info else value
    if field_info and field_info.models and isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _list_leaves((*path, key), entry, field_info.find_child(key))
    else:
        yield path, value


def _chooses_kind(path: KeyPath) -> bool:
    """Return whether a key chooses a model of a union, as `training.optimizer.name` does."""
    parent = find_field(path[:-1])
    return parent is not None and path[-1] == parent.tag_key


def _change_kind(tree: ConfigTree, assignment: _Assignment, given: list[KeyPath]) -> list[str]:
    """Choose the model of a union, and drop the keys of another model; return notices."""
    path, tag, tag_key = assignment.path[:-1], assignment.value, str(assignment.path[-1])
    parent = block = tree.root
    for depth in range(len(path)):
        parent, block = block, _enter_block(block, path[: depth + 1])
        parent.value[path[depth]] = block
    union = find_field(path)
    assert union is not None
    old: dict[str, Node] = block.value
    old_tag = old[tag_key].value if tag_key in old else None
    old_model, model = union.find_model(old_tag), union.find_model(tag)
    is_changed = model is not None and tag != old_tag
    keys = model.model_fields if model and path != _OPTIMIZER else ()
    kept = {key: node for key, node in old.items() if key in keys} if is_changed else old
    tag_node = _build(tag, None, assignment.path, _always(assignment.source))
    parent.value[path[-1]] = Node({**kept, tag_key: tag_node}, block.source)
    if not is_changed or old_model is None:
        return []
    written = [key for key in old_model.model_fields if key in old and old[key].source]
    lost = [(*path, key) for key in written if key not in (*kept, tag_key)]
    return _describe_change(path, f"{tag}", f"{old_tag}", lost, given)


def _describe_change(
    path: KeyPath, new: str, old: str, lost: list[KeyPath], given: list[KeyPath]
) -> list[str]:
    """Return what changes in the keys of a block that no override gives, as notices."""
    rate = (*path, _LEARNING_RATE)
    notices = []
    if path == _OPTIMIZER and not starts_with(rate, given):
        union = find_field(path)
        model = union.find_model(new) if union else None
        assert model is not None
        default = model.model_fields[_LEARNING_RATE].default
        notices.append(f"{path[-1]} {new} takes its default learning rate {default}")
    dropped = [key for key in lost if key != rate and not starts_with(key, given)]
    if dropped:
        names = ", ".join(str(key[-1]) for key in dropped)
        notices.append(f"{path[-1]} {new} drops {old}'s {names}")
    return notices


def _assign(tree: ConfigTree, assignment: _Assignment) -> Problem | None:
    """Set one key; unknown keys are added, since validation reports them."""
    path, node = assignment.path, tree.root
    entered: list[tuple[Node, str | int, Node]] = []
    for depth, part in enumerate(path):
        is_list = isinstance(node.value, list)
        if node.find_child(part) is None if is_list else not isinstance(node.value, dict):
            return _describe_misplaced(node, assignment, depth)
        if depth < len(path) - 1:
            child = _enter_block(node, path[: depth + 1])
            entered.append((node, part, child))
            node = child
    value = _build(assignment.value, find_field(path), path, _always(assignment.source))
    for parent, part, child in [*entered, (node, path[-1], value)]:
        parent.value[part] = child
    return None


def _enter_block(node: Node, path: KeyPath) -> Node:
    """Return the child of a block, made from its default if there is none yet."""
    child, field_info = node.find_child(path[-1]), find_field(path)
    if child is None:
        child = Node(None) if field_info is None else _build_default(field_info.default, field_info)
    if child.value is None and (field_info is None or field_info.models):
        child = Node({}, child.source)
    return child


def _describe_misplaced(node: Node, assignment: _Assignment, depth: int) -> Problem:
    """Refuse a key below a plain value, or an entry that a list does not have."""
    block, flag = format_path(assignment.path[:depth]), assignment.source.flag
    if isinstance(node.value, list):
        last = len(node.value) - 1
        numbers = "only 0" if last == 0 else f"0 to {last}"
        what = f"{block} has no entry {assignment.path[depth]}"
        return Problem(flag, what, f"its entries are {numbers}")
    what = f"{format_path(assignment.path)}: {block} is no block of keys"
    return Problem(flag, what, f"set {block} itself")
