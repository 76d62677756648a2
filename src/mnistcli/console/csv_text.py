"""Tables as CSV (RFC 4180 but for the line ends): a header line, numbers in full, nulls empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write lines of cells; the last line has no end of its own."""
    return "\n".join(map(_format_line, (header, *rows)))


def _format_line(cells: Iterable[object]) -> str:
    """The writer puts quotes around what occurs in its own line ends, so they have to be both."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().removesuffix("\r\n")
