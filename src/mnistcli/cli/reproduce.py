"""`mnistcli reproduce`: trains a checkpoint again from its own record, and compares the bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint
from mnistcli.cli.options import DataDir, Debug, Json, ProgressOption, Quiet

EXAMPLES = """
mnistcli reproduce mlp.h5
mnistcli reproduce theirs.h5 -q && echo same bits
mnistcli reproduce mlp.h5 --json | jq .differences
"""


def reproduce(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.h5",
            help="A checkpoint that mnistcli wrote.",
            autocompletion=complete_checkpoint,
        ),
    ],
    data_dir: DataDir = None,
    json: Json = False,
    quiet: Quiet = False,
    progress: ProgressOption = "auto",
    debug: Debug = False,
) -> None:
    """Train a checkpoint again from its own record, and say whether the bits are the same.

    The file is not touched. Exit code 3 where an array differs; where versions, processor or data
    are others than the run's, nothing is trained, and the error says which.
    """
    del debug
    from mnistcli.cli.reproduction import reproduce_run

    reproduce_run(model, data_dir, progress, json=json, quiet=quiet)
