"""The seal: a line after the HDF5 data with the sha256 of all that precedes it.

HDF5 ignores what follows its end of file, and drops it when the file is opened for writing. The
seal proves that nothing happened by accident; whoever edits on purpose can seal again.
"""

from __future__ import annotations

import hashlib
from typing import Literal

_PREFIX = b"\nmnistcli-sha256 "
_LENGTH = len(_PREFIX) + 64 + 1

COPY_HINT = "restore it from a copy, or train again"  # the way out of every damage
SealState = Literal["intact", "broken", "absent"]


def add_seal(data: bytes) -> bytes:
    """Return the line that seals `data`."""
    return _PREFIX + hashlib.sha256(data).hexdigest().encode() + b"\n"


def split_seal(data: memoryview) -> tuple[memoryview, SealState]:
    """Return the HDF5 data without its seal, and whether the seal holds."""
    tail = bytes(data[-_LENGTH:])
    if len(tail) < _LENGTH or not tail.startswith(_PREFIX) or not tail.endswith(b"\n"):
        return data, "absent"
    body = data[:-_LENGTH]
    digest = hashlib.sha256(body).hexdigest().encode()
    return body, "intact" if tail[len(_PREFIX) : -1] == digest else "broken"
