"""Finds the user's home and cache folders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def find_home() -> Path | None:
    """Return the home directory; None in containers that run as users without one."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def find_cache(environment: Mapping[str, str]) -> Path:
    """Return mnistcli's cache folder, which may not exist yet.

    It is `$XDG_CACHE_HOME/mnistcli`, `~/.cache/mnistcli`, or a folder of the user's in the
    system's temporary folder where there is no home.
    """
    # The XDG specification asks to ignore a relative path.
    from_environment = Path(environment.get("XDG_CACHE_HOME", ""))
    if from_environment.is_absolute():
        return from_environment / "mnistcli"
    if home := find_home():
        return home / ".cache" / "mnistcli"
    return Path(tempfile.gettempdir()) / f"mnistcli-{os.getuid()}"
