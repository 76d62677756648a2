"""Parse HDF5 files of unknown origin, in a process that `sandbox` starts for this.

HDF5 data can make the library hang, crash or fill the memory. In this process they do no harm: it
limits its own memory and processor time, and writes nothing but its answer.

- `parse_one_file` reads one file from standard input; it writes a JSON line, `FileContents` or a
  refusal, and then the bytes of the requested arrays.
- `parse_files` receives open files through a socket, its standard input, and answers each with a
  JSON line, `FileMetadata` or a refusal. The limits start anew with every file. The process ends
  after a file that HDF5 failed on, since the library may be damaged.

Whatever Keras would not write is refused with `UnsafeFileError`.
"""

from __future__ import annotations

import io
import json
import math
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mnistcli.checkpoints.checksum import (
    RESTORE_HINT,
    ChecksumState,
    split_checksum,
    verify_checksum,
)
from mnistcli.checkpoints.run_state import Array, Progress
from mnistcli.checkpoints.untrusted.protocol import (
    CALLBACK_WEIGHTS_GROUP,
    CALLBACK_WEIGHTS_PATH,
    DURATIONS,
    HISTORY_GROUP,
    MAX_FILE_BYTES,
    OPTIMIZER_GROUP,
    RECORD_GROUP,
    RUN_METADATA_FIELDS,
    ArrayHeader,
    FileContents,
    FileMetadata,
    MetricRange,
    quote,
)

MAX_OBJECTS = 2000
MAX_ATTRIBUTE_BYTES = 16 << 20
MAX_DEFLATE_RATIO = 1032  # what zlib can reach at the very most
ALLOWED_FILTERS = {"gzip": 1, "shuffle": 2, "fletcher32": 3}


STRANGE_HINT = "Keras saves no such file: get another from whoever made it"


class UnsafeFileError(Exception):
    """The file is not one that is read here."""

    def __init__(self, what: str, hint: str = STRANGE_HINT) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def walk_objects(group: h5py.Group, seen: set[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Go through every object behind hard links, and refuse every other way to reach data."""
    for name in group:
        child = open_child(group, name)
        address = h5py.h5o.get_info(child.id).addr
        if address in seen:
            raise UnsafeFileError(f"{quote(child.name)} is reached twice")
        seen.add(address)
        if len(seen) > MAX_OBJECTS:
            raise UnsafeFileError(f"more than {MAX_OBJECTS} objects")
        if isinstance(child, h5py.Group):
            yield from walk_objects(child, seen)
        elif isinstance(child, h5py.Dataset):
            check_dataset(child)
            yield child.name, child
        else:
            raise UnsafeFileError(f"{quote(child.name)} is a stored type, which no Keras file has")


def open_child(group: h5py.Group, name: str) -> Any:
    """Open what stands under a name in this very file; None where there is nothing."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        path = quote(f"{group.name.rstrip('/')}/{name}")
        kind = "a soft link" if isinstance(link, h5py.SoftLink) else "an external link"
        raise UnsafeFileError(f"{path} is {kind}, which can lead anywhere")
    return group[name]


def check_dataset(dataset: h5py.Dataset) -> None:
    """Refuse a data set that is not plain numbers inside this file, in a size that it can hold."""
    properties, owner = dataset.id.get_create_plist(), quote(dataset.name)
    if properties.get_external_count() > 0:
        raise UnsafeFileError(f"{owner} keeps its data in another file")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise UnsafeFileError(f"{owner} is a virtual data set")
    if dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > 8:
        raise UnsafeFileError(f"{owner} holds {dataset.dtype}, not plain numbers")
    if dataset.shape is None or len(dataset.shape) > 8:
        raise UnsafeFileError(f"{owner} has no usable shape")
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if unknown := set(filters) - set(ALLOWED_FILTERS.values()):
        raise UnsafeFileError(f"{owner} uses filter {min(unknown)}; only gzip is read here")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    room = stored * MAX_DEFLATE_RATIO if filters else stored
    if declared > room or declared > MAX_FILE_BYTES:
        raise UnsafeFileError(f"{owner} declares {declared} bytes and stores {stored}")


def read_text(item: h5py.Group, name: str) -> str | None:
    """Read an attribute that is one text; None where there is none."""
    attributes = item.attrs  # made anew each time that it is asked for
    if name not in attributes:
        return None
    check_attribute(attributes, item, name)
    value = attributes[name]
    if not isinstance(value, str | bytes):  # NumPy's texts are these too
        raise UnsafeFileError(f"attribute {quote(name)} of {quote(item.name)} is not a text")
    if len(value) > MAX_ATTRIBUTE_BYTES:
        raise UnsafeFileError(f"attribute {quote(name)} of {quote(item.name)} is too large")
    return bytes(value).decode("utf-8") if isinstance(value, bytes) else str(value)


def check_attribute(attributes: h5py.AttributeManager, item: h5py.Group, name: str) -> None:
    """Refuse an attribute too large to be what Keras writes."""
    attribute = attributes.get_id(name)
    if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise UnsafeFileError(f"attribute {quote(name)} of {quote(item.name)} is too large")


def read_names(group: h5py.Group, name: str) -> list[str]:
    """Read a list of names; Keras writes long ones in pieces (name0, name1, …)."""
    attributes = group.attrs
    keys = [name] if name in attributes else []
    if not keys:
        pieces = (f"{name}{i}" for i in range(MAX_OBJECTS))
        for key in pieces:
            if key not in attributes:
                break
            keys.append(key)
    names: list[str] = []
    for key in keys:
        check_attribute(attributes, group, key)
        values = np.asarray(attributes[key]).reshape(-1).tolist()
        names += [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
    if len(names) > MAX_OBJECTS or len(set(names)) < len(names):
        raise UnsafeFileError(f"{name} of {quote(group.name)} is too long or names something twice")
    return names


def list_arrays(
    file: h5py.File, datasets: dict[str, h5py.Dataset], wanted: str
) -> Iterator[tuple[ArrayHeader, h5py.Dataset]]:
    """List the arrays that were asked for, in the order in which Keras counts them."""
    if wanted != "none":
        model = file.get("model_weights")
        for layer in read_names(model, "layer_names"):
            group = file.get(f"model_weights/{layer}")
            names = read_names(group, "weight_names") if isinstance(group, h5py.Group) else []
            for name in names:
                yield find_array(datasets, f"/model_weights/{layer}/{name}", layer, name)
    if wanted == "all" and isinstance(optimizer := file.get("optimizer_weights"), h5py.Group):
        for name in read_names(optimizer, "weight_names"):
            yield find_array(datasets, f"/optimizer_weights/{name}", OPTIMIZER_GROUP, name)
    if wanted == "all" and isinstance(kept := file.get(CALLBACK_WEIGHTS_PATH), h5py.Group):
        for name in read_names(kept, "weight_names"):
            yield find_array(
                datasets, f"/{CALLBACK_WEIGHTS_PATH}/{name}", CALLBACK_WEIGHTS_GROUP, name
            )
    prefix = f"/{RECORD_GROUP}/history/"
    for path, dataset in datasets.items():
        if path.startswith(prefix):
            yield make_header(HISTORY_GROUP, path.removeprefix(prefix), dataset), dataset


def find_array(
    datasets: dict[str, h5py.Dataset], path: str, group: str, name: str
) -> tuple[ArrayHeader, h5py.Dataset]:
    """Look a named array up among those that were checked."""
    if path not in datasets:
        raise UnsafeFileError(f"{quote(path)} is named, but missing")
    return make_header(group, name, datasets[path]), datasets[path]


def make_header(group: str, name: str, dataset: h5py.Dataset) -> ArrayHeader:
    """Describe an array as it will be written: in native byte order."""
    return ArrayHeader(group, name, dataset.dtype.newbyteorder("=").str, dataset.shape)


MEMORY_BASE_BYTES = 512 << 20  # beyond what the interpreter and its libraries have mapped
MAPPED_BYTES = 2 << 30  # which is so much where the system does not tell
CPU_BASE_S = 5
CPU_BYTES_PER_S = 20 << 20  # hashing, copying and inflating together are several times faster
MAX_LINE_BYTES = 32 << 20
MAX_INFLATION = 32  # arrays may be this much larger than the file that holds them compressed,
INFLATION_BASE_BYTES = 64 << 20  # and small files of zeros even more
SIGNATURE = b"\x89HDF\r\n\x1a\n"

# What HDF5 and h5py raise over bytes of which they can make nothing.
PARSER_ERRORS = (
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
        raise UnsafeFileError(
            f"{size:,} bytes are more than the {MAX_FILE_BYTES:,} that are read here"
        )
    if size == 0:
        raise UnsafeFileError("the file is empty", RESTORE_HINT)
    return size


def read_input() -> bytes:
    """Read the file whole."""
    size = check_size(0)
    limit_resources(size, count_mapped_bytes())
    with os.fdopen(0, "rb", closefd=False) as stream:
        return stream.read()


def check_head(seal: ChecksumState, head: bytes) -> None:
    """Refuse a file that was damaged, and tell what it is where it is not HDF5."""
    if seal == "mismatch":
        raise UnsafeFileError("damaged: its contents do not match its checksum", RESTORE_HINT)
    if head == SIGNATURE:
        return
    if head.startswith(b"PK\x03\x04"):
        raise UnsafeFileError(
            "a zip archive, not an HDF5 file",
            "a .keras file becomes one with keras.models.load_model(...).save('model.h5')",
        )
    raise UnsafeFileError("not an HDF5 file", "give a .h5 file that mnistcli or Keras saved")


def open_image(data: bytes) -> h5py.File:
    """Open a file that is in memory; h5py's own function for it loses HDF5's reasons to fail."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(data)
    return h5py.File(h5py.h5f.open(b"checkpoint", h5py.h5f.ACC_RDONLY, fapl=access))


def parse(data: bytes, wanted: str) -> tuple[FileContents, list[Array]]:
    """Return what the file holds, and the arrays that were asked for."""
    _, seal = split_checksum(memoryview(data))
    check_head(seal, data[: len(SIGNATURE)])
    file = open_image(data)
    datasets = dict(walk_objects(file, {h5py.h5o.get_info(file.id).addr}))
    model_config = read_model_config(file)
    found = list(list_arrays(file, datasets, wanted))
    headers = tuple(header for header, _ in found)
    check_inflation(headers, len(data))
    contents = FileContents(
        checksum=seal,
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
        raise UnsafeFileError(
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
        raise UnsafeFileError(
            f"{file_bytes:,} bytes that claim to hold {size_bytes:,} bytes of arrays"
        )


def read_values(dataset: h5py.Dataset) -> Array:
    """Read an array, and put it in one piece in native byte order."""
    values = np.ascontiguousarray(dataset[()])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def encode_line(line: dict[str, Any]) -> bytes:
    """Return the JSON line; attributes can point to one text and multiply it."""
    encoded = json.dumps(line).encode()
    if len(encoded) > MAX_LINE_BYTES:
        raise UnsafeFileError(f"its descriptions have {len(encoded):,} bytes")
    return encoded


def explain(error: Exception) -> str:
    """Say what HDF5 finds wrong, where it says that in words for people."""
    is_cut = "truncated file" in str(error)
    return "damaged: its end is missing" if is_cut else "damaged: HDF5 cannot make sense of it"


def refuse(error: Exception) -> bytes:
    """Return the JSON line for a file that could not be read."""
    if isinstance(error, UnsafeFileError):
        what, hint = error.what, error.hint
    elif isinstance(error, MemoryError | RecursionError):
        what, hint = "reading it takes more memory than its size allows for", STRANGE_HINT
    else:
        what, hint = explain(error), RESTORE_HINT
    return json.dumps({"refused": what, "hint": hint}).encode()


def parse_one_file() -> None:
    """Parse standard input; exit 0 with a line that says what it is or why it is refused."""
    arrays: list[Array] = []
    try:
        contents, arrays = parse(read_input(), sys.argv[1])
        line = encode_line(asdict(contents))
    except (UnsafeFileError, *PARSER_ERRORS) as error:
        arrays, line = [], refuse(error)
    output = sys.stdout.buffer
    output.write(line + b"\n")
    for values in arrays:
        output.write(values.data)
    output.flush()


def read_metadata(stream: io.FileIO, mapped_bytes: int) -> FileMetadata:
    """Return what a file says of its network and its run; its arrays are left alone."""
    limit_resources(check_size(stream.fileno()), mapped_bytes)
    seal = verify_checksum(stream)
    stream.seek(0)
    check_head(seal, stream.read(len(SIGNATURE)))
    with h5py.File(stream, "r") as file:
        group = open_child(file, RECORD_GROUP)
        is_run = isinstance(group, h5py.Group)
        history = dict(read_history(group)) if is_run else {}
        durations = history.pop(DURATIONS, np.empty(0))
        return FileMetadata(
            checksum=seal,
            model_config=read_model_config(file),
            keras_version=read_text(file, "keras_version"),
            record=read_parts(group) if is_run else None,
            history={name: find_range(values) for name, values in history.items()},
            warm_epoch_s=Progress(epoch_durations_s=tuple(durations.tolist())).warm_epoch_s,
        )


def read_parts(group: h5py.Group) -> dict[str, str]:
    """Read the texts of which a `RunMetadata` consists."""
    texts = {name: read_text(group, name) for name in RUN_METADATA_FIELDS}
    return {name: text for name, text in texts.items() if text is not None}


def read_history(group: h5py.Group) -> Iterator[tuple[str, Array]]:
    """Read one number an epoch for each metric."""
    history = open_child(group, "history")
    if not isinstance(history, h5py.Group):
        return
    for name in history:
        dataset = open_child(history, name)
        if not isinstance(dataset, h5py.Dataset):
            raise UnsafeFileError("its history is not one of numbers")
        check_dataset(dataset)
        yield name, np.asarray(dataset[()], np.float64).reshape(-1)


def find_range(values: Array) -> MetricRange:
    """Return the last, the lowest and the highest of the values that are finite."""
    finite = values[np.isfinite(values)]
    last = float(values[-1]) if len(values) else math.nan
    return MetricRange(
        last=last if math.isfinite(last) else None,
        lowest=float(finite.min()) if len(finite) else None,
        highest=float(finite.max()) if len(finite) else None,
    )


def parse_files() -> None:
    """Answer for each file until no more come."""
    mapped_bytes = count_mapped_bytes()
    parent = socket.socket(fileno=0)
    is_sound = True
    while is_sound:
        _, descriptors, _, _ = socket.recv_fds(parent, 1, 1)
        if not descriptors:
            break
        with os.fdopen(descriptors[0], "rb", buffering=0) as stream:
            try:
                line = encode_line(asdict(read_metadata(stream, mapped_bytes)))
            except UnsafeFileError as error:
                line = refuse(error)
            except PARSER_ERRORS as error:
                line, is_sound = refuse(error), False
        parent.sendall(line + b"\n")
