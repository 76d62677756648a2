"""How long a run will take: some of its first steps, taken for real and thrown away."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.training.compile_model import compile_network, initialize_network
from mnistcli.training.distributed.strategies import Epoch, Strategy

MEASURED_S = 0.5


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        epoch_s: of one epoch, validation included; extrapolated from the steps.
        step_count: steps that were measured.
        measuring_s: what the measuring took, the building and compiling left out.
    """

    epoch_s: float
    step_count: int
    measuring_s: float


def measure_pace(
    config: Config,
    architecture: Architecture,
    train: Split,
    validation: Split | None,
    preprocessing: Preprocessing,
    strategy: Strategy,
) -> Pace:
    """Take steps with throwaway weights until the clock can be read; nothing outlives the call.

    Args:
        config: the experiment.
        architecture: what the config's model block means for the data.
        train: the training set without what is held out for validation.
        validation: a split to monitor after each epoch.
        preprocessing: raw pixels to network input.
        strategy: where it would run.
    """
    training = config.training
    with strategy.scope():
        network = initialize_network(architecture, config.model, training.seed, training.precision)
        compile_network(network, training)
    epoch = strategy.make_epoch(network, train, preprocessing, training)
    epoch.compile(lambda: False)
    validation_s = 0.0
    if validation is not None:
        evaluation = strategy.make_validation(network, validation, preprocessing, training.loss)
        evaluation.evaluate()  # compiles it
        begin_s = time.perf_counter()
        evaluation.evaluate()
        validation_s = time.perf_counter() - begin_s
    steps, steps_s = _time_steps(epoch)
    epoch_s = steps_s / steps * epoch.step_count + validation_s
    return Pace(epoch_s, steps, steps_s + validation_s)


def _time_steps(epoch: Epoch) -> tuple[int, float]:
    """Run pieces of epochs, each twice as long as the last; return the steps and the seconds."""
    steps = number = lo = 0
    size = 1
    epoch.set_epoch(number)
    begin_s = time.perf_counter()
    while True:
        hi = min(epoch.step_count, lo + size)
        epoch.run(lo, hi)
        steps, size = steps + hi - lo, 2 * size
        duration_s = time.perf_counter() - begin_s
        if duration_s >= MEASURED_S:
            return steps, duration_s
        lo = hi
        if hi == epoch.step_count:
            number, lo = number + 1, 0
            epoch.set_epoch(number)
            epoch.prefetch_epoch(number + 1)
