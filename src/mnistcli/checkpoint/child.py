"""Parses one HDF5 file from standard input in a process of its own, with limits on time and memory.

HDF5 bytes from anywhere can make the library hang, crash or fill the memory. Here they can do so
without harm: this process reads no other file, writes nothing but its standard output, and ends
when its limits are reached. It prints one JSON line, a `Parsed` or a `Refusal`, and then the bytes
of the arrays that were asked for, one after the other.

    python -I child.py none|weights|all < FILE.h5
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np

from mnistcli.checkpoint.hdf5 import (
    MAX_FILE_BYTES,
    RECORD_GROUP,
    Refused,
    list_arrays,
    read_text,
    walk_objects,
)
from mnistcli.checkpoint.seal import split_seal

MEMORY_BASE_BYTES = 2 << 30  # address space that the interpreter and its libraries map
CPU_LIMIT_S = 20
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def limit_resources(file_bytes: int) -> None:
    """Bound memory and processor time, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit has to do
        return
    memory = MEMORY_BASE_BYTES + 4 * file_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read_input() -> bytes:
    """Read the file whole."""
    size = os.fstat(0).st_size
    if size > MAX_FILE_BYTES:
        raise Refused(f"{size} bytes are more than the {MAX_FILE_BYTES} that are read here")
    if size == 0:
        raise Refused("the file is empty", "train again, or restore it from a copy")
    limit_resources(size)
    with os.fdopen(0, "rb", closefd=False) as stream:
        return stream.read()


def check_signature(data: bytes) -> None:
    """Tell what a file is that is not HDF5."""
    if data.startswith(SIGNATURE):
        return
    if data.startswith(b"PK\x03\x04"):
        raise Refused(
            "a zip archive, not an HDF5 file",
            "a .keras file becomes one with keras.models.load_model(...).save('model.h5')",
        )
    raise Refused("not an HDF5 file", "give a .h5 file that mnistcli or Keras saved")


def parse(data: bytes, wanted: str) -> tuple[dict[str, Any], list[h5py.Dataset]]:
    """Return the JSON line's content and the data sets whose bytes follow it."""
    body, seal = split_seal(memoryview(data))
    check_signature(data)
    if seal == "broken":
        raise Refused(
            "damaged: its contents do not match its checksum",
            "restore it from a copy, or train again",
        )
    image = data if body is data else bytes(body)
    file = h5py.File(h5py.h5f.open_file_image(image))
    datasets = dict(walk_objects(file, {h5py.h5o.get_info(file.id).addr}))
    if not isinstance(file.get("model_weights"), h5py.Group) or "model_config" not in file.attrs:
        raise Refused(
            "weights without a network, or no Keras file at all",
            "save the whole model with model.save('model.h5')",
        )
    record = file.get(RECORD_GROUP)
    has_record = isinstance(record, h5py.Group)
    arrays = list(list_arrays(file, datasets, wanted))
    line = {
        "seal": seal,
        "model_config": read_text(file, "model_config"),
        "training_config": read_text(file, "training_config"),
        "keras_version": read_text(file, "keras_version"),
        "record": {k: read_text(record, k) for k in record.attrs} if has_record else None,
        "arrays": [asdict(header) for header, _ in arrays],
    }
    return line, [dataset for _, dataset in arrays]


def main() -> None:
    """Parse standard input; exit 0 with a line that says what it is or why it is refused."""
    datasets: list[h5py.Dataset] = []
    try:
        line, datasets = parse(read_input(), sys.argv[1])
    except Refused as refusal:
        line = {"refused": refusal.what, "hint": refusal.hint}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        line = {"refused": f"damaged or not readable as HDF5 ({type(error).__name__})", "hint": ""}
    except (MemoryError, RecursionError):
        line = {"refused": "reading it takes more memory than its size allows for", "hint": ""}
    output = sys.stdout.buffer
    output.write(json.dumps(line).encode() + b"\n")
    for dataset in datasets:
        values = np.ascontiguousarray(dataset[()])
        output.write(values.astype(values.dtype.newbyteorder("="), copy=False).data)
    output.flush()


if __name__ == "__main__":
    main()
