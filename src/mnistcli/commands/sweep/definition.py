"""What a sweep is: the base config, the search space, the sampler, pruner and objective."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from mnistcli.config.loading import vary_config
from mnistcli.config.overrides import Override
from mnistcli.config.schema import MAX_SEED, Config, StrictModel, ValidationMetric

SamplerName = Literal["grid", "random", "tpe"]
PrunerName = Literal["median", "none"]
Direction = Literal["maximize", "minimize"]
Scalar = str | int | float | bool | None
Number = Annotated[int | float, Field(ge=-1e300, le=1e300)]

MAX_TRIALS = 100_000
_DIGITS = 12  # significant ones of a stepped number: 0.1 + 0.2 is 0.3


class SweepFile(StrictModel):
    """Model a sweep's YAML file; the entries of `search` are parsed one by one."""

    config: str | dict[str, Any] = Field(
        description="A recipe's name, a YAML file beside this one, or a mapping: the config itself."
    )
    set: dict[str, Any] = Field({}, description="Dotted keys with a value for all trials.")
    search: dict[str, Any] = Field(
        description="Dotted keys, each with a list of choices or a range."
    )
    sampler: SamplerName = Field(
        "tpe",
        description="grid: every combination; random; tpe: where earlier trials did well.",
    )
    pruner: PrunerName = Field(
        "median",
        description="median: a trial that is worse than half of the others at its epoch ends"
        " there, once five are complete; none.",
    )
    trials: int | None = Field(
        None, ge=1, le=MAX_TRIALS, description="How many, in all; grid tries every combination."
    )
    objective: ValidationMetric = Field(
        "val_accuracy", description="The metric that is made high (accuracy) or low (loss)."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the sampler.")


class ChoiceSpec(StrictModel):
    """Model a list of values that is written as a mapping."""

    choice: list[Any] = Field(min_length=1, description="The values.")


class RangeSpec(StrictModel):
    """Model a range of numbers, both ends included."""

    low: Number = Field(description="The lowest.")
    high: Number = Field(description="The highest.")
    log: bool = Field(False, description="Choose by the logarithm: 0.001 to 0.01 as 0.1 to 1.")
    step: Number | None = Field(None, gt=0, description="Only low, low + step, and so on.")


class CategoricalDimension(StrictModel):
    """Describe a searched key with a list of values.

    Attributes:
        key: dotted.
        values: as parsed from YAML.
    """

    kind: Literal["choice"] = "choice"
    key: str
    values: tuple[JsonValue, ...]

    @property
    def choices(self) -> tuple[Scalar, ...]:
        """Return the values as Optuna's choices, which are scalars: lists become JSON."""
        return tuple(map(_encode, self.values))

    def decode(self, param: object) -> JsonValue:
        """Return the config value of one of Optuna's choices."""
        return self.values[self.choices.index(param)]

    def list_points(self) -> tuple[JsonValue, ...]:
        """Return Optuna's choices in the order of the values."""
        return self.choices

    def describe(self) -> str:
        """Format the values as they are written in YAML."""
        return ", ".join(value if isinstance(value, str) else str(_encode(value))
                         for value in self.values)  # fmt: skip


class NumericDimension(StrictModel):
    """Describe a searched key with a range of numbers.

    Attributes:
        key: dotted.
        low: the lowest number.
        high: the highest number; excluded where no step leads to it.
        log: sample uniformly in the logarithm.
        step: distance between neighbouring numbers; None for a continuous range.
    """

    kind: Literal["int", "float"]
    key: str
    low: Number
    high: Number
    log: bool
    step: Number | None

    def decode(self, param: object) -> JsonValue:
        """Return the config value of one of Optuna's numbers."""
        assert isinstance(param, int | float)
        if self.kind == "int":
            return int(param)
        return float(param) if self.step is None else _round(param)

    def list_points(self) -> tuple[JsonValue, ...] | None:
        """Return all numbers in ascending order; None for a continuous range."""
        step = self.step if self.kind == "float" else self.step or 1
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.decode(self.low + number * step) for number in range(count))

    def describe(self) -> str:
        """Format the range in words."""
        ends = f"{self.low:g} to {self.high:g}"
        step = "" if self.step is None else f" by {self.step:g}"
        return f"{ends}{step}{', logarithmic' if self.log else ''}"


Dimension = Annotated[CategoricalDimension | NumericDimension, Field(discriminator="kind")]


class Sweep(StrictModel):
    """Define a sweep completely: a worker process needs nothing else of its YAML file.

    Attributes:
        base: the config before `fixed` and the searched values are set. Combinations of values
            are validated trial by trial.
        fixed: dotted keys with one value for all trials.
        search: the searched keys.
        trials: the total number of trials.
    """

    base: Config
    fixed: dict[str, JsonValue]
    search: tuple[Dimension, ...]
    sampler: SamplerName
    pruner: PrunerName
    trials: int
    objective: ValidationMetric
    seed: int

    @property
    def direction(self) -> Direction:
        """Return whether the objective is maximised or minimised."""
        return "maximize" if self.objective == "val_accuracy" else "minimize"

    def decode_params(self, params: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Return the config values of the searched keys from a trial's Optuna params."""
        return {d.key: d.decode(params[d.key]) for d in self.search if d.key in params}

    def make_config(self, values: Mapping[str, JsonValue]) -> Config:
        """Return the config of a trial.

        Raises:
            ConfigError: the combination of values is invalid.
        """
        pairs = [*self.fixed.items(), *values.items()]
        return vary_config(self.base, [Override(key, value, key) for key, value in pairs])

    def count_points(self) -> int | None:
        """Return the number of combinations; None if a range is continuous."""
        lists = [dimension.list_points() for dimension in self.search]
        return math.prod(0 if points is None else len(points) for points in lists) or None

    def list_points(self) -> Iterator[dict[str, JsonValue]]:
        """Yield all combinations as Optuna params; the last key varies fastest."""
        keys = [dimension.key for dimension in self.search]
        for values in itertools.product(*(d.list_points() or () for d in self.search)):
            yield dict(zip(keys, values, strict=True))

    def hash_parts(self) -> dict[str, str]:
        """Return a SHA-256 per part of the sweep; a study accepts only the sweep it began with.

        The number of trials is left out: it may grow.
        """
        dumped = self.model_dump(mode="json", exclude={"base", "trials", "search"})
        # Without defaults: later versions have more keys.
        dumped["base"] = self.base.model_dump(mode="json", exclude_defaults=True)
        parts = {**dumped, **{f"search {d.key}": d.model_dump(mode="json") for d in self.search}}
        parts["search"] = [dimension.key for dimension in self.search]
        return {
            name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
            for name, part in parts.items()
        }


def _encode(value: JsonValue) -> Scalar:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _round(number: float) -> float:
    # 0.30000000000000004 becomes 0.3
    return float(f"{number:.{_DIGITS}g}")
