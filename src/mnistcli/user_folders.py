"""Folders of the user's that the tool may use."""

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
    """Return the folder for what can be made again, which need not exist.

    XDG base directories; a relative path in the variable is to be ignored, they say.
    """
    from_environment = Path(environment.get("XDG_CACHE_HOME", ""))
    if from_environment.is_absolute():
        return from_environment / "mnistcli"
    if home := find_home():
        return home / ".cache" / "mnistcli"
    return Path(tempfile.gettempdir()) / f"mnistcli-{os.getuid()}"
