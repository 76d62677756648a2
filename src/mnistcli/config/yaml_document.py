"""What a YAML text says, and where in the text each value of it stands."""

from __future__ import annotations

from dataclasses import dataclass

from mnistcli.config.validation_errors import KeyPath, to_problem
from mnistcli.errors import Problem

MAX_BYTES = 2**20


@dataclass(frozen=True, order=True)
class Mark:
    """A position in a text; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True)
class YamlFault:
    """A mistake in the YAML itself, after which reading could go on."""

    path: KeyPath
    mark: Mark
    what: str
    hint: str

    def place_in(self, where: str) -> Problem:
        """Say it with its place, `config.yaml:7:3`."""
        return to_problem(self.what, self.hint, f"{where}:{self.mark}", self.path)


@dataclass(frozen=True)
class YamlDocument:
    """What a text says, and where.

    Attributes:
        value: nested dicts with text keys, lists, text, numbers, booleans and None.
        key_marks: where each key stands.
        value_marks: where each value stands; inside an alias, only the alias itself is marked.
        faults: mistakes that did not stop the reading, in the order of the text.
    """

    value: object
    key_marks: dict[KeyPath, Mark]
    value_marks: dict[KeyPath, Mark]
    faults: tuple[YamlFault, ...]

    def find_mark(self, path: KeyPath, *, is_key: bool = False) -> Mark | None:
        """Return where a key or its value stands, else the nearest block around it."""
        if is_key and path in self.key_marks:
            return self.key_marks[path]
        while path and path not in self.value_marks:
            path = path[:-1]
        return self.value_marks.get(path) if path else None

    def cut(self, path: KeyPath) -> YamlDocument:
        """Return what stands at a path, as a document of its own."""
        here: object = self.value
        for part in path:
            here = here[part]  # type: ignore[index]  # whoever asks knows that it is there
        length = len(path)
        marks = [
            {at[length:]: mark for at, mark in marks.items() if at[:length] == path}
            for marks in (self.key_marks, self.value_marks)
        ]
        return YamlDocument(here, marks[0], marks[1], ())

    def is_written(self, path: KeyPath) -> bool:
        """Tell the keys of the text from defaults."""
        here = self.value
        for part in path:
            if isinstance(here, dict) and part in here:
                here = here[part]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]  # mypy wants them apart
            else:
                return False
        return True

    def shorten(self, path: KeyPath) -> KeyPath:
        """Name what was written: where that is `optimizer: adm`, there is no `name`."""
        for depth in range(1, len(path)):
            if self.is_shorthand(path[:depth]):
                return path[:depth]
        return path

    def is_shorthand(self, path: KeyPath) -> bool:
        """Tell whether a plain value stands at a path."""
        here = self.value
        for part in path:
            if isinstance(here, dict):
                here = here.get(part)
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
        return not isinstance(here, dict | list | None)
