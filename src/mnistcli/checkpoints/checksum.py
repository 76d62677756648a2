"""The checksum of a checkpoint: a line after the HDF5 data with the sha256 of all bytes before it.

HDF5 ignores what follows the end of its data, and drops it when a file is opened for writing. The
checksum detects accidents, not attacks: it can be computed anew after a deliberate change.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import Literal

RESTORE_HINT = "restore it from a copy, or train again"  # of every error for a damaged file

ChecksumState = Literal["valid", "mismatch", "missing"]

_PREFIX = b"\nmnistcli-sha256 "
_LINE_BYTES = len(_PREFIX) + 64 + 1
_CHUNK_BYTES = 1 << 20


def format_checksum_line(data: bytes) -> bytes:
    """Return the line to be written after `data`."""
    return _PREFIX + hashlib.sha256(data).hexdigest().encode() + b"\n"


def split_checksum(data: memoryview) -> tuple[memoryview, ChecksumState]:
    """Return the HDF5 data without the checksum line, and whether the checksum is right."""
    line = bytes(data[-_LINE_BYTES:])
    if not _is_checksum_line(line):
        return data, "missing"
    body = data[:-_LINE_BYTES]
    return body, _compare(line, hashlib.sha256(body).hexdigest())


def verify_checksum(stream: io.FileIO) -> ChecksumState:
    """Return whether an open file's checksum is right; the file is read in chunks of 1 MiB."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size_bytes - _LINE_BYTES))
    line = stream.read(_LINE_BYTES)
    if not _is_checksum_line(line):
        return "missing"
    stream.seek(0)
    left_bytes, digest, chunk = size_bytes - _LINE_BYTES, hashlib.sha256(), bytearray(_CHUNK_BYTES)
    while left_bytes > 0 and (count := stream.readinto(memoryview(chunk)[:left_bytes])):
        digest.update(memoryview(chunk)[:count])
        left_bytes -= count
    return _compare(line, digest.hexdigest())


def _is_checksum_line(line: bytes) -> bool:
    return len(line) == _LINE_BYTES and line.startswith(_PREFIX) and line.endswith(b"\n")


def _compare(line: bytes, digest: str) -> ChecksumState:
    return "valid" if line[len(_PREFIX) : -1] == digest.encode() else "mismatch"
