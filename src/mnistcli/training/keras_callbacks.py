"""Keras' EarlyStopping and ReduceLROnPlateau outside `model.fit`, their states out and in.

Keras' callbacks forget everything when training begins; here a run that goes on remembers.
"""

from __future__ import annotations

import warnings

import keras
import numpy as np

from mnistcli.checkpoints.run_state import (
    Array,
    CallbackStates,
    EarlyStoppingState,
    NamedArray,
    ReduceLROnPlateauState,
)
from mnistcli.config.schema import EarlyStopping, ReduceOnPlateau, TrainingConfig
from mnistcli.training.network_state import assign_weights, network_weights


def _choose_mode(metric: str) -> str:
    """Losses get better downwards, accuracies upwards."""
    return "min" if metric.endswith("loss") else "max"


def _make_stopping(config: EarlyStopping) -> keras.callbacks.EarlyStopping:
    """Turn the config's block into Keras' callback."""
    return keras.callbacks.EarlyStopping(
        monitor=config.monitor,
        mode=_choose_mode(config.monitor),
        patience=config.patience,
        min_delta=config.min_delta,
        restore_best_weights=config.restore_best,
    )


def _make_plateau(config: ReduceOnPlateau) -> keras.callbacks.ReduceLROnPlateau:
    """Turn the config's block into Keras' callback."""
    return keras.callbacks.ReduceLROnPlateau(
        monitor=config.monitor,
        mode=_choose_mode(config.monitor),
        factor=config.factor,
        patience=config.patience,
        min_delta=config.min_delta,
        cooldown=config.cooldown,
        min_lr=config.min_learning_rate,
    )


class KerasCallbacks:
    """Keras' callbacks that a config asks for, applied to a compiled network."""

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
        """Tell whether early stopping has ended the run."""
        return bool(self._network.stop_training)

    def end_epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Let them act on the metrics of the epoch `number`, from 0."""
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
        """Give the network its best weights, and keep the last ones to go on from."""
        if self._stopping is not None and self._stopping.best_weights is not None:
            self._last_weights = _copy_weights(self._network)
            self._stopping.on_train_end()

    def capture(self) -> CallbackStates:
        """Copy what they remember."""
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
        """Name the weights that the network does not hold itself at the moment."""
        kept = self._last_weights
        if kept is None and self._stopping is not None:
            kept = self._stopping.best_weights
        variables = network_weights(self._network) if kept else ()
        return tuple(NamedArray(v.path, w) for v, w in zip(variables, kept or (), strict=True))

    def restore(self, states: CallbackStates) -> None:
        """Go on where they were; the network has its state already.

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
        """Give early stopping its counters, and both sets of weights their places."""
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


def _copy_weights(network: keras.Sequential) -> list[Array]:
    """Copy the weights out of the device, in the order of `get_weights`."""
    return [np.array(weight.numpy()) for weight in network_weights(network)]
