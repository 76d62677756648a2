"""Builds the Keras network of an architecture, and compiles it for a config.

Its Dense and Dropout compute what Keras' do, in ways that XLA runs faster on a CPU. They are saved
as Keras' own: a checkpoint names neither of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.compiler.tf2xla.python import xla

from mnistcli.config.schema import (
    LOSSES,
    Clip,
    Cosine,
    Exponential,
    Initializer,
    Model,
    Piecewise,
    Precision,
    TrainingConfig,
)
from mnistcli.metrics.losses import LossSpec, UnknownLoss
from mnistcli.models import layers as plan
from mnistcli.models.architecture import Architecture, Head

MAX_NARROW_UNITS = 32
_CLIP_ARGUMENTS = {"norm": "clipnorm", "value": "clipvalue", "global_norm": "global_clipnorm"}


class Dropout(keras.layers.Dropout):  # type: ignore[misc]
    """Keras' Dropout with an explicit random generator.

    Compiled by XLA for a CPU, Keras' own call reaches the same generator (Philox) through a slow
    default; naming it is about nine times faster, with bit-identical results.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop a share of the inputs while training."""
        if not training or self.rate == 0:
            return inputs
        state = self.seed_generator.next()
        if tf.distribute.has_strategy():  # replicas share the state, and not their masks
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            state += tf.stack([tf.cast(number, state.dtype), 0])
        state = tf.cast(tf.math.floormod(state, tf.int32.max - 1), tf.int32)
        return tf.nn.experimental.stateless_dropout(
            inputs, rate=self.rate, seed=state, rng_alg="philox"
        )


class Dense(keras.layers.Dense):  # type: ignore[misc]
    """Keras' Dense for few units, with the kernel's gradient multiplied the other way round.

    XLA on a CPU multiplies inputsᵀ · gradient about three times slower than gradientᵀ · inputs
    where the result is narrow; the barrier keeps it from turning the one back into the other.
    Results are equal up to the rounding of sums.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return activation(inputs · kernel + bias)."""
        del training
        outputs = _multiply(inputs, tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@dataclass(frozen=True)
class Initialization:
    """How initial weights are drawn; each layer has its own seed."""

    kernel: Initializer
    bias: Initializer
    seed: int


def initialize_network(
    architecture: Architecture, model: Model, seed: int, precision: Precision = "float32"
) -> keras.Sequential:
    """Return the network of an architecture, with weights drawn as a config says."""
    drawn = Initialization(model.kernel_initializer, model.bias_initializer, seed)
    return build_network(architecture.with_precision(precision), drawn)


def build_network(
    architecture: Architecture, initialization: Initialization | None = None
) -> keras.Sequential:
    """Return the network of an architecture, with initial weights.

    Args:
        architecture: the plan.
        initialization: how weights are drawn and from which seed; without it they are Keras'
            defaults, to be overwritten by a checkpoint's.
    """
    seed = 0 if initialization is None else initialization.seed
    children = np.random.SeedSequence(seed).spawn(len(architecture.layers))
    network = keras.Sequential([keras.Input(architecture.input_shape)], name="sequential")
    for layer, child in zip(architecture.layers, children, strict=True):
        seeds = [int(number) & 0x7FFFFFFF for number in child.generate_state(2)]
        network.add(_make_layer(layer, seeds, initialization))
    return network


def compile_network(
    network: keras.Sequential, training: TrainingConfig, step_count: int = 1
) -> None:
    """Compile a network with optimizer, loss and metrics, and build all variables.

    Args:
        network: to be trained.
        training: what it is trained with.
        step_count: steps in an epoch, for schedules.
    """
    optimizer = make_optimizer(training, step_count)
    network.compile(optimizer=optimizer, loss=make_loss(training), metrics=["accuracy"])
    optimizer.build(network.trainable_variables)
    inputs = tf.zeros((1, *network.input_shape[1:]))
    labels = encode_labels(tf.zeros((1,), tf.int32), training.loss, network.output_shape[-1])
    weights = [(variable, variable.value) for variable in network.variables]
    with keras.StatelessScope(weights):  # in it variables are made, and not written
        outputs = network(inputs)
        network.compute_loss(inputs, labels, outputs)
        network.compute_metrics(inputs, labels, outputs)


def encode_labels(labels: tf.Tensor, loss: str, units: int) -> tf.Tensor:
    """Return class indices [batch] in the form that a loss takes.

    That is int32 [batch] for sparse cross-entropy and the circle loss, float32 [batch, 1] for a
    single unit, and one-hot vectors, float32 [batch, units], for other losses.
    """
    if units == 1:
        return tf.cast(labels, tf.float32)[:, tf.newaxis]
    if loss in ("sparse_categorical_crossentropy", "circle"):
        return tf.cast(labels, tf.int32)
    return tf.one_hot(tf.cast(labels, tf.int32), units)


def make_loss(training: TrainingConfig) -> str | keras.losses.Loss:
    """Return Keras' name of the loss, or the loss itself where its labels are smoothed."""
    if training.label_smoothing == 0:
        return training.loss
    settings = {"label_smoothing": training.label_smoothing}
    return keras.losses.get({"class_name": LOSSES[training.loss].keras_class, "config": settings})


def compute_keras_loss(
    logits: NDArray[np.floating], labels: NDArray[np.int64], head: Head, loss: LossSpec
) -> float | UnknownLoss:
    """Return a loss of Keras' list as `model.evaluate` computes it, in its batches of 32.

    Args:
        logits: [n, units].
        labels: class indices [n].
        head: the end of the network.
        loss: with what Keras makes it from.
    """
    units = logits.shape[1]
    network = keras.Sequential(
        [keras.Input((units,)), keras.layers.Activation(head.activation, dtype=head.dtype)]
    )
    config = json.loads(loss.keras_config)
    targets = encode_labels(tf.constant(labels), loss.name, units)
    try:
        made = config if isinstance(config, str) else keras.losses.get(config)
        network.compile(loss=made, jit_compile=False)
        return float(network.evaluate(logits, targets.numpy(), verbose=0))
    except (ArithmeticError, TypeError, ValueError, tf.errors.OpError):
        return UnknownLoss("Keras cannot compute it for these classes", loss.name)


def make_regularizer(layer: plan.Layer) -> keras.regularizers.Regularizer | None:
    """Return the regularizer of a layer's kernel; None where it has none."""
    for entry in layer.regularizers:
        if entry.target == "kernel":
            return keras.regularizers.L1L2(l1=entry.l1, l2=entry.l2)
    return None


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


def _make_layer(
    layer: plan.Layer, seeds: Sequence[int], initialization: Initialization | None
) -> keras.layers.Layer:
    """Return the Keras layer of a planned layer."""
    base = {"name": layer.name, "dtype": layer.dtype}
    match layer:
        case plan.Dense():
            drawn = {}
            if initialization is not None:
                drawn = {
                    "kernel_initializer": _make_initializer(initialization.kernel, seeds[0]),
                    "bias_initializer": _make_initializer(initialization.bias, seeds[1]),
                }
            kind = Dense if layer.units <= MAX_NARROW_UNITS else keras.layers.Dense
            return kind(
                layer.units, layer.activation, layer.use_bias,
                kernel_regularizer=make_regularizer(layer), **base, **drawn,
            )  # fmt: skip
        case plan.Flatten():
            return keras.layers.Flatten(layer.data_format, **base)
        case plan.Dropout():
            return Dropout(layer.rate, seed=seeds[0], **base)
        case plan.ActivationLayer():
            return keras.layers.Activation(layer.activation, **base)
        case plan.BatchNormalization():
            return keras.layers.BatchNormalization(
                layer.axis, epsilon=layer.epsilon, center=layer.center, scale=layer.scale, **base
            )
        case plan.Conv2D():
            return keras.layers.Conv2D(
                layer.filters, layer.kernel_size, layer.strides, layer.padding, layer.data_format,
                layer.dilation_rate, layer.groups, layer.activation, layer.use_bias, **base,
            )  # fmt: skip
        case _:  # the others' settings are Keras' arguments
            settings = {f.name: getattr(layer, f.name) for f in fields(layer)}
            settings.pop("operation", None)  # a part of the class's name
            del settings["regularizers"]  # of other people's networks, which are not trained
            return getattr(keras.layers, layer.type)(**settings)


def _make_initializer(config: Initializer, seed: int) -> keras.initializers.Initializer:
    """Return Keras' initializer, seeded where it draws."""
    arguments = config.model_dump(exclude={"name"})
    if config.name not in ("zeros", "ones"):
        arguments["seed"] = seed
    return keras.initializers.deserialize({"class_name": config.name, "config": arguments})


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _multiply(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
    """Return inputs [batch, n] · kernel [n, units], and how its gradient is computed."""

    def differentiate(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        product = tf.matmul(upstream, inputs, transpose_a=True)
        if not tf.distribute.has_strategy():  # under one there is no XLA, and no kernel for this
            (product,) = xla.optimization_barrier(product)
        return tf.matmul(upstream, kernel, transpose_b=True), tf.transpose(product)

    return tf.matmul(inputs, kernel), differentiate


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
