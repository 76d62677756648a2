"""How steps are taken: optimizers, learning rates over time, gradients, and when to stop.

Names, meanings and defaults are Keras'; lengths are in epochs, where Keras counts steps.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mnistcli.config.strict import StrictModel, name_to_mapping

MAX_CLASSES = 1000

LearningRate = Annotated[
    float, Field(gt=0, le=1e6, description="Size of the optimizer's step, above 0.")
]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0, le=1, description="Keeps divisions away from 0.")]
WeightDecay = Annotated[
    float | None, Field(ge=0, le=1, description="Decoupled weight decay; null: none.")
]
Metric = Literal["loss", "accuracy", "val_loss", "val_accuracy"]
ValidationMetric = Literal["val_loss", "val_accuracy"]
Patience = Annotated[
    int, Field(ge=0, le=1_000_000, description="Epochs without an improvement before it acts.")
]
MinDelta = Annotated[
    float, Field(ge=0, le=1e6, description="What counts as an improvement is larger than this.")
]
EpochCount = Annotated[float, Field(gt=0, le=1e6)]
Bound = Annotated[float | None, Field(gt=0, le=1e6)]
Factor = Annotated[float, Field(gt=0, le=1e6)]


class Sgd(StrictModel):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    learning_rate: LearningRate = 0.01
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: WeightDecay = None


class Rmsprop(StrictModel):
    """RMSprop."""

    name: Literal["rmsprop"]
    learning_rate: LearningRate = 0.001
    rho: Momentum = 0.9
    momentum: Momentum = 0.0
    epsilon: Epsilon = 1e-7
    weight_decay: WeightDecay = None


class _Adaptive(StrictModel):
    """What the Adam family has in common."""

    learning_rate: LearningRate = 0.001
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Epsilon = 1e-7


class Adam(_Adaptive):
    """Adam."""

    name: Literal["adam"]
    weight_decay: WeightDecay = None


class Nadam(_Adaptive):
    """Adam with Nesterov momentum."""

    name: Literal["nadam"]
    weight_decay: WeightDecay = None


class AdamW(_Adaptive):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"]
    weight_decay: WeightDecay = 0.004


Optimizer = Annotated[
    Annotated[Sgd | Rmsprop | Adam | Nadam | AdamW, Field(discriminator="name")],
    BeforeValidator(name_to_mapping),
]


class Cosine(StrictModel):
    """A linear rise from 0 to the optimizer's learning rate, then half a cosine down from it."""

    name: Literal["cosine"]
    epochs: EpochCount | None = Field(
        None, description="Length, warm-up included; null: that of the run when it first starts."
    )
    warmup_epochs: float = Field(0.0, ge=0, le=1e6, description="Length of the rise.")
    alpha: float = Field(
        0.0, ge=0, le=1, description="Share of the learning rate that is left at the end."
    )


class Exponential(StrictModel):
    """The learning rate times `decay_rate` every `decay_epochs`."""

    name: Literal["exponential"]
    decay_rate: float = Field(0.96, gt=0, le=1)
    decay_epochs: EpochCount = 1.0
    staircase: bool = Field(False, description="Change it at once rather than step by step.")


class Piecewise(StrictModel):
    """The learning rate times a factor of its own from each boundary on."""

    name: Literal["piecewise"]
    boundaries: tuple[EpochCount, ...] = Field(
        min_length=1, max_length=100, strict=False, description="Epochs after which it changes."
    )
    factors: tuple[Factor, ...] = Field(
        min_length=1,
        max_length=100,
        strict=False,
        description="What the optimizer's learning rate is multiplied by, one a boundary.",
    )


Schedule = Annotated[
    Annotated[Cosine | Exponential | Piecewise | None, Field(discriminator="name")],
    BeforeValidator(name_to_mapping),
]


class ReduceOnPlateau(StrictModel):
    """Keras' ReduceLROnPlateau."""

    monitor: Metric = "val_loss"
    factor: float = Field(0.1, gt=0, lt=1, description="Times the learning rate, each time.")
    patience: Patience = 10
    min_delta: MinDelta = 1e-4
    cooldown: int = Field(0, ge=0, le=1_000_000, description="Epochs to wait after each time.")
    min_learning_rate: float = Field(0.0, ge=0, le=1e6, description="It goes no lower.")


class EarlyStopping(StrictModel):
    """Keras' EarlyStopping."""

    monitor: ValidationMetric = "val_loss"
    patience: Patience = 5
    min_delta: MinDelta = 0.0
    restore_best: bool = Field(True, description="End with the weights of the best epoch.")


class Clip(StrictModel):
    """Bounds of the gradients, one of Keras' three kinds."""

    norm: Bound = Field(None, description="Of each gradient's norm.")
    value: Bound = Field(None, description="Of each entry's size.")
    global_norm: Bound = Field(None, description="Of the norm of all gradients together.")


def _mapping_to_list(value: Any) -> Any:
    """Let `{0: 1.0, 1: 2.0}` stand for `[1.0, 2.0]`; one that leaves a class out stays itself."""
    if not isinstance(value, dict) or not value:
        return value
    keys = [str(number) for number in range(len(value))]
    return [value[key] for key in keys] if set(value) == set(keys) else value


ClassWeight = Annotated[
    Annotated[
        tuple[Annotated[float, Field(ge=0, le=1e6)], ...],
        Field(min_length=2, max_length=MAX_CLASSES, strict=False),
    ]
    | Literal["balanced"]
    | None,
    BeforeValidator(_mapping_to_list),
]
