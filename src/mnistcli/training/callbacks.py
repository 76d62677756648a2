"""Who watches a run: what the loop tells as it goes, and what it asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mnistcli.checkpoints.run_state import Progress, RunState


@dataclass(frozen=True)
class Live:
    """What is known inside an epoch, after each piece of about a second.

    Attributes:
        epoch: the epoch under way, from 1.
        step: steps done in it.
        step_count: steps that it has.
        metrics: loss and accuracy over those steps.
    """

    epoch: int
    step: int
    step_count: int
    metrics: dict[str, float]


class Observer(Protocol):
    """What the loop tells, and what it asks, as it goes."""

    def on_piece(self, live: Live) -> None:
        """Hear of a piece of an epoch."""

    def on_epoch(self, progress: Progress) -> None:
        """Hear of a completed epoch."""

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Receive a state worth keeping, and the best one where a validation set chooses."""

    def is_stopping(self) -> bool:
        """Say whether the loop shall stop where it is."""
