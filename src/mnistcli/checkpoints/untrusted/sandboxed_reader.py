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
from collections.abc import Iterator, Mapping, Sequence
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
    Shapes,
    leaves_input_open,
    measure_range,
    quote,
)
from mnistcli.file_kinds import CHECKPOINT_HINT, HDF5_SIGNATURE, NOT_HDF5

MAX_OBJECTS = 2000
MAX_ATTRIBUTE_BYTES = 16 << 20
MAX_LINE_BYTES = 32 << 20
MAX_DEFLATE_RATIO = 1032  # the most that zlib can reach
# Arrays may be this much larger than a file that holds them compressed, and small files of zeros
# even more.
MAX_INFLATION = 32
INFLATION_BASE_BYTES = 64 << 20
MEMORY_BASE_BYTES = 512 << 20  # in addition to what the interpreter and its libraries have mapped
MAPPED_BYTES = 2 << 30  # by them, where the system does not tell
CPU_BASE_S = 5
CPU_BYTES_PER_S = 20 << 20  # hashing, copying and inflating together are several times faster
ALLOWED_FILTERS = {"gzip": 1, "shuffle": 2, "fletcher32": 3}
MAX_SHOWN_ARRAYS = 6
_WEIGHT_GROUPS = (  # at the top of files of Keras' that hold weights alone
    "model_weights",
    "layers",
    "_layer_checkpoint_dependencies",
    "layer_names0",
    "top_level_model_weights",
)
UNKNOWN_FILE_HINT = "Keras saves no such file: get another from whoever made it"

# What HDF5 and h5py raise for invalid bytes.
PARSER_ERRORS = (
    MemoryError, RecursionError,
    OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError,
)  # fmt: skip


class UnsafeFileError(Exception):
    """The file is not one that Keras or mnistcli writes, or is too large."""

    def __init__(self, what: str, hint: str = UNKNOWN_FILE_HINT) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def parse_one_file() -> None:
    """Write the contents of the file on standard input, or why it is refused; exit with 0."""
    arrays: list[Array] = []
    try:
        contents, arrays = _parse(_read_input(), sys.argv[1])
        line = _encode_line(asdict(contents))
    except (UnsafeFileError, *PARSER_ERRORS) as error:
        arrays, line = [], _encode_refusal(error, 0)
    with open(1, "wb", closefd=False) as output:
        output.write(line + b"\n")
        for values in arrays:
            output.write(values.data)


def parse_files() -> None:
    """Answer each file that comes through the socket on standard input, until it is closed."""
    mapped_bytes = _count_mapped_bytes()
    parent = socket.socket(fileno=0)
    is_usable = True
    while is_usable:
        _, descriptors, _, _ = socket.recv_fds(parent, 1, 1)
        if not descriptors:
            break
        with os.fdopen(descriptors[0], "rb", buffering=0) as stream:
            try:
                line = _encode_line(asdict(read_metadata(stream, mapped_bytes)))
            except UnsafeFileError as error:
                line = _encode_refusal(error, stream.fileno())
            except PARSER_ERRORS as error:
                line, is_usable = _encode_refusal(error, stream.fileno()), False
        parent.sendall(line + b"\n")


def read_metadata(stream: io.FileIO, mapped_bytes: int) -> FileMetadata:
    """Return what a file says of its network and its run, without its arrays.

    Args:
        stream: the open file, unbuffered.
        mapped_bytes: address space of this process before the first file.
    """
    _limit_resources(_check_size(stream.fileno()), mapped_bytes)
    checksum = verify_checksum(stream)
    stream.seek(0)
    _check_head(checksum, stream.read(len(HDF5_SIGNATURE)))
    with h5py.File(stream, "r") as file:
        group = _open_child(file, RECORD_GROUP)
        is_run = isinstance(group, h5py.Group)
        history = dict(_read_history(group)) if is_run else {}
        durations_s = tuple(history.get(DURATIONS, np.empty(0)).tolist())
        record = _read_run_metadata(group) if is_run else None
        best_epoch = _find_best_epoch(record) if record is not None else None
        model_config = _read_model_config(file)
        return FileMetadata(
            checksum=checksum,
            model_config=model_config,
            keras_version=_read_text(file, "keras_version"),
            record=record,
            weight_shapes=_list_weight_shapes(file) if leaves_input_open(model_config) else {},
            history={name: measure_range(v, best_epoch) for name, v in history.items()},
            warm_epoch_s=Progress(epoch_durations_s=durations_s).warm_epoch_s,
        )


def _parse(data: bytes, selection: str) -> tuple[FileContents, list[Array]]:
    _, checksum = split_checksum(memoryview(data))
    _check_head(checksum, data[: len(HDF5_SIGNATURE)])
    file = _open_image(data)
    datasets = dict(_walk_objects(file, {h5py.h5o.get_info(file.id).addr}))
    model_config = _read_model_config(file)
    found = list(_select_arrays(file, datasets, selection))
    headers = tuple(header for header, _ in found)
    _check_inflation(headers, len(data))
    contents = FileContents(
        checksum=checksum,
        model_config=model_config,
        training_config=_read_text(file, "training_config"),
        keras_version=_read_text(file, "keras_version"),
        record=_read_record(file),
        weight_shapes=_list_weight_shapes(file),
        arrays=headers,
    )
    return contents, [_read_values(dataset) for _, dataset in found]


def _read_input() -> bytes:
    size = _check_size(0)
    _limit_resources(size, _count_mapped_bytes())
    with os.fdopen(0, "rb", closefd=False) as stream:
        return stream.read()


def _check_size(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    if size > MAX_FILE_BYTES:
        raise UnsafeFileError(
            f"{size:,} bytes are more than the {MAX_FILE_BYTES:,} that are read here"
        )
    if size == 0:
        raise UnsafeFileError("the file is empty", RESTORE_HINT)
    return size


def _limit_resources(file_bytes: int, mapped_bytes: int) -> None:
    """Limit memory and processor time for reading the next file, where the system can.

    Args:
        file_bytes: size of the file.
        mapped_bytes: address space of this process before the first file.
    """
    try:
        import resource
    except ImportError:  # Windows: only the parent's time limit holds
        return
    memory = mapped_bytes + MEMORY_BASE_BYTES + 4 * file_bytes
    processor_s = math.ceil(time.process_time()) + CPU_BASE_S + file_bytes // CPU_BYTES_PER_S
    limits = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, processor_s))
    for kind, limit in (*limits, (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError, OSError):  # macOS knows RLIMIT_AS, and refuses to set it
            resource.setrlimit(kind, (bound, hard))


def _count_mapped_bytes() -> int:
    """Return the size of this process' address space."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return MAPPED_BYTES
    return pages * os.sysconf("SC_PAGESIZE")


def _check_head(checksum: ChecksumState, head: bytes) -> None:
    """Refuse a file with a wrong checksum, or one that is not HDF5."""
    if checksum == "mismatch":
        raise UnsafeFileError("damaged: its contents do not match its checksum", RESTORE_HINT)
    if head != HDF5_SIGNATURE:
        raise UnsafeFileError(NOT_HDF5, CHECKPOINT_HINT)


def _open_image(data: bytes) -> h5py.File:
    # h5py's own function for files in memory loses HDF5's messages.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(data)
    return h5py.File(h5py.h5f.open(b"checkpoint", h5py.h5f.ACC_RDONLY, fapl=access))


def _walk_objects(group: h5py.Group, seen: set[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every data set under its path; other links than hard ones are refused."""
    for name in group:
        child = _open_child(group, name)
        address = h5py.h5o.get_info(child.id).addr
        if address in seen:
            raise UnsafeFileError(f"{quote(child.name)} is reached twice")
        seen.add(address)
        if len(seen) > MAX_OBJECTS:
            raise UnsafeFileError(f"more than {MAX_OBJECTS} objects")
        if isinstance(child, h5py.Group):
            yield from _walk_objects(child, seen)
        elif isinstance(child, h5py.Dataset):
            _check_dataset(child)
            yield child.name, child
        else:
            raise UnsafeFileError(f"{quote(child.name)} is a stored type, which no Keras file has")


def _open_child(group: h5py.Group, name: str) -> Any:
    """Return the group or data set of a name in this file; None if there is none."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        path = quote(f"{group.name.rstrip('/')}/{name}")
        kind = "a soft link" if isinstance(link, h5py.SoftLink) else "an external link"
        raise UnsafeFileError(f"{path} is {kind}, which can lead anywhere")
    return group[name]


def _check_dataset(dataset: h5py.Dataset) -> None:
    """Refuse a data set unless it is of plain numbers, in this file, and of a plausible size."""
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


def _check_attribute(attributes: h5py.AttributeManager, item: h5py.Group, name: str) -> None:
    """Refuse an attribute that is larger than any of Keras'."""
    attribute = attributes.get_id(name)
    if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise UnsafeFileError(f"attribute {quote(name)} of {quote(item.name)} is too large")


def _read_text(item: h5py.Group, name: str) -> str | None:
    """Return an attribute that is a text; None if there is none."""
    attributes = item.attrs  # h5py makes a new object at each access
    if name not in attributes:
        return None
    _check_attribute(attributes, item, name)
    value = attributes[name]
    if not isinstance(value, str | bytes):  # NumPy's types of texts are subclasses
        raise UnsafeFileError(f"attribute {quote(name)} of {quote(item.name)} is not a text")
    if len(value) > MAX_ATTRIBUTE_BYTES:
        raise UnsafeFileError(f"attribute {quote(name)} of {quote(item.name)} is too large")
    return bytes(value).decode("utf-8") if isinstance(value, bytes) else str(value)


def _read_names(group: h5py.Group, name: str) -> list[str]:
    """Return a list of names, which Keras may have split into several (name0, name1, …)."""
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
        _check_attribute(attributes, group, key)
        values = np.asarray(attributes[key]).reshape(-1).tolist()
        names += [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
    if len(names) > MAX_OBJECTS or len(set(names)) < len(names):
        raise UnsafeFileError(f"{name} of {quote(group.name)} is too long or names something twice")
    if outside := next((text for text in names if text.startswith("/")), None):
        raise UnsafeFileError(
            f"{name} of {quote(group.name)} holds {quote(outside)}, which is no name"
        )
    return names


def _read_model_config(file: h5py.File) -> str:
    """Return Keras' description of the network."""
    text = _read_text(file, "model_config")
    if text is None or not isinstance(_open_child(file, "model_weights"), h5py.Group):
        raise _make_no_network_error(file)
    version = _read_text(file, "keras_version") or ""
    if version.startswith("1."):
        what = f"saved by Keras {quote(version)[1:-1]}, whose layers have other settings"
        raise UnsafeFileError(what, "load it in Keras 2.2, and save it: model.save('model.h5')")
    return text


def _make_no_network_error(file: h5py.File) -> UnsafeFileError:
    """Return the error for weights alone, or for other data, that names some of the arrays."""
    found: list[str] = []
    with suppress(UnsafeFileError):  # what was found until then is named
        for path, dataset in _walk_objects(file, {h5py.h5o.get_info(file.id).addr}):
            found.append(f"{quote(path.removeprefix('/'))[1:-1]} {dataset.shape}")
    shown = ", ".join([*found[:MAX_SHOWN_ARRAYS], *["…"][: len(found) - MAX_SHOWN_ARRAYS]])
    is_weights = "layer_names" in file.attrs or any(name in file for name in _WEIGHT_GROUPS)
    if is_weights:
        what = f"weights without their network: {shown or 'no arrays'}"
        hint = "build the network, model.load_weights(…) and model.save('model.h5') in Keras"
        return UnsafeFileError(what, hint)
    what = f"no Keras network: it holds {shown or 'no arrays'}"
    return UnsafeFileError(what, "save the whole model with model.save('model.h5')")


def _list_weight_shapes(file: h5py.File) -> dict[str, Shapes]:
    """Return the shapes of the arrays of each layer that has any."""
    model = _open_child(file, "model_weights")
    groups = {name: _open_path(model, name) for name in _read_names(model, "layer_names")}
    shapes = {k: tuple(_iter_shapes(g)) for k, g in groups.items() if isinstance(g, h5py.Group)}
    return {name: of_layer for name, of_layer in shapes.items() if of_layer}


def _iter_shapes(group: h5py.Group) -> Iterator[tuple[int, ...]]:
    for name in _read_names(group, "weight_names"):
        dataset = _open_path(group, name)
        yield (dataset.shape or ()) if isinstance(dataset, h5py.Dataset) else ()


def _open_path(group: h5py.Group, path: str) -> Any:
    """Return what a path of names leads to; None if there is no such thing."""
    item: Any = group
    for name in path.split("/"):
        item = _open_child(item, name) if isinstance(item, h5py.Group) else None
    return item


def _read_record(file: h5py.File) -> dict[str, str] | None:
    """Return the JSON texts of a `Record`; None without a group `/mnistcli`."""
    group = _open_child(file, RECORD_GROUP)
    if not isinstance(group, h5py.Group):
        return None
    return {name: _read_text(group, name) or "" for name in group.attrs}


def _read_run_metadata(group: h5py.Group) -> dict[str, str]:
    """Return the JSON texts of a `RunMetadata`."""
    texts = {name: _read_text(group, name) for name in RUN_METADATA_FIELDS}
    return {name: text for name, text in texts.items() if text is not None}


def _read_history(group: h5py.Group) -> Iterator[tuple[str, Array]]:
    """Yield the values of each metric, one for each epoch."""
    history = _open_child(group, "history")
    if not isinstance(history, h5py.Group):
        return
    for name in history:
        dataset = _open_child(history, name)
        if not isinstance(dataset, h5py.Dataset):
            raise UnsafeFileError("its history is not one of numbers")
        _check_dataset(dataset)
        yield name, np.asarray(dataset[()], np.float64).reshape(-1)


def _find_best_epoch(record: Mapping[str, str]) -> int | None:
    """Return the best epoch of early stopping, from 0; None without.

    The receiver refuses a record that says it wrongly.
    """
    try:
        state = json.loads(record.get("early_stopping") or "null")
    except (ValueError, RecursionError):
        return None
    best_epoch = state.get("best_epoch") if isinstance(state, dict) else None
    return best_epoch if type(best_epoch) is int else None


def _select_arrays(
    file: h5py.File, datasets: dict[str, h5py.Dataset], selection: str
) -> Iterator[tuple[ArrayHeader, h5py.Dataset]]:
    """Yield the requested arrays, each layer's in Keras' order."""
    if selection != "none":
        model = file.get("model_weights")
        for layer in _read_names(model, "layer_names"):
            group = file.get(f"model_weights/{layer}")
            names = _read_names(group, "weight_names") if isinstance(group, h5py.Group) else []
            for name in names:
                yield _find_array(datasets, f"/model_weights/{layer}/{name}", layer, name)
    if selection == "all" and isinstance(optimizer := file.get("optimizer_weights"), h5py.Group):
        for name in _read_names(optimizer, "weight_names"):
            yield _find_array(datasets, f"/optimizer_weights/{name}", OPTIMIZER_GROUP, name)
    if selection == "all" and isinstance(weights := file.get(CALLBACK_WEIGHTS_PATH), h5py.Group):
        for name in _read_names(weights, "weight_names"):
            yield _find_array(
                datasets, f"/{CALLBACK_WEIGHTS_PATH}/{name}", CALLBACK_WEIGHTS_GROUP, name
            )
    prefix = f"/{RECORD_GROUP}/history/"
    for path, dataset in datasets.items():
        if path.startswith(prefix):
            yield _make_header(HISTORY_GROUP, path.removeprefix(prefix), dataset), dataset


def _find_array(
    datasets: dict[str, h5py.Dataset], path: str, group: str, name: str
) -> tuple[ArrayHeader, h5py.Dataset]:
    """Look an array up among the data sets that were checked."""
    if path not in datasets:
        raise UnsafeFileError(f"{quote(path)} is named, but missing")
    return _make_header(group, name, datasets[path]), datasets[path]


def _make_header(group: str, name: str, dataset: h5py.Dataset) -> ArrayHeader:
    """Describe an array as it will be sent, in native byte order."""
    return ArrayHeader(group, name, dataset.dtype.newbyteorder("=").str, dataset.shape)


def _check_inflation(headers: Sequence[ArrayHeader], file_bytes: int) -> None:
    """Refuse arrays that together are out of proportion to the file, to bound memory."""
    size_bytes = sum(header.size_bytes for header in headers)
    if size_bytes > INFLATION_BASE_BYTES + MAX_INFLATION * file_bytes:
        raise UnsafeFileError(
            f"{file_bytes:,} bytes that claim to hold {size_bytes:,} bytes of arrays"
        )


def _read_values(dataset: h5py.Dataset) -> Array:
    values = np.ascontiguousarray(dataset[()])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _encode_line(line: dict[str, Any]) -> bytes:
    # Attributes can share one stored text, and so make the line larger than the file.
    encoded = json.dumps(line).encode()
    if len(encoded) > MAX_LINE_BYTES:
        raise UnsafeFileError(f"its descriptions have {len(encoded):,} bytes")
    return encoded


def _encode_refusal(error: Exception, descriptor: int) -> bytes:
    """Return the JSON line for an open file that was refused or could not be read."""
    if _is_locked(descriptor):
        what, hint = "another program has it open for writing", "wait until that has closed it"
    elif isinstance(error, UnsafeFileError):
        what, hint = error.what, error.hint
    elif isinstance(error, MemoryError | RecursionError):
        what, hint = "reading it takes more memory than its size allows for", UNKNOWN_FILE_HINT
    else:
        what, hint = _describe_error(error)
    return json.dumps({"refused": what, "hint": hint}).encode()


def _describe_error(error: Exception) -> tuple[str, str]:
    """Return what HDF5 finds wrong, in words for users, and what to do about it."""
    if "already open for" in str(error):  # a mark that a program sets, and removes at the end
        return "open for writing in another program, or left so by one that was killed", (
            "close it there; after a kill, remove HDF5's mark with h5clear -s"
        )
    if "truncated file" in str(error):
        hint = f"wait if it is still being copied; otherwise {RESTORE_HINT}"
        return "damaged: its end is missing", hint
    return "damaged: HDF5 cannot make sense of it", RESTORE_HINT


def _is_locked(descriptor: int) -> bool:
    """Return whether another program has locked a file, as HDF5 does while it writes."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False
