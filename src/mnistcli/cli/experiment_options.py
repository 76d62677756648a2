"""The flags that change single keys of a config; their meanings are the models' own."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from mnistcli.cli.completion import complete_assignment, offer
from mnistcli.config.allowed_values import describe, get_choices, get_members, join_choices
from mnistcli.config.optimization import Optimizer
from mnistcli.config.schema import AnyDatasetName, DatasetConfig, MlpModel, Model, TrainingConfig

_EXPERIMENT = "Experiment (each takes precedence over CONFIG)"
_OPTIMIZERS = get_members(Optimizer, "name")
_MODELS = get_members(Model, "type")

Epochs = Annotated[
    str | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help=describe(TrainingConfig, "epochs"),
        rich_help_panel=_EXPERIMENT,
    ),
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help=describe(TrainingConfig, "batch_size"),
        rich_help_panel=_EXPERIMENT,
    ),
]
OptimizerName = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        metavar="NAME",
        help=f"{', '.join(_OPTIMIZERS)}; a new one takes its own default learning rate.",
        rich_help_panel=_EXPERIMENT,
        autocompletion=offer(_OPTIMIZERS),
    ),
]
LearningRate = Annotated[
    str | None,
    typer.Option(
        "--learning-rate",
        metavar="RATE",
        help="Size of the optimizer's step.",
        rich_help_panel=_EXPERIMENT,
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar=join_choices(get_args(AnyDatasetName)),
        help=describe(DatasetConfig, "name"),
        rich_help_panel=_EXPERIMENT,
        autocompletion=offer(get_args(AnyDatasetName)),
    ),
]
ModelType = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar=join_choices(_MODELS),
        help="The kind of network.",
        rich_help_panel=_EXPERIMENT,
        autocompletion=offer(_MODELS),
    ),
]
HiddenUnits = Annotated[
    str | None,
    typer.Option(
        "--hidden",
        metavar="256,128",
        help="Units of an MLP's hidden layers, first to last.",
        rich_help_panel=_EXPERIMENT,
    ),
]
ActivationName = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="NAME",
        help=describe(MlpModel, "activation"),
        rich_help_panel=_EXPERIMENT,
        autocompletion=offer(get_choices(MlpModel, "activation")),
    ),
]
Dropout = Annotated[
    str | None,
    typer.Option(
        "--dropout", metavar="RATE", help=describe(MlpModel, "dropout"), rich_help_panel=_EXPERIMENT
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="FRACTION|test",
        help=describe(DatasetConfig, "validation"),
        rich_help_panel=_EXPERIMENT,
        autocompletion=offer(["test"]),
    ),
]
Seed = Annotated[
    str | None,
    typer.Option(
        "--seed", metavar="N", help=describe(TrainingConfig, "seed"), rich_help_panel=_EXPERIMENT
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the config, dotted: model.l2=1e-4. Repeatable.",
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_assignment,
    ),
]
