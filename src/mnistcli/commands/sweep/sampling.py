"""How the values of a trial are chosen: Optuna's samplers, each trial with a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mnistcli.commands.sweep.definition import Dimension, NumberDimension, Pruner, Sweep

TRIAL = "trial"
"""The user attribute that holds a trial's number."""


def list_distributions(sweep: Sweep) -> dict[str, BaseDistribution]:
    """Return the search space as Optuna has it."""
    return {dimension.key: _make_distribution(dimension) for dimension in sweep.search}


def _make_distribution(dimension: Dimension) -> BaseDistribution:
    """Ranges end at the last number that a step leads to."""
    if not isinstance(dimension, NumberDimension):
        return CategoricalDistribution(dimension.labels)
    points = dimension.list_points() if dimension.step is not None else None
    high = dimension.high if points is None else points[-1]
    assert isinstance(high, int | float)
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, high, log=dimension.log, step=dimension.step)


def make_pruner(name: Pruner) -> BasePruner:
    """Return Optuna's pruner of a name."""
    return MedianPruner() if name == "median" else NopPruner()


class TrialSampler(BaseSampler):
    """Chooses a trial's values by a sampler that is seeded by the sweep and the trial's number.

    A sampler with one seed for the whole sweep would begin anew in every process, and a sweep
    that goes on would suggest again what it has tried.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._kind, self._seed = sweep.sampler, sweep.seed
        self._sampler: BaseSampler = RandomSampler(self._seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the trial's own seed."""
        words = [self._seed, int(trial.user_attrs.get(TRIAL, trial.number))]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        tpe = self._kind == "tpe"
        self._sampler = TPESampler(seed=seed) if tpe else RandomSampler(seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is sampled together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample what is sampled together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one value by itself."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler write down what it needs."""
        self._sampler.after_trial(study, trial, state, values)
