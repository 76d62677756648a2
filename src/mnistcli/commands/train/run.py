"""`train --tensorboard DIR`: what TensorBoard shows of a run, written beside it as it goes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.checkpoints.run_state import LayerState, Progress, RunState
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.datasets.base import Split
from mnistcli.errors import ResourceError
from mnistcli.metrics.mistakes import SHEET_COLUMNS, SHEET_ROWS, draw_sheet, find_mistakes
from mnistcli.metrics.scores import class_probabilities
from mnistcli.models.numpy_inference import compute_probabilities, run_network
from mnistcli.output.results import TestResult
from mnistcli.output.terminal import Output
from mnistcli.training.tensorboard_writer import EventFile, check_tensorboard

if TYPE_CHECKING:
    from mnistcli.training.callbacks import Live, Observer
    from mnistcli.training.trainer import Training

FLAG = "--tensorboard"
_MONITORED = "val_"


def check_directory(directory: Path) -> None:
    """Find out before a long run whether its event files can be written; nothing is made yet.

    Raises:
        ResourceError: TensorBoard is not installed, or the directory takes no files.
    """
    check_tensorboard()
    hint = f"choose another directory with {FLAG}"
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ResourceError(FLAG, f"{existing} is a file, not a directory", hint)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ResourceError(FLAG, f"{existing} is not writable", hint)


class Board:
    """Observes a run after its keeper, and writes down what TensorBoard shows.

    The run has a directory of its own, named after its checkpoint, so that many runs can share
    DIR: `train` holds what Keras' own callback writes there, `validation` the same metrics of the
    validation set, `test` the final score. Steps are completed epochs; 0 is before the first.

    Args:
        directory: DIR.
        plan: the run.
        keeper: is told everything first.
        copy_layers: returns the network's arrays as they are.
        console: hears once where nothing more can be written; the run goes on without.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        keeper: Observer,
        copy_layers: Callable[[], tuple[LayerState, ...]],
        console: Output,
    ) -> None:
        self._directory, self._plan, self._keeper = directory, plan, keeper
        self._copy_layers, self._console = copy_layers, console
        self._files: dict[str, EventFile] = {}
        self._first_step = 0
        self._has_begun = self._is_broken = False

    def is_stopping(self) -> bool:
        """Leave it to the keeper."""
        return self._keeper.is_stopping()

    def on_piece(self, live: Live) -> None:
        """Pass it on."""
        self._keeper.on_piece(live)

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Begin with the first state, once the run's file has its name."""
        self._keeper.on_state(state, best)
        if self._has_begun:
            return
        self._has_begun = True
        progress = state.progress
        self._first_step = progress.epoch + 1 if progress.epoch or progress.step else 0
        self._write(lambda: self._begin(state))
        self._console.note(f"watch  tensorboard --logdir {shlex.quote(str(self._directory))}")

    def on_epoch(self, progress: Progress) -> None:
        """Write the epoch down."""
        self._keeper.on_epoch(progress)
        self._write(lambda: self._write_epoch(progress))

    def show_score(self, state: RunState, test: TestResult) -> None:
        """Write the final score, and a sheet of test images that the network gets wrong."""
        step, scores = state.progress.epoch, {"epoch_loss": test.loss}
        scores["epoch_accuracy"] = test.accuracy
        layers, split = state.network.layers, self._plan.dataset.test
        self._write(lambda: self._open_file("test", step).write_scalars(step, scores))
        self._write(lambda: self._write_mistakes("test", step, layers, split))

    def _write(self, write: Callable[[], object]) -> None:
        """Write; a full disk ends the event files, not the run."""
        if self._is_broken:
            return
        try:
            write()
        except OSError as error:
            self._is_broken = True
            where = error.filename or self._directory
            self._console.warn(f"{where}: {error.strerror}: no more is written for TensorBoard")

    def _begin(self, state: RunState) -> None:
        """Begin a run's files; where it overwrites another, also those that it may not need."""
        if self._first_step > 0:
            self._open_file("train", self._first_step)
            return
        for name in ("train", "validation", "test"):
            if name == "train" or (self._run_directory / name).is_dir():
                self._open_file(name, 0)
        self._write_histograms(0, state.network.layers)

    @property
    def _run_directory(self) -> Path:
        """Where this run's files are, once its checkpoint has a name."""
        return self._directory / self._plan.output.path.stem

    def _open_file(self, name: str, first_step: int | None = None) -> EventFile:
        """Return the event file of a part of the run."""
        if name not in self._files:
            step = self._first_step if first_step is None else first_step
            self._files[name] = EventFile(self._run_directory / name, step)
        return self._files[name]

    def _write_epoch(self, progress: Progress) -> None:
        """Write metrics and weights; and mistakes, where a validation set shows some."""
        step, layers = progress.epoch, self._copy_layers()
        last = {name: values[-1] for name, values in progress.history.items()}
        if "learning_rate" not in last:
            last["learning_rate"] = self._plan.config.training.optimizer.learning_rate
        seen = {k: v for k, v in last.items() if not k.startswith(_MONITORED)}
        self._open_file("train").write_scalars(step, {f"epoch_{k}": v for k, v in seen.items()})
        self._write_histograms(step, layers)
        if self._plan.validation is None:
            return
        monitored = {k.removeprefix(_MONITORED): v for k, v in last.items() if k not in seen}
        scores = {f"epoch_{name}": value for name, value in monitored.items()}
        self._open_file("validation").write_scalars(step, scores)
        self._write_mistakes("validation", step, layers, self._plan.validation)

    def _write_histograms(self, step: int, layers: tuple[LayerState, ...]) -> None:
        """Write how each array's numbers are distributed, under the name that Keras gives it."""
        arrays = {f"{a.name}/histogram": a.values for layer in layers for a in layer.weights}
        self._open_file("train").write_histograms(step, arrays)

    def _write_mistakes(
        self, name: str, step: int, layers: tuple[LayerState, ...], split: Split
    ) -> None:
        """Draw the mistakes of which the network is surest; rows of numbers cannot be drawn."""
        plan = self._plan
        if len(plan.dataset.info.image_shape) == 1:
            return
        weights = tuple(array.values for layer in layers for array in layer.weights)
        logits = run_network(plan.architecture, weights, split.images, plan.preprocessing)
        probabilities = class_probabilities(compute_probabilities(plan.architecture, logits))
        mistakes = find_mistakes(probabilities, split.labels, SHEET_COLUMNS * SHEET_ROWS)
        if mistakes:
            info = plan.dataset.info
            bright = Split(info.brighten(split.images), split.labels)
            sheet = draw_sheet(bright, mistakes, info.class_names)
            self._open_file(name).write_picture(step, "misclassified", sheet)


def open_board(
    request: Request, plan: Plan, keeper: Observer, training: Training, console: Output
) -> Board | None:
    """Return what writes for TensorBoard, where that was asked for."""
    if request.tensorboard is None:
        return None
    from mnistcli.training.network_state import copy_layers

    return Board(request.tensorboard, plan, keeper, lambda: copy_layers(training.network), console)
