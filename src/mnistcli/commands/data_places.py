"""Where the command line says that data lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Where to look for data; null leaves it to the environment, or to what a run recorded.

    Attributes:
        directory: `--data-dir`, for published data sets.
        own: `--data`, images of one's own.
    """

    directory: Path | None = None
    own: Path | None = None
