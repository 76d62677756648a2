"""`--fail-under`: thresholds that a result has to meet, for scripts and CI."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from mnistcli.errors import CheckFailedError, Problem, UsageError
from mnistcli.output.results import EvaluationResult

FLAG = "--fail-under"
HIGHEST = {"accuracy": 1.0, "loss": sys.float_info.max}


@dataclass(frozen=True)
class Gate:
    """accuracy must be at least `threshold`; loss must be at most that."""

    metric: str
    threshold: float

    def is_met(self, result: EvaluationResult) -> bool:
        """Tell whether a result is good enough; what is not a number never is."""
        if self.metric == "loss":
            return result.loss <= self.threshold
        return result.accuracy >= self.threshold


def parse_gates(texts: Iterable[str]) -> tuple[Gate, ...]:
    """Read `accuracy=0.9` and `loss=0.5`.

    Raises:
        UsageError: one of them is something else.
    """
    return tuple(_parse_gate(text) for text in texts)


def _parse_gate(text: str) -> Gate:
    """Read one threshold."""
    metric, _, value = text.partition("=")
    hint = "write accuracy=0.9 or loss=0.5"
    if metric not in HIGHEST:
        raise UsageError(FLAG, f"unknown metric {metric!r}", hint)
    try:
        threshold = float(value)
    except ValueError:
        raise UsageError(FLAG, f"{value!r} is not a number", hint) from None
    if not 0 <= threshold <= HIGHEST[metric]:
        bounds = (
            "an accuracy lies between 0 and 1" if metric == "accuracy" else "a loss is 0 or more"
        )
        raise UsageError(FLAG, f"{value} is out of range", bounds)
    return Gate(metric, threshold)


def find_failure(
    gates: tuple[Gate, ...], results: Iterable[EvaluationResult]
) -> CheckFailedError | None:
    """Compare every result with every threshold; return an error that names all that fall short."""
    problems = [
        _describe_shortfall(gate, result)
        for result in results
        for gate in gates
        if not gate.is_met(result)
    ]
    return CheckFailedError.join(problems) if problems else None


def _describe_shortfall(gate: Gate, result: EvaluationResult) -> Problem:
    """Say by which number a result is worse than it should be."""
    value = getattr(result, gate.metric)
    relation = "not at most" if gate.metric == "loss" else "below"
    return Problem(
        result.checkpoint,
        f"{gate.metric} {value:.6g} is {relation} {gate.threshold:g} ({FLAG})",
        "train it further, or move the threshold",
    )
