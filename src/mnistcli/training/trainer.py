"""The loop over epochs: order, pieces, validation, history, divergence.

It knows neither files nor screens: it is handed observers, and hands out states.
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

from mnistcli.checkpoints.run_state import Array, History, Progress, RunState
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split
from mnistcli.errors import DivergenceError
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.training.callbacks import Live, Observer
from mnistcli.training.compile_model import compile_network, initialize_network
from mnistcli.training.distributed.strategies import Engine, OneDevice, Validation
from mnistcli.training.keras_callbacks import Callbacks
from mnistcli.training.network_state import assign_weights, capture_state, restore_state

PIECE_DURATION_S = 1.0
CHECKPOINT_INTERVAL_S = 3.0

_T = TypeVar("_T")


class Training:
    """One run: a compiled network, its data on the device, and how far it has come.

    Args:
        config: the experiment.
        architecture: what the config's model block means for the data.
        train: the training set without what is held out for validation, uint8.
        validation: a split to monitor after each epoch.
        preprocessing: raw pixels to network input.
        engine: where it runs; null for one device.
    """

    def __init__(
        self,
        config: Config,
        architecture: Architecture,
        train: Split,
        validation: Split | None,
        preprocessing: Preprocessing,
        engine: Engine | None = None,
    ) -> None:
        self._config = config
        self._engine = engine or OneDevice()
        settings = config.training
        step_count = math.ceil(len(train) / settings.batch_size)
        with self._engine.open():
            self._network = initialize_network(
                architecture, config.model, settings.seed, settings.precision
            )
            compile_network(self._network, settings, step_count)
        self._callbacks = Callbacks(self._network, config.training)
        self._epoch = self._engine.make_epoch(self._network, train, preprocessing, config.training)
        self._validation: Validation | None = None
        if validation is not None:
            self._validation = self._engine.make_validation(
                self._network, validation, preprocessing, config.training.loss
            )
        self._progress = Progress()
        self._best: RunState | None = None
        self._start: RunState | None = None
        self._step_duration_s = math.inf
        self._worker = ThreadPoolExecutor(1, "steps")

    @property
    def network(self) -> keras.Sequential:
        """The network in training."""
        return self._network

    def assign_weights(self, weights: Sequence[Array]) -> None:
        """Start from other weights than those drawn; ValueError where they do not fit."""
        assign_weights(self._network, weights)

    def restore(self, state: RunState, best: RunState | None = None) -> None:
        """Go on from a state; ValueError where it is another network's."""
        restore_state(self._network, state.network)
        self._callbacks.restore(state.callbacks)
        self._progress, self._best, self._start = state.progress, best, state

    def begin_again(self, config: Config, first: RunState) -> Training:
        """Return another run with the network, the data and the programs of this one, now over.

        Args:
            config: differs in nothing that is compiled in or decides about data and first weights.
            first: where it begins.
        """
        other = copy.copy(self)
        other._config = config
        other._callbacks = Callbacks(self._network, config.training)
        other.restore(first)
        other._start = None  # what Keras says of its optimizer is that of the run before
        return other

    def capture(self) -> RunState:
        """Copy the run as it stands."""
        return RunState(capture_state(self._network), self._progress, self._callbacks.capture())

    def fit(self, observer: Observer) -> RunState:
        """Train for the config's number of epochs, unless early stopping or the observer ends it.

        The state is handed to the observer first, as it was restored where it was; then after
        every `checkpoint_every` epochs but at most once in a few seconds, and at the end: then
        with the best epoch's weights where early stopping restores them, unless the observer
        stopped the run.

        Raises:
            DivergenceError: the loss or a weight is no longer finite. The last state that was
                handed out is finite.
        """
        first = self._start or self.capture()
        observer.on_state(first, None)
        if self._is_going_on and not self._epoch.compile(observer.is_stopping):
            return first
        saved_at_s = time.monotonic()
        while self._is_going_on:
            if not self._run_epoch(observer):
                break
            observer.on_epoch(self._progress)
            due = self._progress.epoch % self._config.training.checkpoint_every == 0
            late = time.monotonic() - saved_at_s >= CHECKPOINT_INTERVAL_S
            if due and self._is_going_on and self._decide(late):
                observer.on_state(self.capture(), self._best)
                saved_at_s = time.monotonic()
        else:
            self._callbacks.end_training()
        final = self.capture()
        observer.on_state(final, self._best)
        return final

    @property
    def _is_going_on(self) -> bool:
        """Tell whether another epoch is to come."""
        return (
            self._progress.epoch < self._config.training.epochs and not self._callbacks.is_stopped
        )

    def _run_epoch(self, observer: Observer) -> bool:
        """Run the epoch under way to its end; false where the observer stopped it before."""
        begin_s = time.perf_counter()
        number = self._progress.epoch
        self._epoch.arrange(number)
        if number + 1 < self._config.training.epochs:
            self._epoch.arrange_next(number + 1)
        if self._progress.step == 0:
            self._network.reset_metrics()
        while self._progress.step < self._epoch.step_count and not observer.is_stopping():
            self._run_piece(observer)
        metrics = _read_metrics(self._network)
        self._check_finite(metrics)
        if observer.is_stopping():  # at the epoch's last step too: a resumed run validates then
            return False
        if self._validation is not None:
            validated = self._wait_for(self._validation.evaluate)
            metrics |= {f"val_{name}": value for name, value in validated.items()}
        training = self._config.training
        if training.schedule is not None or training.reduce_on_plateau is not None:
            rate = self._network.optimizer.learning_rate
            metrics["learning_rate"] = float(tf.convert_to_tensor(rate))
        self._complete_epoch(metrics, time.perf_counter() - begin_s)
        return True

    def _run_piece(self, observer: Observer) -> None:
        """Run about a second's worth of steps, so that bars move and interrupts are prompt."""
        lo, count = self._progress.step, self._epoch.step_count
        wanted = PIECE_DURATION_S / self._step_duration_s
        hi = min(count, lo + max(1, self._decide(min(count, int(wanted)))))
        begin_s = time.perf_counter()
        self._wait_for(lambda: self._epoch.run(lo, hi))
        self._progress = replace(self._progress, step=hi)
        metrics = _read_metrics(self._network)
        self._step_duration_s = (time.perf_counter() - begin_s) / (hi - lo)
        observer.on_piece(Live(self._progress.epoch + 1, hi, count, metrics))

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return the numbers of all who train this run; each has to ask as often as any other."""
        return self._wait_for(lambda: self._engine.exchange(number))

    def _decide(self, number: int) -> int:
        """Return the first worker's number, of whatever a clock tells: it holds for all."""
        return self.exchange(number)[0]

    def _wait_for(self, call: Callable[[], _T]) -> _T:
        """Run a call elsewhere, so that signals are heard here before it is through."""
        return self._worker.submit(call).result()

    def _complete_epoch(self, metrics: dict[str, float], duration_s: float) -> None:
        """Add the epoch to the record, and keep its state where it is the best so far."""
        before = self._progress
        history: History = {k: (*before.history.get(k, ()), v) for k, v in metrics.items()}
        self._progress = replace(
            before,
            epoch=before.epoch + 1,
            step=0,
            history=history,
            epoch_durations_s=(*before.epoch_durations_s, duration_s),
        )
        self._callbacks.end_epoch(before.epoch, metrics)
        if self._chooses and metrics["val_loss"] < min(before.history.get("val_loss", (math.inf,))):
            self._progress = replace(self._progress, best_epoch=self._progress.epoch)
            self._best = self.capture()

    @property
    def _chooses(self) -> bool:
        """Tell whether a validation set of its own may choose: the test set never does."""
        return self._validation is not None and self._config.dataset.validation != "test"

    def _check_finite(self, metrics: dict[str, float]) -> None:
        """Stop a run that has diverged; NaN weights can hide behind a finite loss.

        What the optimizer keeps can be infinite behind finite weights: these then stand still.
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
