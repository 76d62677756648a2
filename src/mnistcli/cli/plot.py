"""`mnistcli plot`: draw a figure of a run, its network or its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint
from mnistcli.cli.options import (
    DataDirOption,
    DataOption,
    DatasetOption,
    DebugOption,
    JsonOption,
    NormalizationOption,
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
)
from mnistcli.config.allowed_values import SPLITS, check_choice
from mnistcli.errors import UsageError
from mnistcli.output.logs import note
from mnistcli.output.plots import PLOT_KINDS
from mnistcli.output.terminal import emit

EXAMPLES = """
mnistcli plot curves mlp.h5
mnistcli plot weights mlp.h5 --show
mnistcli plot mistakes mlp.h5 --first 24 -o worst.svg
mnistcli plot calibration mlp.h5 --split train --json
"""


def plot(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"One of {', '.join(PLOT_KINDS)}.",
            autocompletion=complete_words(tuple(PLOT_KINDS)),
        ),
    ],
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.h5", help="A checkpoint.", autocompletion=complete_checkpoint
        ),
    ],
    split: Annotated[
        str | None,
        choice_option(SPLITS, "Which part of the data; test where none is given.", "Data"),
    ] = None,
    first: Annotated[
        int | None,
        count_option("--first", "N", 1, "The first N images, mistakes or filters.", "Data"),
    ] = None,
    dataset: DatasetOption = None,
    normalization: NormalizationOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    output: PictureFileOption = None,
    overwrite: OverwriteOption = False,
    show: ShowOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Draw a picture: a PNG or SVG file, or in the terminal.

    {kinds}

    curves and weights need nothing but the checkpoint. Without -o and --show the file is
    MODEL-KIND.png in the working directory.
    """
    del debug
    given = {
        "--split": split,
        "--first": first,
        "--dataset": dataset,
        "--normalization": normalization,
        "--data": data,
        "--data-dir": data_dir,
    }
    _check_flags(kind, [flag for flag, value in given.items() if value is not None])
    exclude_json(show=show, json=json)
    from mnistcli.checkpoints.untrusted.sandbox import ParserProcess

    child = ParserProcess(model, "weights" if PLOT_KINDS[kind].needs_weights else "none")
    from mnistcli.commands.plot import plot as draw

    drawn = draw(
        kind,
        child,
        output=output or (None if show else Path(f"{model.stem}-{kind}.png")),
        overwrite=overwrite,
        split=split,
        first=first,
        dataset=dataset,
        normalization=normalization,
        data=data,
        data_dir=data_dir,
        progress=progress,
    )
    if show:
        from mnistcli.output.plots.terminal_backend import print_picture

        print_picture(drawn.picture)
    if drawn.result is None:
        return
    if show:
        note(drawn.result.path)
    else:
        emit(drawn.result, choose_form(json=json, quiet=quiet))


_ABOUT_KINDS = " ".join(f"{name}: {kind.about}." for name, kind in PLOT_KINDS.items())
plot.__doc__ = str(plot.__doc__).replace("{kinds}", _ABOUT_KINDS)


def _check_flags(kind: str, given: list[str]) -> None:
    """Refuse an unknown kind, and flags that would be dropped; UsageError."""
    check_choice(kind, tuple(PLOT_KINDS), "KIND")
    useless = next((flag for flag in given if flag not in PLOT_KINDS[kind].flags), None)
    if useless is not None:
        raise UsageError(useless, f"it means nothing to {kind}", "leave it out")
