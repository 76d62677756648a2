"""Where a report goes: a file that is whole or not there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mnistcli.atomic_files import create_file, replace_file
from mnistcli.commands.train.request import check_directory, refuse_existing
from mnistcli.errors import ResourceError, UsageError

SUFFIXES = (".html", ".htm")


def check_page(path: Path, *, overwrite: bool) -> None:
    """Look at a page's name before anything is read.

    Raises:
        UsageError: it does not end as a page does, is a folder's, or exists.
        ResourceError: its folder takes no files.
    """
    if path.is_dir():
        hint = f"write -o {shlex.quote(str(path / 'report.html'))}"
        raise UsageError("--output", f"{path} is a folder", hint)
    if path.suffix.lower() not in SUFFIXES:
        hint = f"write -o {shlex.quote(str(path.with_name(path.stem or 'report')))}.html"
        raise UsageError("--output", f"{path} does not end in {SUFFIXES[0]}", hint)
    check_directory(path.parent)
    if path.exists() and not overwrite:
        raise refuse_existing(path)


def write_page(path: Path, page: bytes, *, overwrite: bool) -> None:
    """Write the page whole or not at all; what a symbolic link leads to is replaced.

    Raises:
        UsageError: somebody else has made a file of that name meanwhile.
        ResourceError: it could not be written.
    """
    try:
        if overwrite:
            replace_file(Path(os.path.realpath(path)), [page])
        else:
            create_file(path, [page])
    except FileExistsError:
        raise refuse_existing(path) from None
    except OSError as error:
        what = f"the report could not be written: {error.strerror or error}"
        hint = "free some space, or choose another place with -o"
        raise ResourceError(str(path), what, hint) from error
