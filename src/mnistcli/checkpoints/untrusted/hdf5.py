"""What is allowed inside a checkpoint's HDF5 data, and where things lie in it.

Runs in the parsing child only; every function refuses with `Refused` what Keras would not write.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from mnistcli.checkpoints.untrusted.contents import (
    HISTORY_GROUP,
    KEPT_GROUP,
    MAX_FILE_BYTES,
    OPTIMIZER_GROUP,
    ArrayHeader,
)
from mnistcli.checkpoints.untrusted.protocol import show

MAX_OBJECTS = 2000
MAX_ATTRIBUTE_BYTES = 16 << 20
MAX_DEFLATE_RATIO = 1032  # what zlib can reach at the very most
ALLOWED_FILTERS = {"gzip": 1, "shuffle": 2, "fletcher32": 3}
RECORD_GROUP = "mnistcli"
KEPT_WEIGHTS = f"{RECORD_GROUP}/kept_weights"


STRANGE_HINT = "Keras saves no such file: get another from whoever made it"


class Refused(Exception):  # noqa: N818 (it crosses no room, and is no error of this program)
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
            raise Refused(f"{show(child.name)} is reached twice")
        seen.add(address)
        if len(seen) > MAX_OBJECTS:
            raise Refused(f"more than {MAX_OBJECTS} objects")
        if isinstance(child, h5py.Group):
            yield from walk_objects(child, seen)
        elif isinstance(child, h5py.Dataset):
            check_dataset(child)
            yield child.name, child
        else:
            raise Refused(f"{show(child.name)} is a stored type, which no Keras file has")


def open_child(group: h5py.Group, name: str) -> Any:
    """Open what stands under a name in this very file; None where there is nothing."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        path = show(f"{group.name.rstrip('/')}/{name}")
        kind = "a soft link" if isinstance(link, h5py.SoftLink) else "an external link"
        raise Refused(f"{path} is {kind}, which can lead anywhere")
    return group[name]


def check_dataset(dataset: h5py.Dataset) -> None:
    """Refuse a data set that is not plain numbers inside this file, in a size that it can hold."""
    properties, owner = dataset.id.get_create_plist(), show(dataset.name)
    if properties.get_external_count() > 0:
        raise Refused(f"{owner} keeps its data in another file")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise Refused(f"{owner} is a virtual data set")
    if dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > 8:
        raise Refused(f"{owner} holds {dataset.dtype}, not plain numbers")
    if dataset.shape is None or len(dataset.shape) > 8:
        raise Refused(f"{owner} has no usable shape")
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if unknown := set(filters) - set(ALLOWED_FILTERS.values()):
        raise Refused(f"{owner} uses filter {min(unknown)}; only gzip is read here")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    room = stored * MAX_DEFLATE_RATIO if filters else stored
    if declared > room or declared > MAX_FILE_BYTES:
        raise Refused(f"{owner} declares {declared} bytes and stores {stored}")


def read_text(item: h5py.Group, name: str) -> str | None:
    """Read an attribute that is one text; None where there is none."""
    attributes = item.attrs  # made anew each time that it is asked for
    if name not in attributes:
        return None
    check_attribute(attributes, item, name)
    value = attributes[name]
    if not isinstance(value, str | bytes):  # NumPy's texts are these too
        raise Refused(f"attribute {show(name)} of {show(item.name)} is not a text")
    if len(value) > MAX_ATTRIBUTE_BYTES:
        raise Refused(f"attribute {show(name)} of {show(item.name)} is too large")
    return bytes(value).decode("utf-8") if isinstance(value, bytes) else str(value)


def check_attribute(attributes: h5py.AttributeManager, item: h5py.Group, name: str) -> None:
    """Refuse an attribute too large to be what Keras writes."""
    attribute = attributes.get_id(name)
    if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise Refused(f"attribute {show(name)} of {show(item.name)} is too large")


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
        raise Refused(f"{name} of {show(group.name)} is too long or names something twice")
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
    if wanted == "all" and isinstance(kept := file.get(KEPT_WEIGHTS), h5py.Group):
        for name in read_names(kept, "weight_names"):
            yield find_array(datasets, f"/{KEPT_WEIGHTS}/{name}", KEPT_GROUP, name)
    prefix = f"/{RECORD_GROUP}/history/"
    for path, dataset in datasets.items():
        if path.startswith(prefix):
            yield make_header(HISTORY_GROUP, path.removeprefix(prefix), dataset), dataset


def find_array(
    datasets: dict[str, h5py.Dataset], path: str, group: str, name: str
) -> tuple[ArrayHeader, h5py.Dataset]:
    """Look a named array up among those that were checked."""
    if path not in datasets:
        raise Refused(f"{show(path)} is named, but missing")
    return make_header(group, name, datasets[path]), datasets[path]


def make_header(group: str, name: str, dataset: h5py.Dataset) -> ArrayHeader:
    """Describe an array as it will be written: in native byte order."""
    return ArrayHeader(group, name, dataset.dtype.newbyteorder("=").str, dataset.shape)
