"""`train --repeat`: one experiment with several seeds, one after the other, in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.record import TestScore
from mnistcli.commands.open_dataset import choose_splits
from mnistcli.commands.train.dry_run import DryRun, estimate_run
from mnistcli.commands.train.prepare import (
    check_tensorboard,
    prepare_run,
    require_single_worker,
    resolve_config,
)
from mnistcli.commands.train.request import (
    OutputFile,
    RunPlan,
    TrainArguments,
    check_name,
    choose_output,
    name_output,
    selects_best,
)
from mnistcli.commands.train.run import TrainingInterrupted, run_training
from mnistcli.config.schema import MAX_SEED, Config
from mnistcli.errors import UsageError
from mnistcli.metrics.significance import summarize_runs
from mnistcli.output.logs import note, suppress_notes
from mnistcli.output.results import RepeatResult, TrainResult
from mnistcli.output.terminal import ProgressMode
from mnistcli.tensorflow_import import clear_session
from mnistcli.training.callbacks import Callback

FLAG = "--repeat"


def repeat(
    arguments: TrainArguments,
    count: int,
    callbacks: Sequence[Callback] = (),
    progress: ProgressMode = "none",
    on_result: Callable[[TrainResult], None] | None = None,
) -> RepeatResult:
    """Train an experiment with several seeds, from the config's seed on.

    Args:
        arguments: of the first run.
        count: of runs.
        callbacks: of each run.
        progress: how downloads are shown.
        on_result: called after each run.

    Returns:
        Mean and standard deviation of the test scores, and the results of all runs.

    Raises:
        MnistcliError: a run cannot begin, diverges, or cannot be written.
        TrainingInterrupted: a signal has stopped a run; it is saved.
    """
    _refuse_flags(arguments)
    results: list[TrainResult] = []
    with RunLock() as lock:
        base, outputs = _plan_runs(arguments, count, lock, progress)
        first_seed = base.config.training.seed
        for number, output in enumerate(outputs):
            seed = first_seed + number
            plan = base if number == 0 else _reseed(base, seed, output)
            note(f"seed {seed}, run {number + 1} of {count}")
            try:
                result = run_training(plan, callbacks)
            except TrainingInterrupted as interrupted:
                interrupted.skipped_seeds = tuple(range(seed + 1, first_seed + count))
                raise
            if on_result is not None:
                on_result(result)
            results.append(result)
            clear_session()
    accuracy = summarize_runs([result.test.accuracy for result in results])
    loss = summarize_runs([result.test.loss for result in results])
    return RepeatResult(
        seeds=tuple(range(first_seed, first_seed + count)),
        test=TestScore(loss=loss.mean, accuracy=accuracy.mean),
        deviation=TestScore(loss=loss.deviation, accuracy=accuracy.deviation),
        runs=tuple(results),
    )


def dry_run_repeated(
    arguments: TrainArguments, count: int, progress: ProgressMode = "none"
) -> DryRun:
    """Check all runs, and estimate what the first one would take; nothing is written.

    Args:
        arguments: of the first run, with `dry_run`.
        count: of runs.
        progress: how downloads are shown.

    Raises:
        MnistcliError: a run could not begin.
    """
    _refuse_flags(arguments)
    with RunLock() as lock:
        base, outputs = _plan_runs(arguments, count, lock, progress)
    return DryRun(estimate_run(base), base, outputs[1:])


def _refuse_flags(arguments: TrainArguments) -> None:
    require_single_worker(FLAG, arguments)
    if arguments.resume is not None:
        what = "a resumed run has one seed and one file"
        raise UsageError(FLAG, what, f"leave out --resume, or {FLAG}")


def _plan_runs(
    arguments: TrainArguments, count: int, lock: RunLock, progress: ProgressMode
) -> tuple[RunPlan, list[OutputFile]]:
    """Plan the first run, and reserve the files of all of them."""
    check_tensorboard(arguments)
    writing = None if arguments.dry_run else lock
    chosen = _choose_outputs(arguments, count, writing)
    first = replace(arguments, output=chosen[0].path if chosen else None)
    base = prepare_run(first, lock, progress)
    return base, [base.output, *(chosen[1:] or _name_outputs(base, count, writing))]


def _choose_outputs(
    arguments: TrainArguments, count: int, lock: RunLock | None
) -> list[OutputFile]:
    """Reserve every file that `-o` means, before the first run begins."""
    if arguments.output is not None:
        check_name(arguments.output)
    with suppress_notes():
        config = resolve_config(arguments).config
    first = config.training.seed
    if first + count - 1 > MAX_SEED:
        what = f"the last of {count} seeds from {first} would be larger than {MAX_SEED}"
        raise UsageError(FLAG, what, "begin with a smaller --seed")
    if arguments.output is None:
        return []
    return [
        choose_output(
            _number(arguments.output, seed),
            lock,
            overwrite=arguments.overwrite,
            writes_best=selects_best(config),
        )
        for seed in range(first, first + count)
    ]


def _name_outputs(base: RunPlan, count: int, lock: RunLock | None) -> list[OutputFile]:
    """Name the files of the runs after the first as single runs are named."""
    seed = base.config.training.seed
    return [name_output(_with_seed(base.config, seed + k), lock) for k in range(1, count)]


def _number(path: Path, seed: int) -> Path:
    """Add the seed to a file's name: mlp.h5 becomes mlp-s0.h5."""
    return path.with_name(f"{path.stem}-s{seed}{path.suffix}")


def _with_seed(config: Config, seed: int) -> Config:
    training = config.training.model_copy(update={"seed": seed})
    return config.model_copy(update={"training": training})


def _reseed(base: RunPlan, seed: int, output: OutputFile) -> RunPlan:
    """Plan the same run with another seed, which holds other images out for validation."""
    config = _with_seed(base.config, seed)
    train, validation = choose_splits(config, base.dataset)
    return replace(base, config=config, train=train, validation=validation, output=output)
