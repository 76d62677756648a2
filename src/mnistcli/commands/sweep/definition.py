"""A sweep: one experiment, the keys that vary in it, and how their values are chosen."""

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

Sampler = Literal["grid", "random", "tpe"]
Pruner = Literal["median", "none"]
Direction = Literal["maximize", "minimize"]
Number = Annotated[int | float, Field(ge=-1e300, le=1e300)]

MAX_TRIALS = 100_000
_DIGITS = 12  # of a stepped number: 0.1 + 0.2 is 0.3


class SweepFile(StrictModel):
    """The YAML file of a sweep; what stands below `search` is looked at key by key."""

    config: str | dict[str, Any] = Field(
        description="A recipe's name, a YAML file beside this one, or a mapping: the config itself."
    )
    set: dict[str, Any] = Field({}, description="Dotted keys with a value for all trials.")
    search: dict[str, Any] = Field(
        description="Dotted keys, each with a list of choices or a range."
    )
    sampler: Sampler = Field(
        "tpe",
        description="grid: every combination; random; tpe: where earlier trials did well.",
    )
    pruner: Pruner = Field(
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


class Choice(StrictModel):
    """A list of values, as a mapping."""

    choice: list[Any] = Field(min_length=1, description="The values.")


class Range(StrictModel):
    """Numbers from one to another, both included."""

    low: Number = Field(description="The lowest.")
    high: Number = Field(description="The highest.")
    log: bool = Field(False, description="Choose by the logarithm: 0.001 to 0.01 as 0.1 to 1.")
    step: Number | None = Field(None, gt=0, description="Only low, low + step, and so on.")


class ChoiceDimension(StrictModel):
    """A key with some values to choose from.

    Attributes:
        key: dotted.
        values: as YAML has them.
    """

    kind: Literal["choice"] = "choice"
    key: str
    values: tuple[JsonValue, ...]

    @property
    def labels(self) -> tuple[str | int | float | bool | None, ...]:
        """What Optuna, which knows only plain values, calls them: lists become their JSON."""
        return tuple(map(_label, self.values))

    def read(self, label: object) -> JsonValue:
        """Return the value that a label stands for."""
        return self.values[self.labels.index(label)]

    def list_points(self) -> tuple[JsonValue, ...]:
        """Return the labels of the values, in order."""
        return self.labels

    def describe(self) -> str:
        """Write the values as YAML has them."""
        return ", ".join(value if isinstance(value, str) else str(_label(value))
                         for value in self.values)  # fmt: skip


class NumberDimension(StrictModel):
    """A key with a range of numbers.

    Attributes:
        key: dotted.
        low: the lowest number.
        high: the highest; one that no step leads to is never reached.
        log: whether it is the logarithm that is chosen evenly.
        step: between numbers; null for all.
    """

    kind: Literal["int", "float"]
    key: str
    low: Number
    high: Number
    log: bool
    step: Number | None

    def read(self, label: object) -> JsonValue:
        """Return a number as the config gets it: no 0.30000000000000004 where there are steps."""
        assert isinstance(label, int | float)
        if self.kind == "int":
            return int(label)
        return float(label) if self.step is None else _round(label)

    def list_points(self) -> tuple[JsonValue, ...] | None:
        """Return every number in order; null where they cannot be counted."""
        step = self.step if self.kind == "float" else self.step or 1
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.read(self.low + number * step) for number in range(count))

    def describe(self) -> str:
        """Write the range in words."""
        ends = f"{self.low:g} to {self.high:g}"
        step = "" if self.step is None else f" by {self.step:g}"
        return f"{ends}{step}{', logarithmic' if self.log else ''}"


Dimension = Annotated[ChoiceDimension | NumberDimension, Field(discriminator="kind")]


class Sweep(StrictModel):
    """What a sweep's file comes to; complete, so that a worker needs nothing else.

    Attributes:
        base: the config before anything is set; its combinations are checked trial by trial.
        fixed: dotted keys that are the same in all trials.
        search: the keys that vary.
        trials: how many, in all.
    """

    base: Config
    fixed: dict[str, JsonValue]
    search: tuple[Dimension, ...]
    sampler: Sampler
    pruner: Pruner
    trials: int
    objective: ValidationMetric
    seed: int

    @property
    def direction(self) -> Direction:
        """Whether the objective is better high or low."""
        return "maximize" if self.objective == "val_accuracy" else "minimize"

    def read_values(self, labels: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Return the values of the searched keys that Optuna's stand for."""
        return {d.key: d.read(labels[d.key]) for d in self.search if d.key in labels}

    def make_config(self, values: Mapping[str, JsonValue]) -> Config:
        """Return the config of a trial.

        Raises:
            ConfigError: the combination is refused.
        """
        pairs = [*self.fixed.items(), *values.items()]
        return vary_config(self.base, [Override(key, value, key) for key, value in pairs])

    def count_points(self) -> int | None:
        """Return the number of combinations; null where a range cannot be counted."""
        lists = [dimension.list_points() for dimension in self.search]
        return math.prod(0 if points is None else len(points) for points in lists) or None

    def list_points(self) -> Iterator[dict[str, JsonValue]]:
        """Yield every combination, the last key's values next to each other, as Optuna's labels."""
        keys = [dimension.key for dimension in self.search]
        for values in itertools.product(*(d.list_points() or () for d in self.search)):
            yield dict(zip(keys, values, strict=True))

    def describe_identity(self) -> dict[str, str]:
        """Return what makes it this sweep, part by part; the number of trials may grow.

        Of the config only what is not the default: later versions know more keys.
        """
        dumped = self.model_dump(mode="json", exclude={"base", "trials", "search"})
        dumped["base"] = self.base.model_dump(mode="json", exclude_defaults=True)
        parts = {**dumped, **{f"search {d.key}": d.model_dump(mode="json") for d in self.search}}
        parts["search"] = [dimension.key for dimension in self.search]
        return {
            name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
            for name, part in parts.items()
        }


def _label(value: JsonValue) -> str | int | float | bool | None:
    """Write a list or a mapping as text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _round(number: float) -> float:
    """Leave the noise of binary fractions out."""
    return float(f"{number:.{_DIGITS}g}")
