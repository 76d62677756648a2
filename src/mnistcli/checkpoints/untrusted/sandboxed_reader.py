"""Parses one HDF5 file from standard input in a process of its own, with limits on time and memory.

HDF5 bytes from anywhere can make the library hang, crash or fill the memory. Here they can do so
without harm: this process reads no other file, writes nothing but its standard output, and ends
when its limits are reached. It prints one JSON line, `Contents` or a refusal, and then the bytes
of the arrays that were asked for, one after the other. `process` starts it.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mnistcli.checkpoints.checksum import COPY_HINT, SealState, split_seal
from mnistcli.checkpoints.run_state import Array
from mnistcli.checkpoints.untrusted.contents import MAX_FILE_BYTES, ArrayHeader, Contents
from mnistcli.checkpoints.untrusted.hdf5 import (
    RECORD_GROUP,
    STRANGE_HINT,
    Refused,
    list_arrays,
    open_child,
    read_text,
    walk_objects,
)

MEMORY_BASE_BYTES = 512 << 20  # beyond what the interpreter and its libraries have mapped
MAPPED_BYTES = 2 << 30  # which is so much where the system does not tell
CPU_BASE_S = 5
CPU_BYTES_PER_S = 20 << 20  # hashing, copying and inflating together are several times faster
MAX_LINE_BYTES = 32 << 20
MAX_INFLATION = 32  # arrays may be this much larger than the file that holds them compressed,
INFLATION_BASE_BYTES = 64 << 20  # and small files of zeros even more
SIGNATURE = b"\x89HDF\r\n\x1a\n"

# What HDF5 and h5py raise over bytes of which they can make nothing.
STUMBLES = (
    MemoryError, RecursionError,
    OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError,
)  # fmt: skip


def limit_resources(file_bytes: int, mapped_bytes: int) -> None:
    """Bound memory and processor time from here on, where the system can.

    Args:
        file_bytes: size of the file that is read next.
        mapped_bytes: what the interpreter and its libraries took before the first file.
    """
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit has to do
        return
    memory = mapped_bytes + MEMORY_BASE_BYTES + 4 * file_bytes
    processor_s = math.ceil(time.process_time()) + CPU_BASE_S + file_bytes // CPU_BYTES_PER_S
    limits = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, processor_s))
    for kind, limit in (*limits, (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError, OSError):  # macOS knows RLIMIT_AS, and refuses to set it
            resource.setrlimit(kind, (bound, hard))


def count_mapped_bytes() -> int:
    """Return how much address space this process has taken."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return MAPPED_BYTES
    return pages * os.sysconf("SC_PAGESIZE")


def check_size(descriptor: int) -> int:
    """Return a file's size, if it is one that is read here."""
    size = os.fstat(descriptor).st_size
    if size > MAX_FILE_BYTES:
        raise Refused(f"{size:,} bytes are more than the {MAX_FILE_BYTES:,} that are read here")
    if size == 0:
        raise Refused("the file is empty", COPY_HINT)
    return size


def read_input() -> bytes:
    """Read the file whole."""
    size = check_size(0)
    limit_resources(size, count_mapped_bytes())
    with os.fdopen(0, "rb", closefd=False) as stream:
        return stream.read()


def check_head(seal: SealState, head: bytes) -> None:
    """Refuse a file that was damaged, and tell what it is where it is not HDF5."""
    if seal == "broken":
        raise Refused("damaged: its contents do not match its checksum", COPY_HINT)
    if head == SIGNATURE:
        return
    if head.startswith(b"PK\x03\x04"):
        raise Refused(
            "a zip archive, not an HDF5 file",
            "a .keras file becomes one with keras.models.load_model(...).save('model.h5')",
        )
    raise Refused("not an HDF5 file", "give a .h5 file that mnistcli or Keras saved")


def open_image(data: bytes) -> h5py.File:
    """Open a file that is in memory; h5py's own function for it loses HDF5's reasons to fail."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(data)
    return h5py.File(h5py.h5f.open(b"checkpoint", h5py.h5f.ACC_RDONLY, fapl=access))


def parse(data: bytes, wanted: str) -> tuple[Contents, list[Array]]:
    """Return what the file holds, and the arrays that were asked for."""
    _, seal = split_seal(memoryview(data))
    check_head(seal, data[: len(SIGNATURE)])
    file = open_image(data)
    datasets = dict(walk_objects(file, {h5py.h5o.get_info(file.id).addr}))
    model_config = read_model_config(file)
    found = list(list_arrays(file, datasets, wanted))
    headers = tuple(header for header, _ in found)
    check_inflation(headers, len(data))
    contents = Contents(
        seal=seal,
        model_config=model_config,
        training_config=read_text(file, "training_config"),
        keras_version=read_text(file, "keras_version"),
        record=read_record(file),
        arrays=headers,
    )
    return contents, [read_values(dataset) for _, dataset in found]


def read_model_config(file: h5py.File) -> str:
    """Read Keras' description of the network."""
    text = read_text(file, "model_config")
    if text is None or not isinstance(open_child(file, "model_weights"), h5py.Group):
        raise Refused(
            "weights without a network, or no Keras file at all",
            "save the whole model with model.save('model.h5')",
        )
    return text


def read_record(file: h5py.File) -> dict[str, str] | None:
    """Read the texts of which a `Record` consists; None for files of others."""
    group = open_child(file, RECORD_GROUP)
    if not isinstance(group, h5py.Group):
        return None
    return {name: read_text(group, name) or "" for name in group.attrs}


def check_inflation(headers: Sequence[ArrayHeader], file_bytes: int) -> None:
    """Refuse what would grow out of all proportion, however it is spread over data sets."""
    size_bytes = sum(header.size_bytes for header in headers)
    if size_bytes > INFLATION_BASE_BYTES + MAX_INFLATION * file_bytes:
        raise Refused(f"{file_bytes:,} bytes that claim to hold {size_bytes:,} bytes of arrays")


def read_values(dataset: h5py.Dataset) -> Array:
    """Read an array, and put it in one piece in native byte order."""
    values = np.ascontiguousarray(dataset[()])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def encode_line(line: dict[str, Any]) -> bytes:
    """Return the JSON line; attributes can point to one text and multiply it."""
    encoded = json.dumps(line).encode()
    if len(encoded) > MAX_LINE_BYTES:
        raise Refused(f"its descriptions have {len(encoded):,} bytes")
    return encoded


def explain(error: Exception) -> str:
    """Say what HDF5 finds wrong, where it says that in words for people."""
    is_cut = "truncated file" in str(error)
    return "damaged: its end is missing" if is_cut else "damaged: HDF5 cannot make sense of it"


def refuse(error: Exception) -> bytes:
    """Return the JSON line for a file that could not be read."""
    if isinstance(error, Refused):
        what, hint = error.what, error.hint
    elif isinstance(error, MemoryError | RecursionError):
        what, hint = "reading it takes more memory than its size allows for", STRANGE_HINT
    else:
        what, hint = explain(error), COPY_HINT
    return json.dumps({"refused": what, "hint": hint}).encode()


def main() -> None:
    """Parse standard input; exit 0 with a line that says what it is or why it is refused."""
    arrays: list[Array] = []
    try:
        contents, arrays = parse(read_input(), sys.argv[1])
        line = encode_line(asdict(contents))
    except (Refused, *STUMBLES) as error:
        arrays, line = [], refuse(error)
    output = sys.stdout.buffer
    output.write(line + b"\n")
    for values in arrays:
        output.write(values.data)
    output.flush()


if __name__ == "__main__":
    main()
