"""Commands that are shown to be typed next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from mnistcli.commands.train.run_plan import Request
from mnistcli.output.terminal import PROGRAM


def write_command(request: Request, *words: str) -> str:
    """Write a command that works as it stands: quoted, and with the data where this run's are."""
    where = [] if request.data_dir is None else ["--data-dir", str(request.data_dir)]
    return shlex.join([_name_program(), *words, *where])


def _name_program() -> str:
    """Name this program as the user has to type it: by its path where PATH does not lead to it."""
    typed = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if typed.name != PROGRAM or (found is not None and Path(found).samefile(typed)):
        return PROGRAM
    return os.path.relpath(typed)
