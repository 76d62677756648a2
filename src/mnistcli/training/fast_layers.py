"""Keras' Dense and Dropout, computed in ways that XLA runs faster on a CPU.

They mean what Keras' own mean and are stored as those: a checkpoint names neither of them.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

MAX_NARROW_UNITS = 32


class Dropout(keras.layers.Dropout):  # type: ignore[misc]
    """Keras' Dropout with its generator named.

    Compiled by XLA for a CPU, Keras' own call draws from the same generator (Philox) by way of
    a slow default; naming it gives the same bits about nine times faster.
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
    """Keras' Dense with the kernel's gradient multiplied the other way round, for a few units.

    XLA on a CPU multiplies inputsᵀ · gradient about three times slower than gradientᵀ · inputs
    where the result is narrow; the barrier keeps it from turning the one back into the other.
    The sums are the same but for their rounding.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return activation(inputs · kernel + bias)."""
        del training
        outputs = _multiply(inputs, tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _multiply(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
    """Return inputs [batch, n] · kernel [n, units], and how its gradient is computed."""

    def differentiate(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        product = tf.matmul(upstream, inputs, transpose_a=True)
        if not tf.distribute.has_strategy():  # under one there is no XLA, and no kernel for this
            (product,) = xla.optimization_barrier(product)
        return tf.matmul(upstream, kernel, transpose_b=True), tf.transpose(product)

    return tf.matmul(inputs, kernel), differentiate
