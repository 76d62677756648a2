"""`train --repeat`: one experiment with several seeds, one after the other, in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mnistcli.checkpoints.lock import RunLock
from mnistcli.commands.open_dataset import choose_splits
from mnistcli.commands.signals import end_by_signal
from mnistcli.commands.train.build_trainer import clear_session
from mnistcli.commands.train.dry_run import show_plan
from mnistcli.commands.train.prepare import load_request, prepare_run
from mnistcli.commands.train.request import (
    OutputFile,
    Plan,
    Request,
    check_name,
    choose_output,
    name_output,
)
from mnistcli.commands.train.run import (
    Interruption,
    note_interruption,
    open_output,
    refuse_together,
    show_saved,
    train_plan,
    write_command,
)
from mnistcli.config.schema import MAX_SEED, Config
from mnistcli.errors import UsageError
from mnistcli.metrics.significance import summarize_runs
from mnistcli.output.results import RepeatResult, TestResult, TrainResult
from mnistcli.output.tables import format_train
from mnistcli.output.terminal import Output, emit
from mnistcli.training.tensorboard_writer import check_tensorboard_directory

FLAG = "--repeat"


def run_repeated(request: Request, count: int) -> None:
    """Carry out `mnistcli train --repeat`; every way in which it can fail is a MnistcliError."""
    refuse_together(FLAG, request)
    if request.resume is not None:
        what = "a resumed run has one seed and one file"
        raise UsageError(FLAG, what, f"leave out --resume, or {FLAG}")
    with RunLock() as lock:
        received = _run_locked(request, count, lock)
    if received is not None:
        end_by_signal(received)


def _run_locked(request: Request, count: int, lock: RunLock) -> int | None:
    """Train one run after the other, and return the signal that ended one of them early."""
    console = open_output(request)
    if request.tensorboard is not None:
        check_tensorboard_directory(request.tensorboard)
    writing = None if request.dry_run else lock
    chosen = _choose_outputs(request, count, writing)
    first = replace(request, output=chosen[0].path if chosen else None)
    base = prepare_run(first, console, lock)
    outputs = [base.output, *(chosen[1:] or _name_outputs(base, count, writing))]
    first_seed = base.config.training.seed
    if request.dry_run:
        show_plan(base, request, console)
        console.note(f"and so on to seed {first_seed + count - 1}: {_name_files(outputs[1:])}")
        return None
    results: list[TrainResult] = []
    for number, output in enumerate(outputs):
        seed = first_seed + number
        plan = base if number == 0 else _reseed(base, seed, output)
        console.note(f"seed {seed}, run {number + 1} of {count}")
        result = train_plan(plan, request, console)
        if isinstance(result, Interruption):
            note_interruption(plan, request, result.state)
            _note_rest(seed, count - number - 1)
            return result.signal
        _show_run(result, plan, request, console)
        results.append(result)
        clear_session()
    _show_all(results, first_seed, request, console)
    if console.is_closed:
        raise BrokenPipeError
    return None


def _choose_outputs(request: Request, count: int, lock: RunLock | None) -> list[OutputFile]:
    """Check every file that `-o` means, and keep others off it, before the first run begins."""
    if request.output is not None:
        check_name(request.output)
    config = load_request(request, Output(quiet=True)).config
    first, chooses = config.training.seed, config.dataset.validation not in (0.0, "test")
    if first + count - 1 > MAX_SEED:
        what = f"the last of {count} seeds from {first} would be larger than {MAX_SEED}"
        raise UsageError(FLAG, what, "begin with a smaller --seed")
    if request.output is None:
        return []
    overwrite = request.overwrite
    return [
        choose_output(_number(request.output, s), lock, overwrite=overwrite, writes_best=chooses)
        for s in range(first, first + count)
    ]


def _name_outputs(base: Plan, count: int, lock: RunLock | None) -> list[OutputFile]:
    """Name the files of the runs after the first as single runs are named."""
    seed = base.config.training.seed
    files = [name_output(_with_seed(base.config, seed + k)) for k in range(1, count)]
    for file in files:
        if lock is not None:
            file.reserve(lock, with_best=base.chooses)
    return files


def _number(path: Path, seed: int) -> Path:
    """Put the seed into a file's name: mlp.h5 becomes mlp-s0.h5."""
    return path.with_name(f"{path.stem}-s{seed}{path.suffix}")


def _with_seed(config: Config, seed: int) -> Config:
    """Change nothing but the seed."""
    training = config.training.model_copy(update={"seed": seed})
    return config.model_copy(update={"training": training})


def _reseed(base: Plan, seed: int, output: OutputFile) -> Plan:
    """Plan the same run with another seed, which holds other images out for validation."""
    config = _with_seed(base.config, seed)
    train, validation = choose_splits(config, base.dataset)
    return replace(base, config=config, train=train, validation=validation, output=output)


def _show_run(result: TrainResult, plan: Plan, request: Request, console: Output) -> None:
    """Print what one run came to; under `--json` all comes at the end."""
    if request.jsonl:
        console.print_json(result)
    elif request.quiet and not request.json:
        console.print_line(result.checkpoint)
    elif not request.json:
        console.print_line(f"{result.checkpoint}  {format_train(result)}")
    show_saved(plan, console)


def _show_all(results: list[TrainResult], seed: int, request: Request, console: Output) -> None:
    """Print mean and deviation, and on stderr how to look further."""
    accuracy = summarize_runs([result.test.accuracy for result in results])
    loss = summarize_runs([result.test.loss for result in results])
    answer = RepeatResult(
        seeds=tuple(range(seed, seed + len(results))),
        test=TestResult(loss=loss.mean, accuracy=accuracy.mean),
        deviation=TestResult(loss=loss.deviation, accuracy=accuracy.deviation),
        runs=tuple(results),
    )
    as_json = request.json or request.jsonl
    emit(answer, "json" if as_json else "quiet" if request.quiet else "text")
    files = [result.checkpoint for result in results]
    console.note(f"next  {write_command(request, 'compare', *files)}")


def _name_files(outputs: list[OutputFile]) -> str:
    """List the files that would be written."""
    return ", ".join(str(output.path) for output in outputs)


def _note_rest(seed: int, left: int) -> None:
    """Say which runs a signal kept from beginning."""
    if left:
        Output().note(f"not begun: seeds {', '.join(str(seed + k + 1) for k in range(left))}")
