"""`train --overfit-one-batch`: whether a network can memorise one small batch.

It is the first thing to try on a network that does not learn (A. Karpathy, "A Recipe for Training
Neural Networks", 2019): with every regularization off, a network whose data, loss, gradients and
learning rate are in order classifies a single small batch correctly.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import Progress
from mnistcli.commands.train.build_trainer import build_trainer
from mnistcli.commands.train.prepare import (
    load_data,
    require_single_worker,
    resolve_config,
    with_initial_weights,
)
from mnistcli.commands.train.request import OutputFile, RunPlan, TrainArguments
from mnistcli.commands.train.run import SignalCallback
from mnistcli.config.schema import Config, MlpModel
from mnistcli.datasets.base import Split, shuffle_indices
from mnistcli.errors import CheckFailedError, DivergenceError, UsageError, pluralize
from mnistcli.models.architecture import plan_architecture
from mnistcli.output.logs import note
from mnistcli.output.results import FirstAndLastResult, OverfitResult
from mnistcli.output.terminal import ProgressMode
from mnistcli.signals import StopRequest
from mnistcli.training.callbacks import Callback

FLAG = "--overfit-one-batch"
MAX_IMAGES = 32
MAX_STEPS = 2000
LOSS_SHARE = 0.1  # of the first loss: a batch with a smaller one is learned


class OverfitCheck(Callback):
    """Stops a run once its batch is memorised.

    Attributes:
        progress: of the run, whose epochs are steps; metrics are those before each step.
    """

    def __init__(self) -> None:
        self.progress = Progress()

    def on_epoch_end(self, progress: Progress) -> None:
        """Keep the metrics of the step."""
        self.progress = progress

    def should_stop(self) -> bool:
        """Return whether the batch is learned."""
        return self.has_learned

    @property
    def has_learned(self) -> bool:
        """Whether every image is correct, and the loss is a small share of the first."""
        history = self.progress.history
        if not history:
            return False
        loss, accuracy = history["loss"], history["accuracy"]
        return accuracy[-1] == 1 and loss[-1] <= LOSS_SHARE * loss[0]


def overfit_one_batch(
    arguments: TrainArguments, progress: ProgressMode = "none"
) -> tuple[OverfitResult, CheckFailedError | None]:
    """Train on one batch until it is memorised; nothing is written.

    Args:
        arguments: of the run.
        progress: how downloads are shown.

    Returns:
        The result, and an error with what to try where the batch is not learned.

    Raises:
        DivergenceError: the loss or the weights are no longer finite.
        UsageError: a flag means a run that is written.
        SignalReceived: a signal has come.
    """
    require_single_worker(FLAG, arguments)
    _refuse_flags(arguments)
    plan = _plan_batch(arguments, progress)
    trainer, begin_s = build_trainer(plan), time.monotonic()
    note(f"learning {pluralize(len(plan.train), 'image')} by heart, in {MAX_STEPS:,} steps at most")
    check = OverfitCheck()
    with StopRequest() as stop:
        callbacks = (plan.xla_cache, check, SignalCallback(stop))
        try:
            trainer.fit([*filter(None, callbacks)])
        except DivergenceError as error:
            where = error.where.replace("epoch", "step")  # an epoch is one step here
            raise DivergenceError(where, error.what, error.hint) from error
    stop.raise_if_received()
    loss, accuracy = check.progress.history["loss"], check.progress.history["accuracy"]
    result = OverfitResult(
        learned=check.has_learned,
        images=len(plan.train),
        steps=len(loss),
        loss=FirstAndLastResult(first=loss[0], last=loss[-1]),
        accuracy=FirstAndLastResult(first=accuracy[0], last=accuracy[-1]),
        seconds=time.monotonic() - begin_s,
    )
    if result.learned:
        return result, None
    what = f"{result.images} images are not known by heart after {pluralize(result.steps, 'step')}"
    return result, CheckFailedError(FLAG, what, suggest_remedy(loss))


def suggest_remedy(losses: Sequence[float]) -> str:
    """Suggest what to try on a batch that is not learned, by its loss before each step."""
    first, middle, last = losses[0], losses[len(losses) // 2], losses[-1]
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


def get_first_batch(split: Split, order: NDArray[np.integer], batch_size: int) -> Split:
    """Return the first images of a run's first batch, no more than MAX_IMAGES.

    Args:
        split: the training set.
        order: of the run's first epoch.
        batch_size: the run's.
    """
    rows = order[: min(batch_size, MAX_IMAGES)]
    return Split(split.images[rows], split.labels[rows])


def plan_overfitting(config: Config, image_count: int) -> Config:
    """Return the config under which an epoch is one step on one batch, without regularization.

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


def _refuse_flags(arguments: TrainArguments) -> None:
    """Refuse flags of a run that is written; UsageError."""
    given = {
        "--output": arguments.output is not None,
        "--overwrite": arguments.overwrite,
        "--resume": arguments.resume is not None,
        "--more": arguments.more is not None,
        "--force": arguments.force,
        "--dry-run": arguments.dry_run,
        "--tensorboard": arguments.tensorboard is not None,
    }
    flag = next((flag for flag, is_given in given.items() if is_given), None)
    if flag is not None:
        raise UsageError(flag, f"{FLAG} only tries, and keeps nothing", "leave one of them out")


def _plan_batch(arguments: TrainArguments, progress: ProgressMode) -> RunPlan:
    """Plan the run that was asked for, then put one batch in the place of its training set."""
    config = resolve_config(arguments).config
    initial = None if arguments.init_from is None else read_checkpoint(arguments.init_from)
    plan = load_data(config, arguments, OutputFile.disabled(), progress)
    training, info = plan.config.training, plan.dataset.info
    count = len(plan.train)
    order = shuffle_indices(training.seed, 0, count) if training.shuffle else np.arange(count)
    batch = get_first_batch(plan.train, order, training.batch_size)
    config = plan_overfitting(plan.config, len(batch))
    network = plan_architecture(config.model, info.image_shape, len(info.class_names))
    plan = replace(plan, config=config, architecture=network, train=batch, validation=None)
    return plan if initial is None else with_initial_weights(plan, initial)
