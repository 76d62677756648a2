"""Counts how often TensorFlow has traced the programs of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistcli.training.compiled_epoch import TrainingEpoch


def count_traces(epoch: TrainingEpoch) -> int:
    """Return the number of traces: one for each program, however an epoch is cut into chunks."""
    return sum(program.experimental_get_tracing_count() for program in epoch._programs.values())
