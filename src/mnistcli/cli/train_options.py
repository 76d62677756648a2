"""Flags of `train` alone that say how a run is watched and tried out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_directory

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
