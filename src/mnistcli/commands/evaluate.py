"""`evaluate`: loss, accuracy, per-class metrics and the confusion matrix of checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
from mnistcli.errors import CheckFailedError, Problem, UsageError

if TYPE_CHECKING:
    from mnistcli.commands.trained_model import CheckpointSource, LoadOptions
    from mnistcli.output.results import EvaluateResult, EvaluationResult

_FLAG = "--fail-under"
HIGHEST_THRESHOLDS = {"accuracy": 1.0, "loss": sys.float_info.max}


@dataclass(frozen=True)
class Threshold:
    """The lowest accuracy or the highest loss that `--fail-under` accepts."""

    metric: str
    value: float

    def is_met(self, result: EvaluationResult) -> bool:
        """Return whether a result is good enough; not-a-number never is."""
        if self.metric == "loss":
            return result.loss is not None and result.loss <= self.value
        return result.accuracy >= self.value


def evaluate(
    models: CheckpointSource | Sequence[CheckpointSource],
    *,
    split: str = "test",
    **options: Unpack[LoadOptions],
) -> EvaluateResult:
    """Evaluate checkpoints on a split of their data set.

    Args:
        models: one checkpoint or several.
        split: `train`, `validation` or `test`.
        **options: as for `load_model`.

    Raises:
        CheckpointError: one of them is missing, damaged or refused.
        UsageError: there is no such split, or nothing says which data set it is.
        DataError: the data are missing, unreachable or invalid.
    """
    # Thresholds are parsed without waiting for these.
    from mnistcli.commands.trained_model import load_model
    from mnistcli.output.results import EvaluateResult

    if isinstance(models, str | os.PathLike | ParserProcess):
        models = (models,)
    results = []
    for source in models:
        model = load_model(source, **options)
        results.append(model.evaluate(split))
    return EvaluateResult(results=tuple(results))


def parse_thresholds(texts: Iterable[str]) -> tuple[Threshold, ...]:
    """Parse thresholds like `accuracy=0.9` and `loss=0.5`; UsageError for anything else."""
    return tuple(map(_parse_threshold, texts))


def check_thresholds(
    result: EvaluateResult, thresholds: Sequence[Threshold]
) -> CheckFailedError | None:
    """Return an error that names every checkpoint that misses a threshold; None without any."""
    problems = [
        _describe_shortfall(threshold, one)
        for one in result.results
        for threshold in thresholds
        if not threshold.is_met(one)
    ]
    return CheckFailedError.join(problems) if problems else None


def _parse_threshold(text: str) -> Threshold:
    metric, _, value = text.partition("=")
    hint = "write accuracy=0.9 or loss=0.5"
    if metric not in HIGHEST_THRESHOLDS:
        raise UsageError(_FLAG, f"unknown metric {metric!r}", hint)
    try:
        number = float(value)
    except ValueError:
        raise UsageError(_FLAG, f"{value!r} is not a number", hint) from None
    if not 0 <= number <= HIGHEST_THRESHOLDS[metric]:
        bounds = (
            "an accuracy lies between 0 and 1" if metric == "accuracy" else "a loss is 0 or more"
        )
        raise UsageError(_FLAG, f"{value} is out of range", bounds)
    return Threshold(metric, number)


def _describe_shortfall(threshold: Threshold, result: EvaluationResult) -> Problem:
    value = getattr(result, threshold.metric)
    if value is None:
        what = f"it has no loss: {result.loss_reason} ({_FLAG})"
        return Problem(result.checkpoint, what, "set a threshold of its accuracy")
    relation = "not at most" if threshold.metric == "loss" else "below"
    return Problem(
        result.checkpoint,
        f"{threshold.metric} {value:.6g} is {relation} {threshold.value:g} ({_FLAG})",
        "train it further, or move the threshold",
    )
