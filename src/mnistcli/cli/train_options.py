"""Flags of `train` alone that say how a run is watched and tried out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_directory
from mnistcli.cli.options import count_from

TensorBoardDirectory = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Write metrics, histograms of the weights and misclassified images for TensorBoard"
        " here, under the checkpoint's name.",
        autocompletion=complete_directory,
        rich_help_panel="Run",
    ),
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="N",
        parser=count_from(1, "--devices"),
        help="Cut each batch into N shards, and train on as many GPUs at a time; without a GPU, on"
        " N parts of the processor. Several machines train together where TF_CONFIG names them. No"
        " key of the config: what is trained is the same, but for the rounding of sums. The"
        " checkpoint records it, and --resume uses as many again.",
        show_default="1",
        rich_help_panel="Run",
    ),
]
OverfitOneBatch = Annotated[
    bool,
    typer.Option(
        "--overfit-one-batch",
        help="Only see whether the network can learn at all: train on the first (at most 32)"
        " images of the run's first batch, again and again, without validation, dropout,"
        " penalties, label smoothing, class weights and schedule, until every image is right and"
        " the loss a tenth of what it was; exit code 3 if it is not after 2,000 steps. No"
        " checkpoint is written.",
        rich_help_panel="Run",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Keep only parts of the training set in memory, to the same bits; done by itself where"
        " all of it does not fit.",
        rich_help_panel="Data",
    ),
]
