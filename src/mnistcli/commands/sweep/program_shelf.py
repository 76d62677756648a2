"""Compiled programs of runs that are over, for runs of the same process that need the same.

What TensorFlow keeps of compiled programs on disk it finds by a name with a running number, which
is another one for every later run of a process. So a later run takes over the network, the data
on the device and the programs themselves, and gets its own first state written into them.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mnistcli.checkpoints.run_state import NamedArray, RunState
from mnistcli.commands.train.build_trainer import build_training, forget_training, resume_training
from mnistcli.commands.train.run_plan import Plan
from mnistcli.config.schema import Config
from mnistcli.models.available_memory import read_available_memory

if TYPE_CHECKING:
    from mnistcli.training.trainer import Training

_SHARE = 4  # of the memory that is left, one part may be taken by what is kept
_NOT_COMPILED = ("epochs", "checkpoint_every", "early_stopping", "reduce_on_plateau")
_RATE = "learning_rate"


@dataclass(frozen=True)
class _Kept:
    """A run that is over, how it began, and the bytes that its data take."""

    training: Training
    first: RunState
    size_bytes: int


class ProgramShelf:
    """Builds runs, from what is kept of earlier ones where that gives the same bits."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def build(self, plan: Plan) -> Training:
        """Return the run at its first step, or where its checkpoint left it.

        Raises:
            CheckpointError: that checkpoint's arrays are another network's.
        """
        key = _describe_programs(plan.config)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            first = _with_rate(kept.first, plan.config)
            return resume_training(kept.training.begin_again(plan.config, first), plan)
        if "keras" in sys.modules:
            forget_training()
        training = build_training(replace(plan, start=None))
        self._keep(key, _Kept(training, training.capture(), plan.memory.data))
        return resume_training(training, plan)

    def _keep(self, key: str, kept: _Kept) -> None:
        """Drop what was not used for longest where memory gets short."""
        self._kept[key] = kept
        available = read_available_memory()
        while len(self._kept) > 1 and available is not None:
            if sum(one.size_bytes for one in self._kept.values()) <= available / _SHARE:
                break
            self._kept.popitem(last=False)


def _describe_programs(config: Config) -> str:
    """Write down what is compiled in, or decides about data and first weights.

    A learning rate that no schedule changes is a variable.
    """
    parts = config.model_dump(mode="json", exclude={"training": set(_NOT_COMPILED)})
    if config.training.schedule is None:
        del parts["training"]["optimizer"][_RATE]
    return json.dumps(parts, sort_keys=True)


def _with_rate(first: RunState, config: Config) -> RunState:
    """Give a first state the config's own learning rate."""
    optimizer = tuple(_set_rate(array, config) for array in first.network.optimizer)
    return replace(first, network=replace(first.network, optimizer=optimizer))


def _set_rate(array: NamedArray, config: Config) -> NamedArray:
    """Only the optimizer's learning rate is changed."""
    if array.name.rpartition("/")[2] != _RATE:
        return array
    rate = np.asarray(config.training.optimizer.learning_rate, array.values.dtype)
    return NamedArray(array.name, rate)
