"""Flags that several commands share, each declared once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from mnistcli.cli.completion import complete_directory, complete_own_data, offer
from mnistcli.cli.shells import SHELLS, install_completion, show_completion
from mnistcli.config.allowed_values import (
    SPLITS,
    check_choice,
    get_choices,
    join_choices,
    list_choices,
    list_data_sets,
)
from mnistcli.config.schema import DatasetConfig
from mnistcli.errors import UsageError
from mnistcli.output.terminal import Progress
from mnistcli.tensorflow_import import DEBUG_VARIABLE

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


def _enable_debug(value: bool) -> None:
    """Let everything behind the command know; the variable does the same as the flag."""
    if value:
        os.environ[DEBUG_VARIABLE] = "1"


def count_from(lowest: int, flag: str) -> Callable[[str], int]:
    """Return what reads a flag's whole number, and refuses all that is none in our words."""

    def parse(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text) or int(text) < lowest:
            what = f"expected a whole number from {lowest}, received {text!r}"
            raise UsageError(flag, what, f"write {flag} {max(lowest, 3)} for example")
        return int(text)

    return parse


def count_option(flag: str, letter: str, lowest: int, meaning: str, panel: str) -> Any:
    """Declare a flag that takes a whole number.

    Args:
        flag: with its dashes.
        letter: what stands for the number in the help.
        lowest: the least that is taken.
        meaning: the help.
        panel: the group in which the help shows it.
    """
    return typer.Option(
        flag, metavar=letter, parser=count_from(lowest, flag), help=meaning, rich_help_panel=panel
    )


def choice_option(words: Sequence[str], meaning: str, panel: str) -> Any:
    """Declare a flag, named after its parameter, of which help and TAB show the choices."""
    return typer.Option(
        metavar=join_choices(words),
        help=meaning,
        rich_help_panel=panel,
        autocompletion=offer(words),
    )


def _parse_progress(text: str) -> Progress:
    """Read the name of a way to show progress."""
    check_choice(text, get_args(Progress), "--progress")
    return cast("Progress", text)


SplitOption = Annotated[str, choice_option(SPLITS, "Which part of the data.", "Data")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Look for data here first; then in MNISTCLI_DATA_DIR and in Keras' own cache."
        " MNISTCLI_OFFLINE=1 forbids downloads.",
        autocompletion=complete_directory,
        rich_help_panel="Data",
    ),
]
OwnData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Images of your own, a folder or an .npz file; where a checkpoint's lie now.",
        autocompletion=complete_own_data,
        rich_help_panel="Data",
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar=join_choices(list_data_sets()),
        help="The data set, where the file doesn't say or another one is meant.",
        autocompletion=offer(list_data_sets()),
        rich_help_panel="Data",
    ),
]
NormalizationOption = Annotated[
    str | None,
    typer.Option(
        "--normalization",
        metavar=list_choices(DatasetConfig, "normalization"),
        help="How pixels become numbers, where the file doesn't say.",
        autocompletion=offer(get_choices(DatasetConfig, "normalization")),
        rich_help_panel="Data",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel="Output"),
]
Jsonl = Annotated[
    bool,
    typer.Option(
        "--jsonl",
        help="Print one JSON object a line as results come, then the whole.",
        rich_help_panel="Output",
    ),
]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print CSV with a header line.", rich_help_panel="Output")
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Say nothing but the answer, warnings and errors.",
        rich_help_panel="Output",
    ),
]
ProgressOption = Annotated[
    Progress,
    typer.Option(
        "--progress",
        metavar=join_choices(get_args(Progress)),
        parser=_parse_progress,
        autocompletion=offer(get_args(Progress)),
        help="How progress is shown on stderr; auto: a bar on a terminal, lines off it, nothing"
        " under -q.",
        rich_help_panel="Output",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_enable_debug,
        is_eager=True,
        expose_value=True,
        help=f"Show tracebacks, and what TensorFlow prints; {DEBUG_VARIABLE}=1 does the same.",
        rich_help_panel="Output",
    ),
]
ShowCompletion = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        metavar=join_choices(tuple(SHELLS)),
        callback=show_completion,
        is_eager=True,
        help="Print the script by which this shell completes mnistcli's command lines.",
        autocompletion=offer(tuple(SHELLS)),
    ),
]
InstallCompletion = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        metavar=join_choices(tuple(SHELLS)),
        callback=install_completion,
        is_eager=True,
        help="Write that script where this shell looks for it.",
        autocompletion=offer(tuple(SHELLS)),
    ),
]
PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Draw into this file, whose ending says how: .png or .svg.",
        rich_help_panel="Output",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the file if it exists.", rich_help_panel="Output"),
]
Show = Annotated[
    bool,
    typer.Option("--show", help="Draw in the terminal.", rich_help_panel="Output"),
]
