"""Callbacks: what a training run reports as it goes, and what may stop it.

Nothing here imports Keras or TensorFlow, so that commands can define callbacks before these load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnistcli.checkpoints.run_state import Progress, RunState

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer


@dataclass(frozen=True)
class BatchProgress:
    """How far an epoch has come.

    Attributes:
        epoch: the current epoch, from 1.
        step: steps done in it.
        step_count: steps that it has.
        metrics: loss and accuracy over those steps.
    """

    epoch: int
    step: int
    step_count: int
    metrics: dict[str, float]


class Callback:
    """Base class of callbacks, as `keras.callbacks.Callback` is; override what is needed.

    `Trainer.fit` calls its callbacks one after the other, in the order of its list.
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Called before anything is compiled, with the trainer where it begins or goes on."""

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Called after each chunk of steps, about once a second."""

    def on_epoch_end(self, progress: Progress) -> None:
        """Called after each epoch, its validation included."""

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:
        """Called with a state to save: before the first step, every few seconds, at the end.

        Args:
            state: the run as it stands.
            best: the state of the best epoch so far, where a validation set selects one.
        """

    def on_train_end(self, state: RunState) -> None:
        """Called with the last state, also where the run was stopped; not after an error."""

    def should_stop(self) -> bool:
        """Return whether the run shall stop where it is; asked at least after each chunk."""
        return False


class CallbackList(Callback):
    """Calls several callbacks, one after the other."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Call each."""
        for callback in self._callbacks:
            callback.on_train_begin(trainer)

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Call each."""
        for callback in self._callbacks:
            callback.on_batch_end(progress)

    def on_epoch_end(self, progress: Progress) -> None:
        """Call each."""
        for callback in self._callbacks:
            callback.on_epoch_end(progress)

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:
        """Call each."""
        for callback in self._callbacks:
            callback.on_checkpoint(state, best)

    def on_train_end(self, state: RunState) -> None:
        """Call each."""
        for callback in self._callbacks:
            callback.on_train_end(state)

    def should_stop(self) -> bool:
        """Return whether any of them wants to stop."""
        return any(callback.should_stop() for callback in self._callbacks)
