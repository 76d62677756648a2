"""The training loop: epochs of compiled steps, validation, history, early stopping, divergence.

It writes no files and no output: callbacks do. A strategy runs the steps.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from mnistcli.checkpoints.run_state import Array, History, LayerState, Progress, RunState
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split
from mnistcli.errors import DivergenceError
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.training.callbacks import BatchProgress, Callback, CallbackList, KerasCallbacks
from mnistcli.training.compile_model import compile_network, initialize_network
from mnistcli.training.distributed.strategies import SingleDeviceStrategy, Strategy, Validation
from mnistcli.training.network_state import (
    assign_weights,
    capture_state,
    copy_layers,
    restore_state,
)

_T = TypeVar("_T")


class Trainer:
    """One run: a compiled network, its data on the device, and how far it has come.

    Args:
        config: the experiment.
        architecture: what the config's model block means for the data.
        train: the training set without what is held out for validation, uint8.
        validation: a split to monitor after each epoch.
        preprocessing: raw pixels to network input.
        strategy: where steps run; None for one device.
        checkpoint_interval_s: least time between two checkpoints while the run goes on.
        chunk_duration_s: about how long steps run before callbacks are called and asked.
    """

    def __init__(
        self,
        config: Config,
        architecture: Architecture,
        train: Split,
        validation: Split | None,
        preprocessing: Preprocessing,
        strategy: Strategy | None = None,
        *,
        checkpoint_interval_s: float = 3.0,
        chunk_duration_s: float = 1.0,
    ) -> None:
        self._config = config
        self._strategy = strategy or SingleDeviceStrategy()
        self._checkpoint_interval_s = checkpoint_interval_s
        self._chunk_duration_s = chunk_duration_s
        settings = config.training
        step_count = math.ceil(len(train) / settings.batch_size)
        with self._strategy.scope():
            self._network = initialize_network(
                architecture, config.model, settings.seed, settings.precision
            )
            compile_network(self._network, settings, step_count)
        self._keras_callbacks = KerasCallbacks(self._network, settings)
        self._epoch = self._strategy.make_epoch(self._network, train, preprocessing, settings)
        self._validation: Validation | None = None
        if validation is not None:
            self._validation = self._strategy.make_validation(
                self._network, validation, preprocessing, settings.loss
            )
        self._progress = Progress()
        self._best: RunState | None = None
        self._start: RunState | None = None
        self._is_stopped = False
        self._step_duration_s = math.inf
        self._thread = ThreadPoolExecutor(1, "steps")

    @property
    def config(self) -> Config:
        """The experiment."""
        return self._config

    @property
    def progress(self) -> Progress:
        """How far the run has come."""
        return self._progress

    @property
    def network(self) -> keras.Sequential:
        """The network in training."""
        return self._network

    @property
    def strategy(self) -> Strategy:
        """Where steps run."""
        return self._strategy

    def copy_layers(self) -> tuple[LayerState, ...]:
        """Copy the network's arrays as they are now."""
        return copy_layers(self._network)

    def assign_weights(self, weights: Sequence[Array]) -> None:
        """Start from other weights than those drawn; ValueError where they do not fit."""
        assign_weights(self._network, weights)

    def restore(self, state: RunState, best: RunState | None = None) -> None:
        """Restore a state to train on from; ValueError where it is another network's."""
        restore_state(self._network, state.network)
        self._keras_callbacks.restore(state.callbacks)
        self._progress, self._best, self._start = state.progress, best, state

    def restart_with(self, config: Config, first: RunState) -> Trainer:
        """Return a new run with the network, data and compiled programs of this one, which is over.

        Args:
            config: differs in nothing that is compiled in or decides about data and first weights.
            first: where the new run begins.
        """
        other = copy.copy(self)
        other._config = config
        other._keras_callbacks = KerasCallbacks(self._network, config.training)
        other.restore(first)
        other._start = None  # Keras' description of the optimizer is that of the run before
        return other

    def capture(self) -> RunState:
        """Copy the run as it stands."""
        callbacks = self._keras_callbacks.capture()
        return RunState(capture_state(self._network), self._progress, callbacks)

    def fit(self, callbacks: Sequence[Callback] = ()) -> RunState:
        """Train for the config's number of epochs, unless early stopping or a callback ends it.

        A checkpoint is taken first, with the state that was restored where one was; then after
        every `checkpoint_every` epochs but at most once in `checkpoint_interval_s`, and at the
        end: with the best epoch's weights where early stopping restores them, unless a callback
        stopped the run.

        Args:
            callbacks: called in this order.

        Returns:
            The last state.

        Raises:
            DivergenceError: the loss or a weight is no longer finite. The last checkpoint is.
        """
        called = CallbackList(callbacks)
        self._is_stopped = False
        called.on_train_begin(self)
        state = self._start or self.capture()
        called.on_checkpoint(state, None)
        if not self._is_running or self._epoch.compile(lambda: self._should_stop(called)):
            self._run_epochs(called)
            state = self.capture()
            called.on_checkpoint(state, self._best)
        called.on_train_end(state)
        return state

    def _run_epochs(self, callbacks: Callback) -> None:
        saved_at_s = time.monotonic()
        while self._is_running:
            if not self._run_epoch(callbacks):
                return
            callbacks.on_epoch_end(self._progress)
            is_due = self._progress.epoch % self._config.training.checkpoint_every == 0
            is_late = time.monotonic() - saved_at_s >= self._checkpoint_interval_s
            is_wanted = self._strategy.any(callbacks.should_save())
            if not self._is_running:
                break
            if is_wanted or (is_due and self._strategy.broadcast(is_late)):
                callbacks.on_checkpoint(self.capture(), self._best)
                saved_at_s = time.monotonic()
        self._keras_callbacks.end_training()

    @property
    def _is_running(self) -> bool:
        """Whether another epoch is to come."""
        is_done = self._progress.epoch >= self._config.training.epochs
        return not is_done and not self._keras_callbacks.is_stopped

    def _should_stop(self, callbacks: Callback) -> bool:
        """Ask the callbacks of all workers; once they stop, the run remains stopped."""
        if not self._is_stopped:
            self._is_stopped = self._strategy.any(callbacks.should_stop())
        return self._is_stopped

    def _run_epoch(self, callbacks: Callback) -> bool:
        """Run the current epoch to its end; False where a callback stopped it before."""
        begin_s = time.perf_counter()
        number = self._progress.epoch
        self._epoch.set_epoch(number)
        if number + 1 < self._config.training.epochs:
            self._epoch.prefetch_epoch(number + 1)
        if self._progress.step == 0:
            self._network.reset_metrics()
        while self._progress.step < self._epoch.step_count and not self._should_stop(callbacks):
            self._run_chunk(callbacks)
        metrics = _read_metrics(self._network)
        self._check_finite(metrics)
        # At the epoch's last step too: a run that is resumed there begins with the validation.
        if self._should_stop(callbacks):
            return False
        if self._validation is not None:
            validated = self._run_in_thread(self._validation.evaluate)
            metrics |= {f"val_{name}": value for name, value in validated.items()}
        training = self._config.training
        if training.schedule is not None or training.reduce_on_plateau is not None:
            rate = self._network.optimizer.learning_rate
            metrics["learning_rate"] = float(tf.convert_to_tensor(rate))
        self._complete_epoch(metrics, time.perf_counter() - begin_s)
        return True

    def _run_chunk(self, callbacks: Callback) -> None:
        """Run about a second's worth of steps, so that bars move and signals are soon handled."""
        lo, count = self._progress.step, self._epoch.step_count
        wanted = min(count, int(self._chunk_duration_s / self._step_duration_s))
        hi = min(count, lo + max(1, self._strategy.broadcast(wanted)))
        begin_s = time.perf_counter()
        self._run_in_thread(lambda: self._epoch.run(lo, hi))
        self._progress = replace(self._progress, step=hi)
        metrics = _read_metrics(self._network)
        self._step_duration_s = (time.perf_counter() - begin_s) / (hi - lo)
        callbacks.on_batch_end(BatchProgress(self._progress.epoch + 1, hi, count, metrics))
        # After the epoch's last step its end is near, and a better place.
        if hi < count and self._strategy.any(callbacks.should_save()):
            self._check_finite(metrics)
            callbacks.on_checkpoint(self.capture(), self._best)

    def _run_in_thread(self, call: Callable[[], _T]) -> _T:
        """Run a long call in a thread: Python handles signals in its main thread meanwhile."""
        return self._thread.submit(call).result()

    def _complete_epoch(self, metrics: dict[str, float], duration_s: float) -> None:
        """Add the epoch to the history, and keep its state where it is the best so far."""
        before = self._progress
        history: History = {k: (*before.history.get(k, ()), v) for k, v in metrics.items()}
        self._progress = replace(
            before,
            epoch=before.epoch + 1,
            step=0,
            history=history,
            epoch_durations_s=(*before.epoch_durations_s, duration_s),
        )
        self._keras_callbacks.end_epoch(before.epoch, metrics)
        best_loss = min(before.history.get("val_loss", (math.inf,)))
        if self._selects_best and metrics["val_loss"] < best_loss:
            self._progress = replace(self._progress, best_epoch=self._progress.epoch)
            self._best = self.capture()

    @property
    def _selects_best(self) -> bool:
        """Whether a validation set selects the best epoch: the test set never does."""
        return self._validation is not None and self._config.dataset.validation != "test"

    def _check_finite(self, metrics: dict[str, float]) -> None:
        """Raise DivergenceError where the metrics, a weight or the optimizer is not finite.

        NaN weights can hide behind a finite loss, and infinite optimizer variables behind finite
        weights, which then no longer change.
        """
        variables = (*self._network.weights, *self._network.optimizer.variables)
        finite = all(bool(np.isfinite(v.numpy()).all()) for v in variables)
        if finite and all(math.isfinite(value) for value in metrics.values()):
            return
        what = "the weights are" if math.isfinite(metrics["loss"]) else "the loss is"
        raise DivergenceError(
            f"epoch {self._progress.epoch + 1}",
            f"{what} no longer finite: training has diverged",
            "lower the learning rate (--learning-rate)",
        )


def _read_metrics(network: keras.Sequential) -> dict[str, float]:
    """Read loss and accuracy off the device, once per call."""
    return {name: float(value) for name, value in network.get_metrics_result().items()}
