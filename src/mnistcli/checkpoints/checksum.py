"""The seal: a line after the HDF5 data with the sha256 of all that precedes it.

HDF5 ignores what follows its end of file, and drops it when the file is opened for writing. The
seal proves that nothing happened by accident; whoever edits on purpose can seal again.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import Literal

_PREFIX = b"\nmnistcli-sha256 "
_LENGTH = len(_PREFIX) + 64 + 1
_PIECE_BYTES = 1 << 20

RESTORE_HINT = "restore it from a copy, or train again"  # the way out of every damage
ChecksumState = Literal["valid", "mismatch", "missing"]


def format_checksum_line(data: bytes) -> bytes:
    """Return the line that seals `data`."""
    return _PREFIX + hashlib.sha256(data).hexdigest().encode() + b"\n"


def split_checksum(data: memoryview) -> tuple[memoryview, ChecksumState]:
    """Return the HDF5 data without its seal, and whether the seal holds."""
    tail = bytes(data[-_LENGTH:])
    if not _is_seal(tail):
        return data, "missing"
    body = data[:-_LENGTH]
    return body, _compare(tail, hashlib.sha256(body).hexdigest())


def verify_checksum(stream: io.FileIO) -> ChecksumState:
    """Return whether the seal of an open file holds, without keeping the file in memory."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size_bytes - _LENGTH))
    tail = stream.read(_LENGTH)
    if not _is_seal(tail):
        return "missing"
    stream.seek(0)
    left_bytes, digest, piece = size_bytes - _LENGTH, hashlib.sha256(), bytearray(_PIECE_BYTES)
    while left_bytes > 0 and (count := stream.readinto(memoryview(piece)[:left_bytes])):
        digest.update(memoryview(piece)[:count])
        left_bytes -= count
    return _compare(tail, digest.hexdigest())


def _is_seal(tail: bytes) -> bool:
    """Tell whether the end of a file is a seal's line."""
    return len(tail) == _LENGTH and tail.startswith(_PREFIX) and tail.endswith(b"\n")


def _compare(tail: bytes, digest: str) -> ChecksumState:
    """Tell whether a seal names the sum that its file has."""
    return "valid" if tail[len(_PREFIX) : -1] == digest.encode() else "mismatch"
