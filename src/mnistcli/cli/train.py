"""`mnistcli train`: a config becomes a trained checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.choices import describe, list_choices, list_members
from mnistcli.cli.options import DataDir, Debug, Json, Jsonl, Quiet, count_from
from mnistcli.cli.train_options import OverfitOneBatch, TensorBoardDirectory
from mnistcli.config.models import DatasetConfig, MlpModel, Model, TrainingConfig
from mnistcli.config.optimization import Optimizer

EXAMPLES = """
mnistcli train
mnistcli train mnist-mlp --epochs 5 -o mlp.h5
mnistcli train my.yaml --set training.optimizer.momentum=0.9 --json | jq .test.accuracy
mnistcli train --resume mlp.h5 --more 5
"""
_EXPERIMENT = "Experiment"
_RUN = "Run"


def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG]", help="A YAML file or a recipe's name.", show_default="mnist-softmax"
        ),
    ] = None,
    epochs: Annotated[
        str | None,
        typer.Option(
            metavar="N", help=describe(TrainingConfig, "epochs"), rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            metavar="N", help=describe(TrainingConfig, "batch_size"), rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar=list_members(Optimizer, "name"),
            help="The optimizer; a new one takes its own default learning rate.",
            rich_help_panel=_EXPERIMENT,
        ),
    ] = None,
    learning_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="Size of the optimizer's step.", rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar=list_choices(DatasetConfig, "name"),
            help=describe(DatasetConfig, "name"),
            rich_help_panel=_EXPERIMENT,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar=list_members(Model, "type"),
            help="The kind of network.",
            rich_help_panel=_EXPERIMENT,
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            metavar="256,128",
            help="Units of an MLP's hidden layers, first to last.",
            rich_help_panel=_EXPERIMENT,
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=describe(MlpModel, "activation"), rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    dropout: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help=describe(MlpModel, "dropout"), rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION|test",
            help=describe(DatasetConfig, "validation"),
            rich_help_panel=_EXPERIMENT,
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="N", help=describe(TrainingConfig, "seed"), rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any config key, dotted: training.optimizer.momentum=0.9. Repeatable.",
            rich_help_panel=_EXPERIMENT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.h5",
            help="Where the checkpoint goes.",
            show_default="<dataset>-<model>-s<seed>-<date>-<time>.h5",
            rich_help_panel=_RUN,
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
    overfit_one_batch: OverfitOneBatch = False,
    tensorboard: TensorBoardDirectory = None,
    data_dir: DataDir = None,
    json: Json = False,
    jsonl: Jsonl = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network and write its checkpoint.

    The result on the test set goes to stdout; progress, the path and hints to stderr. Ctrl-C
    saves the run where it stands; --resume goes on from there to the same bits.
    """
    del debug  # acted on when it was parsed
    from mnistcli.cli.experiment import run_experiment
    from mnistcli.cli.overfit import overfit_one_batch as try_one_batch
    from mnistcli.cli.run_plan import Request

    carry_out = try_one_batch if overfit_one_batch else run_experiment
    carry_out(
        Request(
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
            json=json,
            jsonl=jsonl,
            quiet=quiet,
            tensorboard=tensorboard,
        )
    )
