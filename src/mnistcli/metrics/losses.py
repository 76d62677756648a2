"""The losses that `model.evaluate` of Keras 3 reports: the usual ones, in NumPy.

Others are computed by Keras (`mnistcli.training.compile_model.compute_keras_loss`).

Keras keeps the logits of a softmax or sigmoid output and computes every cross-entropy from them,
whichever of the two it was (keras/src/backend/tensorflow/nn.py, `_get_logits`): so the categorical
cross-entropy of a sigmoid output is the softmax cross-entropy of its logits. They are lost where
the output is not in float32, since losses convert it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.models.activations import apply_activation
from mnistcli.models.architecture import Head

Doubles = NDArray[np.float64]
Outputs = NDArray[np.floating]

EPSILON = 1e-7  # keras.config.epsilon(): outputs that are no logits are clipped by it
CHUNK_VALUES = 1 << 20  # of the logits, summed up at a time: 8 MiB of float64


@dataclass(frozen=True)
class LossSpec:
    """A loss of Keras' and its settings.

    Attributes:
        name: name of the loss in Keras.
        from_logits: the network's outputs are logits, whatever its activation.
        label_smoothing: 0 to 1; used by categorical and binary cross-entropy.
        weight: what Keras multiplies it by.
        keras_config: what Keras makes it from, in JSON; empty where the formulas here compute it.
    """

    name: str
    from_logits: bool = False
    label_smoothing: float = 0.0
    weight: float = 1.0
    keras_config: str = ""

    @property
    def is_plain_crossentropy(self) -> bool:
        """Return whether it is a mean cross-entropy, which is never large without a reason."""
        return not self.keras_config and self.weight == 1 and self.name.endswith("crossentropy")


@dataclass(frozen=True)
class UnknownLoss:
    """Why there is no loss: a file names none, or one that is not Keras' own.

    Attributes:
        reason: why, for people.
        name: of the loss, where the file names one.
    """

    reason: str
    name: str | None = None


AnyLoss = LossSpec | UnknownLoss


def compute_mean_loss(
    logits: NDArray[np.floating], labels: NDArray[np.int64], head: Head, loss: LossSpec
) -> float:
    """Return the mean of the images' losses."""
    # In chunks: targets and logarithms in float64 are as large as the logits.
    rows, total = max(1, CHUNK_VALUES // logits.shape[1]), 0.0
    for start in range(0, len(logits), rows):
        piece = slice(start, start + rows)
        total += float(_compute_losses(logits[piece], labels[piece], head, loss).sum())
    return total / len(logits)


def _compute_losses(
    logits: NDArray[np.floating], labels: NDArray[np.int64], head: Head, loss: LossSpec
) -> Doubles:
    """Return the loss of each image, float64 [n]."""
    formula, targets = _FORMULAS[loss.name], _make_targets(labels, logits.shape[1], loss)
    has_logits = head.activation in ("softmax", "sigmoid") and head.dtype == "float32"
    if has_logits and formula.from_logits is not None:
        return formula.from_logits(logits.astype(np.float64), targets)
    outputs = apply_activation(head.activation, logits)
    if loss.from_logits and formula.from_logits is not None:
        return formula.from_logits(outputs.astype(np.float64), targets)
    return formula.from_outputs(outputs, targets)


def _make_targets(labels: NDArray[np.int64], units: int, loss: LossSpec) -> Doubles:
    """Return one-hot rows, for one unit the labels themselves; smoothed where the loss says so."""
    columns = np.arange(units) if units > 1 else np.ones(1, np.int64)
    targets: Doubles = (labels[:, None] == columns).astype(np.float64)
    return _FORMULAS[loss.name].smooth(targets, loss.label_smoothing)


def _smooth_over_classes(targets: Doubles, smoothing: float) -> Doubles:
    units: int = targets.shape[1]
    return targets * (1 - smoothing) + smoothing / units


def _smooth_to_half(targets: Doubles, smoothing: float) -> Doubles:
    return targets * (1 - smoothing) + smoothing / 2


def _softmax_crossentropy(logits: Doubles, targets: Doubles) -> Doubles:
    shifted = logits - logits.max(axis=1, keepdims=True)  # no overflow
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray((targets * (log_sum - shifted)).sum(axis=1))


def _sigmoid_crossentropy(logits: Doubles, targets: Doubles) -> Doubles:
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))  # no overflow
    return np.asarray((softplus - targets * logits).mean(axis=1))


def _clip(outputs: Outputs) -> Outputs:
    """Clip probabilities as Keras does, in their own precision."""
    return np.clip(outputs, EPSILON, 1 - EPSILON)


def _categorical_crossentropy(outputs: Outputs, targets: Doubles) -> Doubles:
    clipped = _clip(outputs / outputs.sum(axis=1, keepdims=True))
    return np.asarray(-(targets * np.log(clipped.astype(np.float64))).sum(axis=1))


def _sparse_categorical_crossentropy(outputs: Outputs, targets: Doubles) -> Doubles:
    return _softmax_crossentropy(np.log(_clip(outputs).astype(np.float64)), targets)


def _binary_crossentropy(outputs: Outputs, targets: Doubles) -> Doubles:
    clipped = _clip(outputs)
    logarithms = np.log(clipped.astype(np.float64))
    complements = np.log((1 - clipped).astype(np.float64))
    return np.asarray(-(targets * logarithms + (1 - targets) * complements).mean(axis=1))


def _mean_squared_error(outputs: Outputs, targets: Doubles) -> Doubles:
    return np.asarray(np.square(targets - outputs).mean(axis=1))


@dataclass(frozen=True)
class _LossFormula:
    """The formula of a loss: functions of [n, units] and targets [n, units] to float64 [n].

    Attributes:
        from_outputs: of outputs, which are probabilities.
        from_logits: of logits; None for a loss that Keras computes from outputs in any case.
        smooth: smooths targets by a label smoothing.
    """

    from_outputs: Callable[[Outputs, Doubles], Doubles]
    from_logits: Callable[[Doubles, Doubles], Doubles] | None = None
    smooth: Callable[[Doubles, float], Doubles] = lambda targets, _: targets


_FORMULAS = {
    "categorical_crossentropy": _LossFormula(
        _categorical_crossentropy, _softmax_crossentropy, _smooth_over_classes
    ),
    "sparse_categorical_crossentropy": _LossFormula(
        _sparse_categorical_crossentropy, _softmax_crossentropy
    ),
    "mean_squared_error": _LossFormula(_mean_squared_error),
    "binary_crossentropy": _LossFormula(
        _binary_crossentropy, _sigmoid_crossentropy, _smooth_to_half
    ),
}
"""The formulas of `mnistcli.config.schema.LOSSES`."""
