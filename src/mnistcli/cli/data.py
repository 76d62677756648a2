"""`mnistcli data`: what a data set holds, as numbers and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.completion import offer
from mnistcli.cli.options import (
    DataDir,
    Debug,
    Json,
    Overwrite,
    OwnData,
    PictureFile,
    ProgressOption,
    Quiet,
    Show,
    choice_option,
    count_option,
)
from mnistcli.config.allowed_values import check_choice, get_choices, list_choices, list_data_sets
from mnistcli.config.schema import DatasetConfig
from mnistcli.errors import UsageError

if TYPE_CHECKING:
    from mnistcli.config.schema import AnyDataset
    from mnistcli.output.terminal import Output

EXAMPLES = """
mnistcli data mnist
mnistcli data cifar10 --first 36 -o grid.png
mnistcli data mnist --index 0 --matrix raw
mnistcli data files --data flowers --size 64,64,3 --first 36 --show
mnistcli data mnist --fetch
"""

_SPLITS = ("train", "test")
_MATRICES = ("raw", "normalized")


def data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"One of {', '.join(list_data_sets())}.",
            autocompletion=offer(list_data_sets()),
        ),
    ],
    split: Annotated[
        str | None,
        choice_option(
            _SPLITS, "Which part of it; both where none is given, images from test.", "Data"
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
        choice_option(_MATRICES, "With --index: its numbers too.", "Data"),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            metavar=list_choices(DatasetConfig, "normalization"),
            help="With --matrix normalized: how; unit where none is given.",
            rich_help_panel="Data",
            autocompletion=offer(get_choices(DatasetConfig, "normalization")),
        ),
    ] = None,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch",
            help="Download what is nowhere, say where it lies, read nothing.",
            rich_help_panel="Data",
        ),
    ] = False,
    own_data: OwnData = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHT,WIDTH[,3]",
            help="With --data: what images are brought to.",
            rich_help_panel="Data",
        ),
    ] = None,
    data_dir: DataDir = None,
    output: PictureFile = None,
    overwrite: Overwrite = False,
    show: Show = False,
    json: Json = False,
    quiet: Quiet = False,
    progress: ProgressOption = "auto",
    debug: Debug = False,
) -> None:
    """Look at a data set: counts, shapes, classes, where it lies; its images; one image.

    An image that --index names is drawn in the terminal unless -o names a file.
    """
    del debug
    check_choice(name, list_data_sets(), "NAME")
    from mnistcli.output.terminal import Output

    console = Output(quiet=quiet or json, progress=progress)
    config = _choose_config(name, own_data, size)
    if fetch:
        given: dict[str, object] = {
            "--split": split, "--first": first, "--index": index, "--matrix": matrix,
            "--normalization": normalization, "--output": output, "--show": show or None,
        }  # fmt: skip
        _refuse_beside_fetch(given)
        _fetch(config, data_dir, console, json=json)
        return
    _check_choices(split, first, index, matrix, normalization)
    _check_drawing(first, index, draws=output is not None or show)
    from mnistcli.commands.data import View, view_dataset
    from mnistcli.commands.output_files import choose_output

    shows = show or (index is not None and output is None and not json and not quiet)
    target = choose_output(output, overwrite=overwrite, shows=shows, json=json, console=console)
    view = View(split, first, index, matrix, normalization or "unit")
    view_dataset(config, view, data_dir, target, json=json)


def _refuse_beside_fetch(given: dict[str, object]) -> None:
    """Fetching reads nothing, so that there is nothing to show; UsageError."""
    useless = next((flag for flag, value in given.items() if value is not None), None)
    if useless is not None:
        raise UsageError(f"--fetch and {useless}", "they exclude each other", "give one of them")


def _check_choices(
    split: str | None,
    first: int | None,
    index: int | None,
    matrix: str | None,
    normalization: str | None,
) -> None:
    """Refuse names that are none, and flags that would be dropped; UsageError."""
    if split is not None:
        check_choice(split, _SPLITS, "--split")
    if first is not None and index is not None:
        raise UsageError("--first and --index", "they exclude each other", "give one of them")
    if matrix is not None:
        check_choice(matrix, _MATRICES, "--matrix")
        if index is None:
            raise UsageError("--matrix", "it shows one image's numbers", "say which with --index")
    if normalization is not None:
        check_choice(normalization, get_choices(DatasetConfig, "normalization"), "--normalization")
        if matrix != "normalized":
            what = "nothing is normalized"
            raise UsageError("--normalization", what, "give it with --matrix normalized")


def _check_drawing(first: int | None, index: int | None, *, draws: bool) -> None:
    """Refuse pictures without a place, and places without a picture; UsageError."""
    if first is not None and not draws:
        raise UsageError("--first", "the images need a place", "give -o FILE.png or --show")
    if draws and first is None and index is None:
        hint = "give --first 36 or --index 0"
        raise UsageError("-o, --show", "nothing says what to draw", hint)


def _choose_config(name: str, own_data: Path | None, size: str | None) -> AnyDataset:
    """Return the data set's config as an experiment would have it; UsageError, ConfigError."""
    from mnistcli.config.loading import load_config
    from mnistcli.config.overrides import Override, parse_assignment

    if (name == "files") is not (own_data is not None):
        hint = "give both: mnistcli data files --data PATH"
        raise UsageError("NAME and --data", "images of your own are the data set files", hint)
    if size is not None and own_data is None:
        raise UsageError("--size", f"{name} has its own", "leave it out")
    overrides = [Override("dataset.name", name, "NAME")]
    if name == "xor":
        return DatasetConfig(name="xor")  # whose rules are about networks
    if own_data is not None:
        overrides.append(Override("dataset.path", str(own_data), "--data"))
    if size is not None:
        numbers = parse_assignment(f"dataset.size=[{size}]").value
        overrides.append(Override("dataset.size", numbers, "--size"))
    return load_config(None, overrides).config.dataset


def _fetch(config: AnyDataset, data_dir: Path | None, console: Output, *, json: bool) -> None:
    """Make sure that a data set is there, and say where."""
    from mnistcli.commands.open_dataset import fetch_dataset
    from mnistcli.output.results import FetchResult

    path, downloaded = fetch_dataset(config, data_dir, console)
    name = config.name
    if json:
        location = None if path is None else str(path)
        console.print_json(FetchResult(name=name, location=location, downloaded=downloaded))
    elif path is None:
        console.note(f"{name} is built in: there is nothing to download")
    else:
        console.print_line(str(path))
        console.note("downloaded" if downloaded else "it was there already")
