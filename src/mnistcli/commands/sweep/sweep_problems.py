"""What is wrong with a sweep's file, each with its place, collected until all is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from mnistcli.config.field_info import Slot, split_key
from mnistcli.config.messages import explain_errors
from mnistcli.config.strict import StrictModel
from mnistcli.config.validation_errors import KeyPath, is_related, to_problem
from mnistcli.config.yaml_document import Mark, YamlDocument
from mnistcli.errors import Problem

SEARCH = "search"
SET = "set"
_START = Mark(1, 1)
_Model = TypeVar("_Model", bound=StrictModel)


@dataclass
class Problems:
    """Collects what is wrong with one file.

    Attributes:
        label: what messages call the file.
        document: what it says.
    """

    label: str
    document: YamlDocument
    _found: list[tuple[Mark, Problem]] = field(default_factory=list)

    def list(self) -> list[Problem]:
        """Return all problems in the order of the file."""
        return [problem for _, problem in sorted(self._found, key=lambda pair: pair[0])]

    def add(self, path: KeyPath, what: str, hint: str = "", *, is_key: bool = False) -> None:
        """Keep a problem.

        Args:
            path: in the file; the message names the config's own key below `search` and `set`.
            what: the mistake.
            hint: the way out.
            is_key: the key itself is the mistake, rather than its value.
        """
        self.add_about(path, _name(path), what, hint, is_key=is_key)

    def add_about(
        self, path: KeyPath, name: KeyPath, what: str, hint: str, *, is_key: bool
    ) -> None:
        """Keep a problem under another name than its path."""
        mark = self.document.find_mark(path, is_key=is_key) or _START
        self._found.append((mark, to_problem(what, hint, f"{self.label}:{mark}", name)))

    def add_all(self, path: KeyPath, problems: Iterable[Problem]) -> None:
        """Keep problems that have places of their own, at a key's place in the order."""
        mark = self.document.find_mark(path, is_key=True) or _START
        self._found += [(mark, problem) for problem in problems]

    def locate(self, path: KeyPath) -> str:
        """Say where a key stands: `sweep.yaml:4:3`."""
        return f"{self.label}:{self.document.find_mark(path, is_key=True) or _START}"

    def validate(self, model: type[_Model], value: object, path: KeyPath) -> _Model | None:
        """Check a mapping; null where it is wrong, and without what is wrong not complete."""
        if not isinstance(value, dict):
            keys = ", ".join(model.model_fields)
            what = f"expected a mapping with keys among {keys}"
            self.add(path, what, "write key: value lines")
            return None
        try:
            return model.model_validate(value)
        except ValidationError as error:
            faults = explain_errors(error, Slot(model))
        told = [fault.path for fault in self.document.faults]
        for fault in faults:
            at = (*path, *fault.path)
            if not is_related(at, told):
                self.add(at, fault.what, fault.hint, is_key=fault.is_key)
        wrong = {fault.path[0] for fault in faults}
        left = {key: entry for key, entry in value.items() if key not in wrong}
        try:
            return model.model_validate(left)
        except ValidationError:
            return None

    def tell_yaml(self) -> None:
        """Keep what is wrong with the YAML itself."""
        self._found += [(f.mark, f.place_in(self.label)) for f in self.document.faults]


def _name(path: KeyPath) -> KeyPath:
    """Below `search` and `set` the config's key says it all."""
    if len(path) > 1 and path[0] in (SEARCH, SET):
        return (*split_key(str(path[1])), *path[2:])
    return path
