"""How kernels and biases are drawn. Names and defaults are Keras'."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mnistcli.config.strict import StrictModel, name_to_mapping

_WeightBound = Annotated[float, Field(ge=-1e6, le=1e6)]


class RandomNormal(StrictModel):
    """Weights drawn from a normal distribution."""

    name: Literal["random_normal", "truncated_normal"]
    mean: _WeightBound = 0.0
    stddev: float = Field(0.05, ge=0, le=1e6)


class RandomUniform(StrictModel):
    """Weights drawn evenly between two bounds."""

    name: Literal["random_uniform"]
    minval: _WeightBound = -0.05
    maxval: _WeightBound = 0.05


class NamedInitializer(StrictModel):
    """An initializer without parameters of its own."""

    name: Literal[
        "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
        "lecun_uniform", "lecun_normal", "zeros", "ones",
    ]  # fmt: skip


Initializer = Annotated[
    Annotated[NamedInitializer | RandomNormal | RandomUniform, Field(discriminator="name")],
    BeforeValidator(name_to_mapping),
]
