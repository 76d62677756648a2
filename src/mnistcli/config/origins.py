"""Where each value of a config comes from: a line of the file, a flag, or the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from mnistcli.config.field_info import find_slot
from mnistcli.config.overrides import Assignment
from mnistcli.config.validation_errors import KeyPath, starts_with
from mnistcli.config.yaml_document import YamlDocument

DEFAULT = "default"


@dataclass(frozen=True)
class Origins:
    """Tells where the values of one config come from.

    Attributes:
        label: what messages call the file.
        document: what the file says, and where.
        assignments: the flags that were carried out.
        replaced: keys of the file that a flag replaced by defaults.
    """

    label: str
    document: YamlDocument
    assignments: tuple[Assignment, ...]
    replaced: tuple[KeyPath, ...]

    def find(self, path: KeyPath) -> str:
        """Return `--flag`, `file:line` or `default` for one value of the resolved config."""
        for assignment in self.assignments:
            if starts_with(path, [assignment.path]):
                value = YamlDocument(assignment.value, {}, {}, ())
                said = _find_said(value, path, len(assignment.path))
                return DEFAULT if said is None else assignment.flag
        said = _find_said(self.document, path, 0)
        if said is None or starts_with(path, self.replaced):
            return DEFAULT
        mark = self.document.find_mark(said)
        return self.label if mark is None else f"{self.label}:{mark.line}"


def _find_said(document: YamlDocument, path: KeyPath, depth: int) -> KeyPath | None:
    """Return the part of a path below `depth` by which a document says it; null where it doesn't.

    That is another part where the document has a short form: `optimizer` for the name, one list
    or mapping for its numbers.
    """
    written = path[depth:]
    while not document.is_written(written):
        written = written[:-1]
    slot = find_slot((*path[:depth], *written))
    if path[depth:] == written or slot is None or not slot.models:
        return written
    is_named = path[depth:] == (*written, slot.shorthand_key) and document.is_shorthand(written)
    return written if is_named else None
