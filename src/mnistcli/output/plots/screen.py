"""What stdout can show of a picture."""

from __future__ import annotations

import os
import shutil
import sys

from mnistcli.output.plots.plots_screen import Depth, Screen
from mnistcli.output.terminal import is_terminal


def inspect_screen() -> tuple[Screen, str]:
    """Return what pictures are shown on, and why there are no colours; empty where there are."""
    columns = shutil.get_terminal_size().columns
    reason = _find_hindrance()
    return Screen(columns, "none" if reason else _find_depth()), reason


def _find_hindrance() -> str:
    """Say what speaks against colours and half blocks."""
    if os.environ.get("NO_COLOR"):
        return "NO_COLOR is set"
    if not sys.stdout.isatty():
        return "stdout is no terminal"
    if not is_terminal(sys.stdout):
        return "TERM is dumb"
    try:
        "▀█━│└─".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return f"{sys.stdout.encoding} has no half blocks"
    return ""


def _find_depth() -> Depth:
    """Terminals that have more than 256 colours say so in COLORTERM, or in TERM's ending."""
    told = os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    return "truecolor" if told or os.environ.get("TERM", "").endswith("-direct") else "256"
