"""Malicious files: each is refused with its reason, and no code in it is ever run.

They are opened where neither Keras nor h5py can be imported: only the child may touch them.
"""

from __future__ import annotations

import copy
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.checkpoints import (
    describe_dense,
    draw_dense,
    seal,
    write_dense,
    write_model,
    write_names,
)
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.errors import CheckpointError

KERNEL = "model_weights/dense/dense/kernel"
BIAS = "model_weights/dense/dense/bias"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file, yet."""
    return write_dense(tmp_path / "model.h5")


def refuse(path: Path) -> str:
    """Return the reason for which the file is refused, in one printable line."""
    with pytest.MonkeyPatch.context() as patch:
        for library in ("keras", "tensorflow", "h5py"):
            patch.setitem(sys.modules, library, None)
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path, "all")
    line = str(caught.value)
    assert line.startswith(f"{path}: {caught.value.what}")
    assert line.isprintable()
    assert len(line) < 600
    return caught.value.what


def replace_kernel(file: h5py.File, **arguments: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, **arguments)


def add_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 3))
    file.create_virtual_dataset("x", layout)


def add_groups(file: h5py.File) -> None:
    for number in range(2001):
        file.create_group(f"groups/{number}")


def nest_groups(file: h5py.File) -> None:
    file.create_group("/".join("x" * 1500))


def name_weight(file: h5py.File, name: str) -> None:
    write_names(file["model_weights/dense"], "weight_names", ["dense/kernel", name])


def rename_layer(file: h5py.File, name: str) -> None:
    write_names(file["model_weights"], "layer_names", [name])


def add_type(file: h5py.File) -> None:
    file["type"] = np.dtype("f4")


def link(path: str, target: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[path] = target(file)

    return edit


def add(**arguments: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.create_dataset("x", **arguments) and None


NO_ARRAYS = "the file holds arrays of no layer, its network has weights in 1 layer ('dense')"
STRUCTURES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "external link": (
        link("model_weights/evil", lambda _: h5py.ExternalLink("/etc/passwd", "/")),
        "'/model_weights/evil' is an external link, which can lead anywhere",
    ),
    "soft link": (
        link("evil", lambda _: h5py.SoftLink("/model_weights")),
        "'/evil' is a soft link, which can lead anywhere",
    ),
    "external storage": (
        add(shape=(4, 3), dtype="f4", external=[("/etc/passwd", 0, 48)]),
        "'/x' keeps its data in another file",
    ),
    "virtual data set": (add_virtual, "'/x' is a virtual data set"),
    "data set reached twice": (
        link("x", lambda file: file[KERNEL]),
        "'/x' is reached twice",
    ),
    "group within itself": (
        link("model_weights/dense/loop", lambda file: file["model_weights"]),
        "'/model_weights/dense/loop' is reached twice",
    ),
    "root within itself": (link("a", lambda file: file["/"]), "'/a' is reached twice"),
    "too many objects": (add_groups, "more than 2000 objects"),
    "too deep": (nest_groups, "reading it takes more memory than its size allows for"),
    "stored type": (add_type, "'/type' is a stored type, which no Keras file has"),
    "huge and never written, in chunks": (
        add(shape=(10**9,), dtype="f4", chunks=(1000,)),
        "'/x' declares 4000000000 bytes and stores 0",
    ),
    "huge and never written, in one piece": (
        add(shape=(10**6, 10**6, 10**6), dtype="f8"),
        "'/x' declares 8000000000000000000 bytes and stores 0",
    ),
    "huge and filled by a default": (
        add(shape=(10**9,), dtype="f4", chunks=(1000,), compression="gzip", fillvalue=7),
        "'/x' declares 4000000000 bytes and stores 0",
    ),
    "no shape": (add(dtype="f4", data=h5py.Empty("f4")), "'/x' has no usable shape"),
    "nine axes": (add(shape=(1,) * 9, dtype="f4"), "'/x' has no usable shape"),
    "bytes": (add(data=np.array([b"abc"])), "'/x' holds |S3, not plain numbers"),
    "texts": (add(data="text"), "'/x' holds object, not plain numbers"),
    "reference": (
        add(shape=(1,), dtype=h5py.ref_dtype),
        "'/x' holds object, not plain numbers",
    ),
    "compound": (
        add(shape=(1,), dtype=np.dtype("f4,i4")),
        "'/x' holds [('f0', '<f4'), ('f1', '<i4')], not plain numbers",
    ),
    "complex": (add(shape=(1,), dtype="c8"), "'/x' holds complex64, not plain numbers"),
    "bool": (add(shape=(1,), dtype="?"), "'/x' holds bool, not plain numbers"),
    "opaque": (add(shape=(1,), dtype="V8"), "'/x' holds |V8, not plain numbers"),
    "extended precision": (
        add(shape=(1,), dtype=np.longdouble),
        f"'/x' holds {np.dtype(np.longdouble)}, not plain numbers",
    ),
    "lzf": (
        add(data=np.zeros(100), compression="lzf"),
        "'/x' uses filter 32000; only gzip is read here",
    ),
    "scale-offset": (
        add(data=np.zeros(100, "i4"), scaleoffset=4),
        "'/x' uses filter 6; only gzip is read here",
    ),
    "weight that is not there": (
        lambda file: name_weight(file, "dense/secret"),
        "'/model_weights/dense/dense/secret' is named, but missing",
    ),
    "weight in another place": (
        lambda file: name_weight(file, "../../optimizer_weights/x"),
        "'/model_weights/dense/../../optimizer_weights/x' is named, but missing",
    ),
    "weight that is a group": (
        lambda file: name_weight(file, "dense"),
        "'/model_weights/dense/dense' is named, but missing",
    ),
    "weight named with an escape sequence": (
        lambda file: name_weight(file, "\x1b[2J\n"),
        r"'/model_weights/dense/\x1b[2J\n' is named, but missing",
    ),
    "weight named twice": (
        lambda file: name_weight(file, "dense/kernel"),
        "weight_names of '/model_weights/dense' is too long or names something twice",
    ),
    "layer named with NUL": (
        lambda file: rename_layer(file, "a\0b"),
        NO_ARRAYS,
    ),
    "layer not there": (
        lambda file: rename_layer(file, "elsewhere"),
        NO_ARRAYS,
    ),
    "layer named as the place itself": (
        lambda file: rename_layer(file, "."),
        "damaged: HDF5 cannot make sense of it",
    ),
    "layer named by a path from the root": (
        lambda file: rename_layer(file, "/optimizer"),
        "layer_names of '/model_weights' holds '/optimizer', which is no name",
    ),
    "no layers at all": (
        lambda file: rename_layer(file, ""),
        NO_ARRAYS,
    ),
    "no list of layers": (
        lambda file: file["model_weights"].attrs.clear(),
        NO_ARRAYS,
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_that_keras_does_not_write(path: Path, name: str) -> None:
    edit, reason = STRUCTURES[name]
    with h5py.File(path, "r+") as file:
        edit(file)
    assert refuse(path) == reason


@pytest.mark.parametrize("name", ["external link", "bytes", "weight that is not there"])
def test_a_seal_changes_nothing(path: Path, name: str) -> None:
    edit, reason = STRUCTURES[name]
    with h5py.File(path, "r+") as file:
        edit(file)
    seal(path)
    assert refuse(path) == reason


def fill_kernel(value: float, dtype: str = "f4") -> Callable[[h5py.File], None]:
    values = np.zeros((4, 3), dtype)
    values[2, 1] = value
    return lambda file: replace_kernel(file, data=values)


NOT_FINITE = "'dense/kernel' holds numbers that are not finite"
WEIGHTS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "NaN": (fill_kernel(float("nan")), NOT_FINITE),
    "infinite": (fill_kernel(float("-inf"), "f2"), NOT_FINITE),
    "beyond single precision": (fill_kernel(1e300, "f8"), NOT_FINITE),
    "integers": (fill_kernel(1, "i4"), "'dense/kernel' holds integers, not weights"),
    "transposed": (
        lambda file: replace_kernel(file, data=np.zeros((3, 4), "f4")),
        "layer dense needs arrays of shapes (4, 3), (3,), the file holds (3, 4), (3,)",
    ),
    "scalar": (
        lambda file: replace_kernel(file, data=np.float32(0)),
        "layer dense needs arrays of shapes (4, 3), (3,), the file holds (), (3,)",
    ),
    "empty": (
        lambda file: replace_kernel(file, shape=(0, 3), dtype="f4"),
        "layer dense needs arrays of shapes (4, 3), (3,), the file holds (0, 3), (3,)",
    ),
    "one too few": (
        lambda file: write_names(file["model_weights/dense"], "weight_names", ["dense/kernel"]),
        "layer dense needs arrays of shapes (4, 3), (3,), the file holds (4, 3)",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_those_of_the_network(path: Path, name: str) -> None:
    edit, reason = WEIGHTS[name]
    with h5py.File(path, "r+") as file:
        edit(file)
    assert refuse(path) == reason


def test_weights_of_a_layer_that_the_network_does_not_have(tmp_path: Path) -> None:
    weights = {**draw_dense(4, 3), "\x1bx": {"w": np.zeros(1, np.float32)}}
    path = write_model(tmp_path / "model.h5", describe_dense(4, 3), weights)
    what = (
        r"the file holds arrays of 2 layers ('dense', '\x1bx'), its network has weights in 1 layer"
        " ('dense')"
    )
    assert refuse(path) == what


def test_many_weights_of_one_layer_make_a_short_message(tmp_path: Path) -> None:
    weights = {"dense": {str(n): np.zeros(1, np.float32) for n in range(1500)}}
    path = write_model(tmp_path / "model.h5", describe_dense(4, 3), weights)
    assert refuse(path) == (
        "layer dense needs arrays of shapes (4, 3), (3,), the file holds (1,), (1,), (1,), (1,), …"
    )


def edit_layer(**changes: object) -> dict[str, Any]:
    """The usual network with something else about its layer."""
    config = copy.deepcopy(describe_dense(4, 3))
    layer = config["config"]["layers"][1]
    settings = changes.pop("config", {})
    layer["config"].update(settings)
    layer.update(changes)
    return config


FUNCTION = ["4wEAAAAAAAAAAAAAAAEAAAACAAAAAw==", None, None]
CODE = {"class_name": "__lambda__", "config": {"code": FUNCTION}}
MODEL_CONFIGS: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "model_config is not valid JSON"),
    "empty": ("", "model_config is not valid JSON"),
    "nested": ("[" * 100_000, "model_config is nested too deeply"),
    "long": (" " * 4_000_001, "model_config has 4,000,001 characters, at most 4,000,000 are read"),
    "huge": (" " * (16_777_217), "attribute 'model_config' of '/' is too large"),
    "integer": (7, "attribute 'model_config' of '/' is not a text"),
    "numbers": (np.zeros(9), "attribute 'model_config' of '/' is not a text"),
    "list of texts": (["{}", "{}"], "attribute 'model_config' of '/' is not a text"),
    "nothing": (h5py.Empty("f4"), "attribute 'model_config' of '/' is not a text"),
    "no UTF-8": (np.bytes_(b"\xff\xfe"), "damaged: HDF5 cannot make sense of it"),
    "a Lambda": (
        edit_layer(class_name="Lambda", config={"function": CODE}),
        "layer 2 'dense' (Lambda): a Lambda layer is code, and no code from a checkpoint is run",
    ),
    "a function as activation": (
        edit_layer(config={"activation": CODE}),
        "layer 2 'dense' (Dense): the activation a mapping is not supported",
    ),
    "a registered object": (
        edit_layer(registered_name="evil>Dense"),
        "layer 2 'dense' (Dense): it is a custom layer, not one of Keras' own",
    ),
    "another module": (
        edit_layer(module="os"),
        "layer 2 'dense' (Dense): it is a custom layer, not one of Keras' own",
    ),
    "an unknown class": (
        edit_layer(class_name="os.system"),
        "layer 2 'dense' (os.system): this kind of layer is not supported",
    ),
    "10^9 units": (
        edit_layer(config={"units": 10**9}),
        "layer 2 'dense' (Dense): units must be an integer from 1 to 65,536, received 1000000000",
    ),
    "true units": (
        edit_layer(config={"units": True}),
        "layer 2 'dense' (Dense): units must be an integer from 1 to 65,536, received true",
    ),
    "a name of no text": (
        edit_layer(config={"name": ["dense"]}),
        "layer 2 (Dense): its name must be a text of 1 to 1,000 characters, received a list",
    ),
    "a name without an end": (
        edit_layer(config={"name": "d" * 1001}),
        f"layer 2 '{'d' * 59}… (Dense): its name must be a text of 1 to 1,000 characters, received"
        f" '{'d' * 59}…",
    ),
}


@pytest.mark.parametrize("name", MODEL_CONFIGS)
def test_a_network_that_is_no_plain_sequential(path: Path, name: str) -> None:
    model_config, reason = MODEL_CONFIGS[name]
    with h5py.File(path, "r+") as file:
        text = json.dumps(model_config) if isinstance(model_config, dict) else model_config
        file.attrs["model_config"] = text
    assert refuse(path) == reason


def test_no_network_at_all(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    assert refuse(path).startswith("weights without their network: model_weights/dense/")


def test_a_training_config_that_is_no_text(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = 7
    assert refuse(path) == "attribute 'training_config' of '/' is not a text"


def test_a_zipped_hdf5_file_is_a_zip(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + path.read_bytes())
    assert refuse(path) == "is a zip archive, not an HDF5 file"


def write_zeros(file: h5py.File, name: str, chunk_count: int) -> None:
    """Zeros, 16 MiB a chunk, compressed a thousandfold; written without being made."""
    chunk = 1 << 22
    dataset = file.create_dataset(
        name, (chunk_count * chunk,), "f4", chunks=(chunk,), compression="gzip"
    )
    compressed = zlib.compress(bytes(4 * chunk), 9)
    for number in range(chunk_count):
        dataset.id.write_direct_chunk((number * chunk,), compressed)


def test_a_compression_bomb(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file[KERNEL]
        write_zeros(file, KERNEL, 64)
    size = path.stat().st_size
    begin = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert caught.value.what == f"{size:,} bytes that claim to hold 1,073,741,836 bytes of arrays"
    assert time.monotonic() - begin < 5


def test_a_compression_bomb_in_pieces(path: Path) -> None:
    names = [f"piece_{number}" for number in range(8)]
    with h5py.File(path, "r+") as file:
        for name in names:
            write_zeros(file, f"model_weights/dense/{name}", 1)
        write_names(file["model_weights/dense"], "weight_names", names)
    assert "bytes that claim to hold 134,217,728 bytes of arrays" in refuse(path)


def test_a_bomb_in_an_array_that_nobody_needs_is_never_lit(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        write_zeros(file, "unused", 64)
    assert len(read_checkpoint(path, "all").weights) == 2


def test_a_chunk_that_inflates_beyond_its_size(path: Path) -> None:
    stream = zlib.compressobj(9)
    begin = stream.compress(b"0") + stream.flush(zlib.Z_FULL_FLUSH)
    zeros = stream.compress(bytes(1 << 24)) + stream.flush(zlib.Z_FULL_FLUSH)  # can be repeated
    with h5py.File(path, "r+") as file:
        del file[KERNEL]
        dataset = file.create_dataset(
            KERNEL, (4, 3), "f4", chunks=(1024, 256), maxshape=(None, None), compression="gzip"
        )
        dataset.id.write_direct_chunk((0, 0), begin + zeros * 256)
    assert refuse(path) == "damaged: HDF5 cannot make sense of it"


def test_texts_that_multiply(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "model.h5")
    with h5py.File(path, "r+", libver="latest") as file:
        group = file.create_group("mnistcli")
        for number in range(40):
            group.attrs[f"part_{number}"] = " " * 1_000_000
    assert refuse(path).startswith("its descriptions have 40,")


@pytest.mark.parametrize("place", ["in the attribute", "in the heap"])
@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 10**6])
def test_a_text_that_claims_another_length(path: Path, place: str, length: int) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = " " * 123_457
    data, true = path.read_bytes(), struct.pack("<I", 123_457)
    first, second = data.index(true), data.rindex(true)
    assert first != second
    at = first if place == "in the attribute" else second
    path.write_bytes(data[:at] + struct.pack("<I", length) + data[at + 4 :])
    assert refuse(path) == "damaged: HDF5 cannot make sense of it"
