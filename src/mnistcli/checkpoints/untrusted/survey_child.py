"""Reads the records of many HDF5 files, one after the other, in one process with limits.

Open files come through a socket, which is this process' standard input; each is answered there by
one JSON line, an `Excerpt` or a refusal. The limits of `child` hold for each file anew. A process
in which HDF5 has stumbled over a file ends, so that it answers for no other.
`mnistcli.checkpoints.untrusted.sandbox` starts it.
"""

from __future__ import annotations

import io
import math
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict

import h5py
import numpy as np

from mnistcli.checkpoints.checksum import check_seal
from mnistcli.checkpoints.run_state import Array, Progress
from mnistcli.checkpoints.untrusted.contents import DURATIONS, EXCERPT_PARTS, Excerpt, MetricRange
from mnistcli.checkpoints.untrusted.hdf5 import (
    RECORD_GROUP,
    Refused,
    check_dataset,
    open_child,
    read_text,
)
from mnistcli.checkpoints.untrusted.sandboxed_reader import (
    SIGNATURE,
    STUMBLES,
    check_head,
    check_size,
    count_mapped_bytes,
    encode_line,
    limit_resources,
    read_model_config,
    refuse,
)


def read_excerpt(stream: io.FileIO, mapped_bytes: int) -> Excerpt:
    """Return what a file says of its network and its run; its arrays are left alone."""
    limit_resources(check_size(stream.fileno()), mapped_bytes)
    seal = check_seal(stream)
    stream.seek(0)
    check_head(seal, stream.read(len(SIGNATURE)))
    with h5py.File(stream, "r") as file:
        group = open_child(file, RECORD_GROUP)
        is_run = isinstance(group, h5py.Group)
        history = dict(read_history(group)) if is_run else {}
        durations = history.pop(DURATIONS, np.empty(0))
        return Excerpt(
            seal=seal,
            model_config=read_model_config(file),
            keras_version=read_text(file, "keras_version"),
            record=read_parts(group) if is_run else None,
            history={name: find_range(values) for name, values in history.items()},
            warm_epoch_s=Progress(epoch_durations_s=tuple(durations.tolist())).warm_epoch_s,
        )


def read_parts(group: h5py.Group) -> dict[str, str]:
    """Read the texts of which a `RecordExcerpt` consists."""
    texts = {name: read_text(group, name) for name in EXCERPT_PARTS}
    return {name: text for name, text in texts.items() if text is not None}


def read_history(group: h5py.Group) -> Iterator[tuple[str, Array]]:
    """Read one number an epoch for each metric."""
    history = open_child(group, "history")
    if not isinstance(history, h5py.Group):
        return
    for name in history:
        dataset = open_child(history, name)
        if not isinstance(dataset, h5py.Dataset):
            raise Refused("its history is not one of numbers")
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


def main() -> None:
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
                line = encode_line(asdict(read_excerpt(stream, mapped_bytes)))
            except Refused as error:
                line = refuse(error)
            except STUMBLES as error:
                line, is_sound = refuse(error), False
        parent.sendall(line + b"\n")
