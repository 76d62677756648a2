"""What can be typed next in `--set key=value`, read off the models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from mnistcli.config.field_info import (
    ROOT,
    Slot,
    find_slot,
    is_literal,
    split_annotation,
    split_key,
)


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
