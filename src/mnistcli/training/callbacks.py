"""Callbacks: what a training run reports as it goes, and what may stop it.

Keras is imported where it is needed: commands define callbacks before it is loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnistcli.checkpoints.run_state import (
    Array,
    CallbackStates,
    EarlyStoppingState,
    NamedArray,
    Progress,
    ReduceLROnPlateauState,
    RunState,
)
from mnistcli.config.schema import EarlyStopping, ReduceOnPlateau, TrainingConfig

if TYPE_CHECKING:
    import keras

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
        """Return whether the run should stop where it is; called at least after each chunk."""
        return False

    def should_save(self) -> bool:
        """Return whether a checkpoint is wanted where the run is; called after each chunk."""
        return False


class CallbackList(Callback):
    """Calls several callbacks, one after the other."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Call the method of each callback."""
        for callback in self._callbacks:
            callback.on_train_begin(trainer)

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Call the method of each callback."""
        for callback in self._callbacks:
            callback.on_batch_end(progress)

    def on_epoch_end(self, progress: Progress) -> None:
        """Call the method of each callback."""
        for callback in self._callbacks:
            callback.on_epoch_end(progress)

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:
        """Call the method of each callback."""
        for callback in self._callbacks:
            callback.on_checkpoint(state, best)

    def on_train_end(self, state: RunState) -> None:
        """Call the method of each callback."""
        for callback in self._callbacks:
            callback.on_train_end(state)

    def should_stop(self) -> bool:
        """Return whether any callback asks for a stop."""
        return any(callback.should_stop() for callback in self._callbacks)

    def should_save(self) -> bool:
        """Return whether any callback asks for a checkpoint."""
        return any(callback.should_save() for callback in self._callbacks)


class KerasCallbacks:
    """Keras' EarlyStopping and ReduceLROnPlateau outside `model.fit`, as a config asks for them.

    Keras' callbacks are reset when training begins; these can be captured and restored.
    """

    def __init__(self, network: keras.Sequential, training: TrainingConfig) -> None:
        stopping, plateau = training.early_stopping, training.reduce_on_plateau
        self._network = network
        self._stopping = None if stopping is None else _make_stopping(stopping)
        self._plateau = None if plateau is None else _make_plateau(plateau)
        self._last_weights: list[Array] | None = None
        for callback in (self._stopping, self._plateau):
            if callback is not None:
                callback.set_model(network)
                callback.on_train_begin()
        network.stop_training = False

    @property
    def is_stopped(self) -> bool:
        """Whether early stopping has ended the run."""
        return bool(self._network.stop_training)

    def end_epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Call both with the metrics of the epoch `number`, from 0."""
        if self._plateau is not None:
            with warnings.catch_warnings():  # of how Keras reads a variable, from NumPy 2 on
                warnings.simplefilter("ignore", DeprecationWarning)
                self._plateau.on_epoch_end(number, dict(metrics))
        if self._stopping is not None:
            before = self._stopping.best_weights
            self._stopping.on_epoch_end(number, dict(metrics))
            if self._stopping.best_weights is not before:  # they may lie in the device's memory
                self._stopping.best_weights = _copy_weights(self._network)

    def end_training(self) -> None:
        """Restore the best weights into the network, and keep the last ones to resume from."""
        if self._stopping is not None and self._stopping.best_weights is not None:
            self._last_weights = _copy_weights(self._network)
            self._stopping.on_train_end()

    def capture(self) -> CallbackStates:
        """Copy their state."""
        return CallbackStates(
            early_stopping=self._capture_stopping(),
            reduce_on_plateau=self._capture_plateau(),
            weights=self._capture_weights(),
        )

    def _capture_stopping(self) -> EarlyStoppingState | None:
        """Copy the counters of early stopping."""
        if self._stopping is None:
            return None
        return EarlyStoppingState(
            best=self._stopping.best,
            best_epoch=self._stopping.best_epoch,
            wait=self._stopping.wait,
            is_stopped=self.is_stopped,
            is_restored=self._last_weights is not None,
        )

    def _capture_plateau(self) -> ReduceLROnPlateauState | None:
        """Copy the counters of the plateau."""
        plateau = self._plateau
        if plateau is None:
            return None
        return ReduceLROnPlateauState(plateau.best, plateau.wait, plateau.cooldown_counter)

    def _capture_weights(self) -> tuple[NamedArray, ...]:
        """Copy the weights that the network does not hold at the moment: its best, or its last."""
        from mnistcli.training.network_state import network_weights

        kept = self._last_weights
        if kept is None and self._stopping is not None:
            kept = self._stopping.best_weights
        variables = network_weights(self._network) if kept else ()
        return tuple(NamedArray(v.path, w) for v, w in zip(variables, kept or (), strict=True))

    def restore(self, states: CallbackStates) -> None:
        """Restore their state; the network's is restored already.

        Raises:
            ValueError: the weights are another network's.
        """
        if self._plateau is not None and states.reduce_on_plateau is not None:
            self._plateau.best = states.reduce_on_plateau.best
            self._plateau.wait = states.reduce_on_plateau.wait
            self._plateau.cooldown_counter = states.reduce_on_plateau.cooldown
        if self._stopping is not None and states.early_stopping is not None:
            self._restore_stopping(self._stopping, states.early_stopping, states.weights)

    def _restore_stopping(
        self,
        callback: keras.callbacks.EarlyStopping,
        state: EarlyStoppingState,
        weights: tuple[NamedArray, ...],
    ) -> None:
        """Restore early stopping's counters, and both sets of weights."""
        from mnistcli.training.network_state import assign_weights

        current, kept = _copy_weights(self._network), [array.values for array in weights]
        if kept or state.is_restored:
            assign_weights(self._network, kept)  # checks them too
        if not state.is_restored:
            assign_weights(self._network, current)
        best = current if state.is_restored else kept
        callback.best_weights = best or None
        callback.best, callback.best_epoch = state.best, state.best_epoch
        callback.wait = state.wait
        self._network.stop_training = state.is_stopped
        self._last_weights = None


def _choose_mode(metric: str) -> str:
    """Losses are minimised, accuracies maximised."""
    return "min" if metric.endswith("loss") else "max"


def _make_stopping(config: EarlyStopping) -> keras.callbacks.EarlyStopping:
    import keras

    return keras.callbacks.EarlyStopping(
        monitor=config.monitor,
        mode=_choose_mode(config.monitor),
        patience=config.patience,
        min_delta=config.min_delta,
        restore_best_weights=config.restore_best,
    )


def _make_plateau(config: ReduceOnPlateau) -> keras.callbacks.ReduceLROnPlateau:
    import keras

    return keras.callbacks.ReduceLROnPlateau(
        monitor=config.monitor,
        mode=_choose_mode(config.monitor),
        factor=config.factor,
        patience=config.patience,
        min_delta=config.min_delta,
        cooldown=config.cooldown,
        min_lr=config.min_learning_rate,
    )


def _copy_weights(network: keras.Sequential) -> list[Array]:
    """Copy the weights off the device, in the order of `get_weights`."""
    from mnistcli.training.network_state import network_weights

    return [np.array(weight.numpy()) for weight in network_weights(network)]
