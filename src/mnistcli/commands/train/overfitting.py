"""Whether a network can learn at all: it has to learn a few images by heart.

The first thing to try on a network that will not learn (A. Karpathy, "A Recipe for Training Neural
Networks", 2019): with everything off that holds training back, a network whose data, loss,
gradients and learning rate are in order gets a single small batch right. Pure planning and judging;
the training is that of any run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import Config, MlpModel
from mnistcli.datasets.base import Split

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
