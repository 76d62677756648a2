"""Where a report goes: a file that is whole or not there.

Where a picture goes: a file of its own, the terminal, or both.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mnistcli.atomic_files import create_file, replace_file
from mnistcli.commands.train.request import check_directory, refuse_existing
from mnistcli.errors import ResourceError, UsageError
from mnistcli.output.plots.matplotlib_backend import Format, check_matplotlib, render_picture
from mnistcli.output.plots.plot_kinds import Picture
from mnistcli.output.plots.terminal_backend import inspect_screen, render_lines
from mnistcli.output.results import PictureResult
from mnistcli.output.terminal import Output

FORMATS = (".png", ".svg")


@dataclass(frozen=True)
class PictureOutput:
    """Where a picture goes.

    Attributes:
        path: of the file; null for none.
        may_replace: a file of that name may go.
        shows: it is drawn on stdout.
        console: for words about it.
    """

    path: Path | None
    may_replace: bool
    shows: bool
    console: Output

    def deliver(self, picture: Picture) -> PictureResult | None:
        """Draw a picture, and return what was written of it; null for nothing.

        Raises:
            UsageError: somebody else has made a file of that name meanwhile.
            ResourceError: the file could not be drawn or written.
        """
        written = self._write(picture, self.path) if self.path is not None else None
        if self.shows:
            screen, hindrance = inspect_screen()
            if hindrance:
                self.console.note(f"drawn in plain characters: {hindrance}")
            self.console.print_line("\n".join(render_lines(picture, screen)))
        return written

    def _write(self, picture: Picture, path: Path) -> PictureResult:
        """Write the file whole or not at all; what a symbolic link leads to is replaced."""
        rendering = render_picture(picture, cast("Format", path.suffix[1:].lower()))
        try:
            if self.may_replace:
                replace_file(Path(os.path.realpath(path)), [rendering.data])
            else:
                create_file(path, [rendering.data])
        except FileExistsError:
            raise refuse_existing(path) from None
        except OSError as error:
            what = f"the picture could not be written: {error.strerror or error}"
            hint = "free some space, or choose another place with -o"
            raise ResourceError(str(path), what, hint) from error
        return PictureResult(path=str(path), width=rendering.width, height=rendering.height)


def choose_output(
    path: Path | None, *, overwrite: bool, shows: bool, json: bool, console: Output
) -> PictureOutput:
    """Check where a picture is to go, before anything is read.

    Args:
        path: of the file; null for none.
        overwrite: whether a file of that name may be replaced.
        shows: whether it is drawn on stdout.
        json: whether stdout is a script's.
        console: for words about it.

    Raises:
        UsageError: the name has no ending that says how to draw, is a folder's, or exists; or
            stdout was asked for twice.
        ResourceError: its folder takes no files, or matplotlib is not installed.
    """
    if shows and json:
        hint = "give one of them; with --json a picture goes into a file"
        raise UsageError("--show and --json", "both want stdout", hint)
    if path is not None:
        _check_name(path)
        check_directory(path.parent)
        if path.exists() and not overwrite:
            raise refuse_existing(path)
        check_matplotlib()
    return PictureOutput(path, overwrite, shows, console)


def _check_name(path: Path) -> None:
    """Refuse what names no picture."""
    if path.is_dir():
        hint = f"write -o {shlex.quote(str(path / 'picture.png'))}"
        raise UsageError("--output", f"{path} is a folder", hint)
    if path.suffix.lower() not in FORMATS:
        hint = f"write -o {shlex.quote(str(path.with_name(path.stem or 'picture')))}.png"
        raise UsageError("--output", f"{path} does not end in {' or '.join(FORMATS)}", hint)


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
