"""`mnistcli predict`: predict the class of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from mnistcli.cli.completion import complete_checkpoint, complete_image
from mnistcli.cli.options import (
    CsvOption,
    DataDirOption,
    DataOption,
    DatasetOption,
    DebugOption,
    JsonlOption,
    JsonOption,
    NormalizationOption,
    ProgressOption,
    choice_option,
    choose_form,
    complete_words,
    count_option,
    refuse_combination,
)
from mnistcli.config.allowed_values import SPLITS
from mnistcli.errors import UsageError
from mnistcli.images.options import AUTO, InkChoice, Prepare, Step
from mnistcli.output.terminal import emit, print_json

EXAMPLES = """
mnistcli predict mlp.h5 digit.png --top 3
mnistcli predict mlp.h5 --split test --first 20
mnistcli predict mlp.h5 photo.jpg --show
mnistcli predict mlp.h5 photos/ --jsonl --skip lines
mnistcli predict mlp.h5 - --csv < batch.npy
mnistcli predict xor.h5 --input 0,1
"""


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.h5", help="A checkpoint.", autocompletion=complete_checkpoint
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Image files, folders, patterns, .npy arrays, or - for stdin.",
            autocompletion=complete_image,
        ),
    ] = None,
    split: Annotated[
        str | None,
        choice_option(SPLITS, "Predict images of the data set instead of files.", "Data"),
    ] = None,
    first: Annotated[
        int | None,
        count_option("--first", "N", 1, "With --split: the first N images.", "Data"),
    ] = None,
    index: Annotated[
        int | None,
        count_option(
            "--index", "I", 0, "With --split: the image in row I, counted from 0.", "Data"
        ),
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="0,1", help="Numbers to predict, for xor.", rich_help_panel="Data"
        ),
    ] = None,
    prepare: Annotated[
        str,
        choice_option(
            get_args(Prepare),
            "auto finds the digit and frames it as MNIST's are (CIFAR-10: the middle"
            " square, Fashion-MNIST: the whole picture); resize scales the whole picture; none"
            " takes it as it is.",
            "Pictures",
        ),
    ] = AUTO.prepare,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP,…",
            help=f"Leave out steps of auto: {', '.join(get_args(Step))}.",
            rich_help_panel="Pictures",
            autocompletion=complete_words(get_args(Step)),
        ),
    ] = None,
    ink: Annotated[
        str,
        choice_option(
            get_args(InkChoice), "Whether ink is darker or lighter than its ground.", "Pictures"
        ),
    ] = AUTO.ink,
    dataset: DatasetOption = None,
    normalization: NormalizationOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    top: Annotated[
        int | None,
        count_option("--top", "K", 1, "Show the K likeliest classes.", "Output"),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Draw what the network saw.", rich_help_panel="Output"),
    ] = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Predict the class of image files, or of images of the data set.

    Photographs become what MNIST's makers would have made of them: the ground is levelled, dark
    ink inverted, ruled lines and specks removed, the digit cropped, scaled and centred.

    Standard input is an image file too, or what numpy.save writes: one image or a batch, whole
    numbers from 0 to 255 in the network's own shape, taken as they are.
    """
    del debug
    chooses_split = split is not None or first is not None or index is not None
    refuse_combination({"IMAGE": images or None, "--split": chooses_split or None, "--input": row})
    refuse_combination({"--first": first, "--index": index})
    form = choose_form(json=json, jsonl=jsonl, csv=csv)
    if show and form != "text":
        what = "drawings are for people, not for scripts"
        raise UsageError("--show and --json, --jsonl, --csv", what, "give one of them")
    if csv and top is not None:
        what = "CSV has a column for every class already"
        raise UsageError("--top and --csv", what, "give one of them")
    from mnistcli.checkpoints.untrusted.sandbox import ParserProcess

    child = ParserProcess(model, "weights")  # reads while the imports below run
    from mnistcli.commands.predict import PredictRequest, predict_and_report

    skipped = tuple(skip or ())
    request = PredictRequest(images or (), split, first, index, row, prepare, ink, skipped)
    report = predict_and_report(
        child,
        request,
        top=top,
        on_prediction=print_json if form == "jsonl" else None,
        dataset=dataset,
        normalization=normalization,
        data=data,
        data_dir=data_dir,
        progress=progress,
    )
    if show and report.predicted is not None:
        from mnistcli.output.plots.terminal_backend import print_picture

        print_picture(report.predicted.compose_picture())
    emit(report.result, form, report.error)
