"""Tables as CSV (RFC 4180 but for the line ends): a header line, numbers in full, nulls empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from mnistcli.output.csv_rows import EvaluationRow, PredictionRow
from mnistcli.output.results import EvaluationResult, Prediction


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write lines of cells; the last line has no end of its own."""
    return "\n".join(map(_format_line, (header, *rows)))


def format_predictions(predictions: Iterable[Prediction], labels: Iterable[str]) -> str:
    """Write predictions; one probability column a class."""
    header = [*PredictionRow.list_columns(), *(f"p_{label}" for label in labels)]
    rows = []
    for one in predictions:
        facts = [one.source, one.row, one.class_index, one.label, one.probability, one.truth]
        rows.append([*facts, *one.probabilities])
    return format_csv(header, rows)


def format_evaluations(results: Iterable[EvaluationResult]) -> str:
    """Write how checkpoints did, without what is known of single classes."""
    columns = EvaluationRow.list_columns()
    return format_csv(columns, ([getattr(result, name) for name in columns] for result in results))


def _format_line(cells: Iterable[object]) -> str:
    """The writer puts quotes around what occurs in its own line ends, so they have to be both."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().removesuffix("\r\n")
