"""`train --overfit-one-batch`: whether a network can learn at all.

Whether a network can learn at all: it has to learn a few images by heart. The first thing to try
on a network that will not learn (A. Karpathy, "A Recipe for Training Neural Networks", 2019):
with everything off that holds training back, a network whose data, loss, gradients and learning
rate are in order gets a single small batch right. Pure planning and judging; the training is that
of any run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import Progress
from mnistcli.commands.signals import StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_trainer
from mnistcli.commands.train.prepare import load_data, load_request, with_initial_weights
from mnistcli.commands.train.request import OutputFile, Plan, Request
from mnistcli.commands.train.run import StopOnSignal, refuse_together
from mnistcli.config.schema import Config, MlpModel
from mnistcli.datasets.base import Split, shuffle_indices
from mnistcli.errors import CheckFailedError, DivergenceError, UsageError
from mnistcli.models.architecture import plan_architecture
from mnistcli.output.results import FirstAndLastResult, OverfitResult
from mnistcli.output.terminal import Output, emit
from mnistcli.training.callbacks import Callback

MAX_IMAGES = 32
MAX_STEPS = 2000
LOSS_SHARE = 0.1  # what may be left of the first loss


@dataclass(frozen=True)
class Verdict:
    """What came of learning one batch by heart; metrics are those before each step.

    Attributes:
        images: in the batch.
        losses: one a step.
        accuracies: one a step, 0 to 1.
    """

    images: int
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def has_learned(self) -> bool:
        """Tell whether every image is right, and the loss a small share of the first."""
        return has_learned(self.losses, self.accuracies)

    def suggest(self) -> str:
        """Say what to try, from how the loss went."""
        first, middle, last = self.losses[0], self.losses[len(self.losses) // 2], self.losses[-1]
        if last > first:
            return "the loss rises: lower the learning rate (--learning-rate)"
        if last > 0.9 * first:
            return (
                "the loss hardly moves: try a larger learning rate (--learning-rate), other"
                " activations or initializers"
            )
        if last < 0.95 * middle:
            return "the loss still falls: try a larger learning rate (--learning-rate)"
        return "the loss falls no more: try a larger network, another optimizer or learning rate"


def has_learned(losses: Sequence[float], accuracies: Sequence[float]) -> bool:
    """Tell whether metrics, one value a step, end where the batch is known by heart."""
    return accuracies[-1] == 1 and losses[-1] <= LOSS_SHARE * losses[0]


def take_batch(split: Split, order: NDArray[np.integer], batch_size: int) -> Split:
    """Return the first images of a run's first batch, no more than MAX_IMAGES.

    Args:
        split: the training set.
        order: of the run's first epoch.
        batch_size: the run's.
    """
    rows = order[: min(batch_size, MAX_IMAGES)]
    return Split(split.images[rows], split.labels[rows])


def plan_overfitting(config: Config, image_count: int) -> Config:
    """Return the config under which an epoch is one step on one batch, and nothing holds it back.

    Network, initializers, loss, optimizer, its learning rate and clipping stay as they are;
    dropout, penalties, weight decay, label smoothing, class weights, the schedule, plateaus,
    early stopping and validation are off.

    Args:
        config: the experiment.
        image_count: of the batch.
    """
    settings = config.training
    optimizer = settings.optimizer
    if optimizer.weight_decay is not None:
        optimizer = optimizer.model_copy(update={"weight_decay": 0.0})
    training = settings.model_copy(
        update={
            "epochs": MAX_STEPS,
            "batch_size": image_count,
            "optimizer": optimizer,
            "shuffle": False,
            "schedule": None,
            "reduce_on_plateau": None,
            "early_stopping": None,
            "label_smoothing": 0.0,
            "class_weight": None,
        }
    )
    model = config.model.model_copy(update={"l1": 0.0, "l2": 0.0})
    if isinstance(model, MlpModel):
        hidden = tuple(layer.model_copy(update={"dropout": None}) for layer in model.hidden)
        model = model.model_copy(update={"hidden": hidden, "dropout": 0.0})
    dataset = config.dataset.model_copy(update={"validation": 0.0})
    return Config(dataset=dataset, model=model, training=training)


FLAG = "--overfit-one-batch"


def overfit_one_batch(request: Request) -> None:
    """Train on one batch, and say whether it was learned by heart.

    Raises:
        CheckFailedError: it was not.
        DivergenceError: the numbers are no longer finite.
        UsageError: a flag means a run that is kept.
    """
    refuse_together(FLAG, request)
    _refuse_flags(request)
    console = Output(quiet=request.quiet or request.json or request.jsonl)
    plan = _plan_batch(request, console)
    trainer, begin_s = build_trainer(plan), time.monotonic()
    console.note(f"learning {len(plan.train)} images by heart, in {MAX_STEPS:,} steps at most")
    check = OverfitCheck()
    with StopRequest() as stop:
        try:
            trainer.fit([plan.programs or Callback(), check, StopOnSignal(stop)])
        except DivergenceError as error:
            raise _name_step(error) from error
    if stop.received is not None:
        end_by_signal(stop.received)
    history = check.progress.history
    verdict = Verdict(len(plan.train), history["loss"], history["accuracy"])
    _show(verdict, time.monotonic() - begin_s, request)


class OverfitCheck(Callback):
    """Stops the run once the batch is learned by heart.

    Attributes:
        progress: of the run; an epoch is one step.
    """

    def __init__(self) -> None:
        self.progress = Progress()

    def on_epoch_end(self, progress: Progress) -> None:
        """Keep the metrics of the step."""
        self.progress = progress

    def should_stop(self) -> bool:
        """Return whether the batch is learned."""
        history = self.progress.history
        return bool(history) and has_learned(history["loss"], history["accuracy"])


def _refuse_flags(request: Request) -> None:
    """Nothing is kept of it, so there is nothing to go on with, to name or to watch."""
    given = {
        "--output": request.output is not None,
        "--overwrite": request.overwrite,
        "--resume": request.resume is not None,
        "--more": request.more is not None,
        "--force": request.force,
        "--dry-run": request.dry_run,
        "--tensorboard": request.tensorboard is not None,
    }
    flag = next((flag for flag, is_given in given.items() if is_given), None)
    if flag is not None:
        raise UsageError(flag, f"{FLAG} only tries, and keeps nothing", "leave one of them out")


def _plan_batch(request: Request, console: Output) -> Plan:
    """Plan the run that was asked for, then put one batch in the place of its training set."""
    config = load_request(request, console).config
    initial = None if request.init_from is None else read_checkpoint(request.init_from)
    plan = load_data(config, request, console, OutputFile.nowhere())
    training, info = plan.config.training, plan.dataset.info
    count = len(plan.train)
    order = shuffle_indices(training.seed, 0, count) if training.shuffle else np.arange(count)
    batch = take_batch(plan.train, order, training.batch_size)
    config = plan_overfitting(plan.config, len(batch))
    network = plan_architecture(config.model, info.image_shape, len(info.class_names))
    plan = replace(plan, config=config, architecture=network, train=batch, validation=None)
    return plan if initial is None else with_initial_weights(plan, initial)


def _name_step(error: DivergenceError) -> DivergenceError:
    """An epoch is a step here."""
    return DivergenceError(error.where.replace("epoch", "step"), error.what, error.hint)


def _show(verdict: Verdict, duration_s: float, request: Request) -> None:
    """Print the verdict in the requested format; CheckFailedError where nothing was learned."""
    answer = OverfitResult(
        learned=verdict.has_learned,
        images=verdict.images,
        steps=len(verdict.losses),
        loss=FirstAndLastResult(first=verdict.losses[0], last=verdict.losses[-1]),
        accuracy=FirstAndLastResult(first=verdict.accuracies[0], last=verdict.accuracies[-1]),
        seconds=duration_s,
    )
    failure = None
    if not verdict.has_learned:
        what = f"{verdict.images} images are not known by heart after {answer.steps} steps"
        failure = CheckFailedError(FLAG, what, verdict.suggest())
    as_json = request.json or request.jsonl
    emit(answer, "json" if as_json else "quiet" if request.quiet else "text", failure)
