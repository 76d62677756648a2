"""`mnistcli ls`: list checkpoints with their data, models, epochs and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.checkpoints import find_checkpoints
from mnistcli.cli.completion import complete_checkpoint, complete_column
from mnistcli.cli.options import CsvOption, DebugOption, JsonOption, choose_form
from mnistcli.errors import CheckpointError
from mnistcli.output.logs import note, report_error
from mnistcli.output.terminal import emit

EXAMPLES = """
mnistcli ls
mnistcli ls runs/ --sort test.accuracy --reverse
mnistcli ls --sort learning_rate
mnistcli ls runs/*.h5 --csv > runs.csv
mnistcli ls --json | jq '.checkpoints[].test.accuracy'
"""


def ls(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE.h5|DIR",
            help="Checkpoints, or folders of them.",
            show_default="the working directory",
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Order by a column, or by any config key; the end of its name will do.",
            autocompletion=complete_column,
            rich_help_panel="Output",
        ),
    ] = "checkpoint",
    reverse: Annotated[
        bool,
        typer.Option("--reverse", "-r", help="The highest first.", rich_help_panel="Output"),
    ] = False,
    json: JsonOption = False,
    csv: CsvOption = False,
    debug: DebugOption = False,
) -> None:
    """List checkpoints: data, model, what differs in their configs, epochs, scores, time.

    Only the record that a run keeps in its file is read, and the file's checksum compared: a file
    that is damaged, foreign or refused gets a row that says so (doctor looks at the whole of one).
    saved is when the file was last written. Exit code 5 only where a path leads nowhere.
    """
    del debug
    form = choose_form(json=json, csv=csv)
    from mnistcli.checkpoints.untrusted.sandbox import MetadataReader

    found = find_checkpoints(paths or [Path()])
    files = [file for file in found if isinstance(file, Path)]
    reader = MetadataReader(files)  # reads while the imports below run
    from mnistcli.commands.ls import list_checkpoints
    from mnistcli.output.run_list import make_run_table

    result = list_checkpoints(found, reader, sort, reverse=reverse)
    emit(result, form)
    if not found:
        note("no checkpoints here")
    elif form == "text" and (hidden := make_run_table(result).hidden):
        note(f"no room for {', '.join(hidden)}: widen the terminal, or see --csv")
    lost = [file for file in found if isinstance(file, CheckpointError)]
    for error in lost:
        report_error(error)
    if lost:
        raise typer.Exit(lost[0].code)
