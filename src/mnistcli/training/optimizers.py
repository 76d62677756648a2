"""Makes Keras' loss, regularizers, optimizer and learning rate schedule of a config."""

from __future__ import annotations

import keras

from mnistcli.config.schema import LOSSES, Clip, Cosine, Exponential, Piecewise, TrainingConfig

_CLIP_ARGUMENTS = {"norm": "clipnorm", "value": "clipvalue", "global_norm": "global_clipnorm"}


def make_loss(training: TrainingConfig) -> str | keras.losses.Loss:
    """Return Keras' name of the loss, or the loss itself where its labels are smoothed."""
    if training.label_smoothing == 0:
        return training.loss
    settings = {"label_smoothing": training.label_smoothing}
    return keras.losses.get({"class_name": LOSSES[training.loss].keras_class, "config": settings})


def make_regularizer(l1: float, l2: float) -> keras.regularizers.Regularizer | None:
    """Return the regularizer of a kernel; None where it would add nothing."""
    return keras.regularizers.L1L2(l1=l1, l2=l2) if l1 or l2 else None


def make_optimizer(training: TrainingConfig, step_count: int) -> keras.optimizers.Optimizer:
    """Return the optimizer, not built yet.

    Args:
        training: optimizer, schedule and clipping.
        step_count: steps in an epoch, which schedules count.
    """
    arguments = training.optimizer.model_dump()
    name = arguments.pop("name")
    if training.schedule is not None:
        arguments["learning_rate"] = _make_schedule(training, step_count)
    if training.clip is not None:
        arguments |= _list_bounds(training.clip)
    return keras.optimizers.get({"class_name": name, "config": arguments})


def _list_bounds(clip: Clip) -> dict[str, float]:
    return {_CLIP_ARGUMENTS[k]: v for k, v in clip.model_dump(exclude_none=True).items()}


def _make_schedule(
    training: TrainingConfig, step_count: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a schedule, its lengths in steps, which Keras counts from 0."""
    rate = training.optimizer.learning_rate
    match training.schedule:
        case Cosine() as cosine:
            length = training.epochs if cosine.epochs is None else cosine.epochs
            return _make_cosine(cosine, rate, length, step_count)
        case Exponential() as exponential:
            return keras.optimizers.schedules.ExponentialDecay(
                rate,
                _count_steps(exponential.decay_epochs, step_count),
                exponential.decay_rate,
                exponential.staircase,
            )
        case Piecewise() as piecewise:
            return keras.optimizers.schedules.PiecewiseConstantDecay(
                # The value before a boundary is in force at the boundary's own step too.
                [_count_steps(b, step_count) - 1 for b in piecewise.boundaries],
                [rate, *(rate * factor for factor in piecewise.factors)],
            )
        case _:
            raise AssertionError(training.schedule)


def _make_cosine(
    cosine: Cosine, rate: float, length_epochs: float, step_count: int
) -> keras.optimizers.schedules.CosineDecay:
    # Keras counts the decay from the end of the warm-up.
    length = _count_steps(length_epochs, step_count)
    if cosine.warmup_epochs == 0:
        return keras.optimizers.schedules.CosineDecay(rate, length, cosine.alpha)
    rise = min(_count_steps(cosine.warmup_epochs, step_count), length - 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, length - rise, cosine.alpha, warmup_target=rate, warmup_steps=rise
    )


def _count_steps(epochs: float, step_count: int) -> int:
    return max(1, round(epochs * step_count))
