"""`mnistcli train`: train the network of a config and write its checkpoint."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint, complete_config
from mnistcli.cli.options import (
    ActivationOption,
    AssignmentsOption,
    BatchSizeOption,
    DataDirOption,
    DataOption,
    DebugOption,
    DevicesOption,
    DropoutOption,
    EpochsOption,
    HiddenOption,
    JsonlOption,
    JsonOption,
    LearningRateOption,
    ModelOption,
    OptimizerOption,
    OverfitOneBatchOption,
    ProgressOption,
    QuietOption,
    SeedOption,
    StreamOption,
    TensorBoardDirectoryOption,
    TrainDatasetOption,
    ValidationOption,
    choose_form,
    count_from,
    refuse_combination,
)

if TYPE_CHECKING:
    from mnistcli.commands.train.request import TrainArguments
    from mnistcli.commands.train.run import EpochResults, ProgressDisplay, TrainingInterrupted
    from mnistcli.output.results import TrainResult
    from mnistcli.output.terminal import Form, ProgressMode

EXAMPLES = """
mnistcli train
mnistcli train mnist-mlp --epochs 5 -o mlp.h5
mnistcli train my.yaml --set training.optimizer.momentum=0.9
mnistcli train my.yaml --optimizer adam --print-config
mnistcli train xor --json | jq .test.accuracy
mnistcli train mnist-mlp --data flowers --validation 0.1
mnistcli train mnist-mlp --repeat 5 -o mlp.h5
mnistcli train --resume mlp.h5 --more 5
"""
_RUN = "Run"


def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file or a recipe's name.",
            show_default="mnist-softmax",
            autocompletion=complete_config,
        ),
    ] = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    optimizer: OptimizerOption = None,
    learning_rate: LearningRateOption = None,
    dataset: TrainDatasetOption = None,
    model: ModelOption = None,
    hidden: HiddenOption = None,
    activation: ActivationOption = None,
    dropout: DropoutOption = None,
    validation: ValidationOption = None,
    seed: SeedOption = None,
    assignments: AssignmentsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.h5",
            help="Where the checkpoint goes.",
            show_default="<dataset>-<model>-s<seed>-<time>.h5",
            rich_help_panel=_RUN,
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the file if it exists.", rich_help_panel=_RUN),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.h5",
            help="Go on with this run, in place; --epochs is then the total.",
            rich_help_panel=_RUN,
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    more: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=count_from(1, "--more"),
            help="With --resume: epochs to add.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="With --resume: go on though the data or the file have changed since.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.h5",
            help="Start a new run from this checkpoint's weights.",
            rich_help_panel=_RUN,
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=count_from(2, "--repeat"),
            help="Train N runs with seeds one after the other, from the config's on, as FILE-s0.h5,"
            " …; then mean and deviation.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything and show what would be trained; write nothing.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Print the resolved config, and where each value comes from; train nothing.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    overfit_one_batch: OverfitOneBatchOption = False,
    tensorboard: TensorBoardDirectoryOption = None,
    devices: DevicesOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    stream: StreamOption = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    quiet: QuietOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Train a network and write its checkpoint.

    The result on the test set goes to stdout; progress, the path and hints to stderr. Ctrl-C
    saves the run where it stands, as SIGTERM, SIGHUP and SIGXCPU do; --resume goes on from there to
    the same bits. SIGUSR1 saves the run and lets it go on.
    """
    del debug  # acted on when it was parsed
    from mnistcli.commands.train.prepare import parse_overrides
    from mnistcli.commands.train.request import TrainArguments, find_cluster
    from mnistcli.output.terminal import choose_progress, ignore_broken_pipe

    flags = {
        "--epochs": epochs,
        "--batch-size": batch_size,
        "--optimizer": optimizer,
        "--learning-rate": learning_rate,
        "--dataset": dataset,
        "--model": model,
        "--hidden": hidden and f"[{hidden.strip('[]')}]",
        "--activation": activation,
        "--dropout": dropout,
        "--validation": validation,
        "--seed": seed,
    }
    arguments = TrainArguments(
        config=config,
        overrides=parse_overrides(flags, assignments or ()),
        output=output,
        overwrite=overwrite,
        resume=resume,
        more=more,
        force=force,
        init_from=init_from,
        dry_run=dry_run,
        data_dir=data_dir,
        data=data,
        stream=stream,
        tensorboard=tensorboard,
        devices=devices,
        cluster=find_cluster(os.environ),
    )
    form: Form = "jsonl" if jsonl else choose_form(json=json, quiet=quiet)
    if print_config:
        _print_config(arguments, form)
        return
    refuse_combination({"--repeat": repeat, "--overfit-one-batch": overfit_one_batch})
    if overfit_one_batch:
        _overfit(arguments, form)
        return
    mode = choose_progress(progress, silent=quiet or jsonl)
    if dry_run:
        _dry_run(arguments, repeat, form, mode)
        return
    with ignore_broken_pipe():
        _train(arguments, repeat, form, mode)


def _print_config(arguments: TrainArguments, form: Form) -> None:
    from mnistcli.commands.train.prepare import explain_config
    from mnistcli.config.serialization import annotate_config
    from mnistcli.output.terminal import emit, print_block

    loaded, result = explain_config(arguments)
    if form in ("json", "jsonl"):
        emit(result, form)
    else:
        print_block(annotate_config(loaded.config, loaded.tree).removesuffix("\n"))


def _overfit(arguments: TrainArguments, form: Form) -> None:
    from mnistcli.commands.train.overfit import overfit_one_batch
    from mnistcli.output.terminal import choose_progress, emit

    result, error = overfit_one_batch(arguments, choose_progress("auto", silent=False))
    emit(result, form, error)


def _dry_run(
    arguments: TrainArguments, repeat: int | None, form: Form, progress: ProgressMode
) -> None:
    from mnistcli.commands.train.dry_run import dry_run
    from mnistcli.commands.train.repeat import dry_run_repeated
    from mnistcli.output.logs import note
    from mnistcli.output.terminal import emit

    if repeat is None:
        planned = dry_run(arguments, progress)
    else:
        planned = dry_run_repeated(arguments, repeat, progress)
    emit(planned.result, "json" if form in ("json", "jsonl") else "text")
    for line in planned.describe():
        note(line)


def _train(
    arguments: TrainArguments, repeat: int | None, form: Form, progress: ProgressMode
) -> None:
    from mnistcli.commands.train.run import (
        EpochResults,
        ProgressDisplay,
        TrainingInterrupted,
        prepare_and_train,
        train_as_worker,
    )
    from mnistcli.output.logs import note
    from mnistcli.output.terminal import emit, format_command, print_json

    if not arguments.is_chief and repeat is None:
        train_as_worker(arguments)
        return
    display = ProgressDisplay(progress)
    callbacks: list[ProgressDisplay | EpochResults] = [display]
    if form == "jsonl":
        callbacks.append(EpochResults(print_json))
    try:
        with contextlib.closing(display):
            if repeat is not None:
                _repeat(arguments, repeat, callbacks, form, progress)
                return
            result = prepare_and_train(arguments, callbacks, progress)
    except TrainingInterrupted as interrupted:
        _announce_interruption(interrupted, arguments)
        raise
    emit(result, form)
    if result.is_finished_before:
        return
    _note_files(result)
    command = format_command("evaluate", result.checkpoint, data_dir=arguments.data_dir)
    note(f"next  {command}")


def _repeat(
    arguments: TrainArguments,
    count: int,
    callbacks: list[ProgressDisplay | EpochResults],
    form: Form,
    progress: ProgressMode,
) -> None:
    from mnistcli.commands.train.repeat import repeat
    from mnistcli.output.logs import note
    from mnistcli.output.tables import format_train
    from mnistcli.output.terminal import emit, format_command, print_json, print_line

    def show(result: TrainResult) -> None:
        if form == "jsonl":
            print_json(result)
        elif form == "quiet":
            print_line(result.checkpoint)
        elif form == "text":
            print_line(f"{result.checkpoint}  {format_train(result)}")
        _note_files(result)

    result = repeat(arguments, count, callbacks, progress, show)
    emit(result, form)
    files = [run.checkpoint for run in result.runs]
    note(f"next  {format_command('compare', *files, data_dir=arguments.data_dir)}")


def _note_files(result: TrainResult) -> None:
    from mnistcli.output.logs import note

    note(f"saved {result.checkpoint}")
    if result.best_checkpoint is not None:
        note(f"best  {result.best_checkpoint}")


def _announce_interruption(interrupted: TrainingInterrupted, arguments: TrainArguments) -> None:
    """Print how far an interrupted run has come, and the command that resumes it."""
    from mnistcli.output.logs import announce
    from mnistcli.output.terminal import format_command

    announce(str(interrupted))
    path = str(interrupted.plan.output.path)
    command = format_command("train", "--resume", path, data_dir=arguments.data_dir)
    announce(f"next  {command}")
    if interrupted.skipped_seeds:
        announce(f"not begun: seeds {', '.join(map(str, interrupted.skipped_seeds))}")
