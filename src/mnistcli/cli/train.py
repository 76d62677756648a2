"""`mnistcli train`: a config becomes a trained checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint, complete_config
from mnistcli.cli.options import (
    ActivationName,
    Assignments,
    BatchSize,
    DataDir,
    DatasetName,
    Debug,
    Devices,
    Dropout,
    Epochs,
    HiddenUnits,
    Json,
    Jsonl,
    LearningRate,
    ModelType,
    OptimizerName,
    OverfitOneBatch,
    OwnData,
    ProgressOption,
    Quiet,
    Seed,
    Stream,
    TensorBoardDirectory,
    Validation,
    count_from,
)
from mnistcli.errors import UsageError

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
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    optimizer: OptimizerName = None,
    learning_rate: LearningRate = None,
    dataset: DatasetName = None,
    model: ModelType = None,
    hidden: HiddenUnits = None,
    activation: ActivationName = None,
    dropout: Dropout = None,
    validation: Validation = None,
    seed: Seed = None,
    assignments: Assignments = None,
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
    overfit_one_batch: OverfitOneBatch = False,
    tensorboard: TensorBoardDirectory = None,
    devices: Devices = None,
    own_data: OwnData = None,
    data_dir: DataDir = None,
    stream: Stream = False,
    json: Json = False,
    jsonl: Jsonl = False,
    quiet: Quiet = False,
    progress: ProgressOption = "auto",
    debug: Debug = False,
) -> None:
    """Train a network and write its checkpoint.

    The result on the test set goes to stdout; progress, the path and hints to stderr. Ctrl-C
    saves the run where it stands; --resume goes on from there to the same bits.
    """
    del debug  # acted on when it was parsed
    from mnistcli.commands.train.request import Request
    from mnistcli.training.distributed.cluster import read_cluster

    request = Request(
        source=config,
        flags={
            "--epochs": ("training.epochs", epochs),
            "--batch-size": ("training.batch_size", batch_size),
            "--optimizer": ("training.optimizer.name", optimizer),
            "--learning-rate": ("training.optimizer.learning_rate", learning_rate),
            "--dataset": ("dataset.name", dataset),
            "--model": ("model.type", model),
            "--hidden": ("model.hidden", hidden and f"[{hidden}]"),
            "--activation": ("model.activation", activation),
            "--dropout": ("model.dropout", dropout),
            "--validation": ("dataset.validation", validation),
            "--seed": ("training.seed", seed),
        },
        assignments=tuple(assignments or ()),
        output=output,
        overwrite=overwrite,
        resume=resume,
        more=more,
        force=force,
        init_from=init_from,
        dry_run=dry_run,
        data_dir=data_dir,
        own_data=own_data,
        streams=stream,
        json=json,
        jsonl=jsonl,
        quiet=quiet,
        progress=progress,
        tensorboard=tensorboard,
        devices=devices,
        cluster=read_cluster(os.environ),
    )
    if print_config:
        from mnistcli.commands.train.prepare import print_resolved

        print_resolved(request)
        return
    if repeat is not None and overfit_one_batch:
        flags = "--repeat and --overfit-one-batch"
        raise UsageError(flags, "they exclude each other", "give one of them")
    if repeat is not None:
        from mnistcli.commands.train.repeat import run_repeated

        run_repeated(request, repeat)
        return
    if overfit_one_batch:
        from mnistcli.commands.train.overfit import overfit_one_batch as try_one_batch

        try_one_batch(request)
        return
    from mnistcli.commands.train.run import run_experiment

    run_experiment(request)
