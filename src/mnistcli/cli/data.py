"""`mnistcli data`: show a data set as numbers and as images."""

from __future__ import annotations

from typing import Annotated

import typer

from mnistcli.cli.options import (
    DataDirOption,
    DataOption,
    DebugOption,
    JsonOption,
    OverwriteOption,
    PictureFileOption,
    ProgressOption,
    QuietOption,
    ShowOption,
    choice_option,
    choose_form,
    complete_words,
    count_option,
    exclude_json,
    format_metavar,
    refuse_combination,
)
from mnistcli.config.allowed_values import (
    DATASET_SPLITS,
    MATRICES,
    get_choices,
    list_dataset_names,
)
from mnistcli.config.schema import DatasetConfig
from mnistcli.errors import UsageError
from mnistcli.output.logs import note
from mnistcli.output.terminal import emit, print_line

EXAMPLES = """
mnistcli data mnist
mnistcli data cifar10 --first 36 -o grid.png
mnistcli data mnist --index 0 --matrix raw
mnistcli data files --data flowers --size 64,64,3 --first 36 --show
mnistcli data mnist --fetch
"""

_NAMES = list_dataset_names()
_NORMALIZATIONS = get_choices(DatasetConfig, "normalization")


def data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"One of {', '.join(_NAMES)}.",
            autocompletion=complete_words(_NAMES),
        ),
    ],
    split: Annotated[
        str | None,
        choice_option(
            DATASET_SPLITS, "Which part of it; both where none is given, images from test.", "Data"
        ),
    ] = None,
    first: Annotated[
        int | None,
        count_option("--first", "N", 1, "Draw the first N images, with -o or --show.", "Data"),
    ] = None,
    index: Annotated[
        int | None,
        count_option(
            "--index",
            "I",
            0,
            "Show the image in row I, counted from 0: its label, its one-hot vector.",
            "Data",
        ),
    ] = None,
    matrix: Annotated[
        str | None,
        choice_option(MATRICES, "With --index: its numbers too.", "Data"),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            metavar=format_metavar(_NORMALIZATIONS),
            help="With --matrix normalized: how; unit where none is given.",
            rich_help_panel="Data",
            autocompletion=complete_words(_NORMALIZATIONS),
        ),
    ] = None,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch",
            help="Download the data if missing, check them, print their path and exit.",
            rich_help_panel="Data",
        ),
    ] = False,
    data: DataOption = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHT,WIDTH[,3]",
            help="With --data: what images are brought to.",
            rich_help_panel="Data",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    output: PictureFileOption = None,
    overwrite: OverwriteOption = False,
    show: ShowOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Look at a data set: counts, shapes, classes, where it lies; its images; one image.

    An image that --index names is drawn in the terminal unless -o names a file.
    """
    del debug
    form = choose_form(json=json)
    if fetch:
        reading = {
            "--split": split, "--first": first, "--index": index, "--matrix": matrix,
            "--normalization": normalization, "--output": output, "--show": show,
        }  # fmt: skip
        for flag, value in reading.items():
            refuse_combination({"--fetch": fetch, flag: value})
        from mnistcli.commands.data import fetch as fetch_files

        found = fetch_files(name, data=data, size=size, data_dir=data_dir, progress=progress)
        emit(found, form)
        if found.location is None:
            note(f"{name} is built in: there is nothing to download")
        else:
            note("downloaded" if found.downloaded else "it was there already")
        return
    refuse_combination({"--first": first, "--index": index})
    shows = show or (index is not None and output is None and not json and not quiet)
    _check_drawing(first, index, draws=output is not None or show)
    exclude_json(show=shows, json=json)
    from mnistcli.commands.data import view_dataset

    view = view_dataset(
        name,
        split=split,
        first=first,
        index=index,
        matrix=matrix,
        normalization=normalization,
        data=data,
        size=size,
        data_dir=data_dir,
        output=output,
        overwrite=overwrite,
        progress=progress,
    )
    if shows and view.picture is not None:
        from mnistcli.output.plots.terminal_backend import print_picture

        print_picture(view.picture)
    if json or first is None:
        emit(view.result, form)
    written = view.result.picture
    if written is not None and not json:
        (note if shows or index is not None else print_line)(written.path)


def _check_drawing(first: int | None, index: int | None, *, draws: bool) -> None:
    """Refuse pictures without a place, and places without a picture; UsageError."""
    if first is not None and not draws:
        raise UsageError("--first", "the images need a place", "give -o FILE.png or --show")
    if draws and first is None and index is None:
        hint = "give --first 36 or --index 0"
        raise UsageError("-o, --show", "nothing says what to draw", hint)
