"""Where a run's epochs run, as its loop sees it; and the simplest such place, one device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import keras

from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import Placement
from mnistcli.training.compiled_epoch import ValidationEpoch, make_epoch


class Epoch(Protocol):
    """What learns from a training set."""

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""

    def compile(self, is_stopping: Callable[[], bool]) -> bool:
        """Make ready; false where a stop was asked for meanwhile."""

    def arrange(self, number: int) -> None:
        """Put the rows in the order of the epoch `number`, from 0."""

    def arrange_next(self, number: int) -> None:
        """Begin to do so for a later epoch, while this one is trained."""

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the order arranged last."""


class Validation(Protocol):
    """What monitors a split."""

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""


class Engine(Protocol):
    """Where epochs run."""

    def open(self) -> AbstractContextManager[object]:
        """Return the context in which the network has to be made and compiled."""

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return what learns from a training set, uint8."""

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return what monitors a split, uint8."""

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return everybody's number, in the order of workers; the same for all of them.

        Each that takes part in this run has to call it as often as any other.
        """


class OneDevice:
    """One device, and whole epochs compiled by XLA.

    Args:
        placement: where rows lie; the bits are the same.
    """

    def __init__(self, placement: Placement = "resident") -> None:
        self._placement = placement

    def open(self) -> AbstractContextManager[object]:
        """Change nothing."""
        return contextlib.nullcontext()

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return the compiled programs."""
        return make_epoch(network, split, preprocessing, training, self._placement)

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the compiled programs."""
        return ValidationEpoch(network, split, preprocessing, loss, self._placement)

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return the number: nobody else is there."""
        return (number,)
