"""Property tests: a damaged data file is read as a data set or refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.dataset_files import ARRAYS, IDX_NAMES, npy_header, replace_member, write_idx
from mnistcli.datasets.base import Dataset
from mnistcli.datasets.mnist import read_dataset
from mnistcli.errors import DataError

BOTH = frozenset({"train", "test"})

anytime = settings(  # a busy machine is no failure; every example writes its own file
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
flips = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)
cuts = st.none() | st.integers(0, 2**14)


def make_npz(*, compressed: bool) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **ARRAYS)
    return stream.getvalue()


def mutate(contents: bytes, changes: list[tuple[int, int]], end: int | None) -> bytes:
    """Some bytes changed, counted from either end, and the rest cut off."""
    changed = bytearray(contents[:end])
    for place, value in changes:
        if changed:
            changed[place % len(changed)] = value
    return bytes(changed)


def read_or_refuse(path: Path, named: Path) -> Dataset | None:
    """Read, and look at the message where that is refused."""
    before = named.read_bytes()
    dataset, refusal = None, None
    try:
        dataset = read_dataset(path, BOTH)
    except DataError as error:
        refusal = error
    assert named.read_bytes() == before
    if refusal is not None:
        line = str(refusal)
        assert line.startswith(f"{path}")
        assert line.isprintable()
        assert len(line) < 600
        assert refusal.hint
    return dataset


def assert_sound(dataset: Dataset) -> None:
    """What was read is a data set, whatever it was read from."""
    for split in dataset.splits.values():
        assert split.images.dtype == split.labels.dtype == np.uint8
        assert split.images.shape == (len(split), 28, 28)
        assert len(split) > 0
        assert split.labels.max() <= 9


@anytime
@given(compressed=st.booleans(), changes=flips, end=cuts)
def test_a_mutated_npz_is_read_or_refused(
    tmp_path: Path, compressed: bool, changes: list[tuple[int, int]], end: int | None
) -> None:
    path = tmp_path / "mnist.npz"
    path.write_bytes(mutate(make_npz(compressed=compressed), changes, end))
    dataset = read_or_refuse(path, path)
    if dataset is not None:
        assert_sound(dataset)
        for name, split in (("train", dataset.train), ("test", dataset.test)):  # each has its CRC
            np.testing.assert_array_equal(split.images, ARRAYS[f"x_{name}"])
            np.testing.assert_array_equal(split.labels, ARRAYS[f"y_{name}"])


shapes = st.lists(st.integers(-1, 2**40) | st.sampled_from([3, 6, 28]), max_size=4)


@anytime
@given(
    descr=st.sampled_from(["|u1", "<i8", ">u2", "|O", "<f4", "|V8", "|S3", "<M8[s]", "u1"])
    | st.text(max_size=5),
    fortran=st.booleans(),
    shape=shapes,
    extra=st.binary(max_size=40),
)
def test_any_header_of_an_array_is_read_or_refused(
    tmp_path: Path, descr: str, fortran: bool, shape: list[int], extra: bytes
) -> None:
    axes = "".join(f"{axis}, " for axis in shape)
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({axes}), }}"
    path = tmp_path / "mnist.npz"
    start = npy_header(header.encode("ascii", "replace").decode())
    replace_member("y_test", start + extra)(path)
    dataset = read_or_refuse(path, path)
    if dataset is not None:
        assert_sound(dataset)


@anytime
@given(
    name=st.sampled_from(sorted(IDX_NAMES.values())),
    compressed=st.booleans(),
    changes=flips,
    end=cuts,
)
def test_a_mutated_idx_file_is_read_or_refused(
    tmp_path: Path, name: str, compressed: bool, changes: list[tuple[int, int]], end: int | None
) -> None:
    folder = write_idx(tmp_path / ("packed" if compressed else "plain"), compressed=compressed)
    path = folder / f"{name}{'.gz' if compressed else ''}"
    path.write_bytes(mutate(path.read_bytes(), changes, end))
    dataset = read_or_refuse(folder, path)
    if dataset is not None:
        assert_sound(dataset)
