"""The checksum line: what it detects, and that HDF5 libraries ignore it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.checkpoints import make_run, seal, write_dense
from mnistcli.checkpoints.checksum import format_checksum_line, split_checksum
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.errors import CheckpointError

DAMAGED = "damaged: its contents do not match its checksum. Restore it from a copy, or train again"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run(inputs=4))
    return path


def test_the_checksum_is_a_line_with_the_sha256_of_all_that_precedes_it(path: Path) -> None:
    data = path.read_bytes()
    body, line = data[:-82], data[-82:]
    assert line == b"\nmnistcli-sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    assert split_checksum(memoryview(data)) == (body, "valid")


def test_a_flipped_bit_anywhere_is_a_mismatch() -> None:
    data = b"some data" + format_checksum_line(b"some data")
    for position in range(9):
        flipped = bytearray(data)
        flipped[position] ^= 1
        assert split_checksum(memoryview(flipped))[1] == "mismatch"


@pytest.mark.parametrize(
    "data", [b"", b"short", format_checksum_line(b"x")[:-1], format_checksum_line(b"x") + b"\n"]
)
def test_without_the_whole_line_at_the_very_end_there_is_none(data: bytes) -> None:
    assert split_checksum(memoryview(data)) == (data, "missing")


def test_h5py_opens_a_file_with_a_checksum(path: Path) -> None:
    with h5py.File(path) as file:
        assert file["model_weights/dense/sequential/dense/kernel"][0, 0] == 2.0


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.9999])
def test_a_flipped_byte_before_the_checksum_is_damage(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 82))] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == f"{path}: {DAMAGED}"


def test_a_file_that_was_opened_for_writing_is_treated_as_foreign(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["model_weights/dense/sequential/dense/bias"][:] = 7.0
    checkpoint = read_checkpoint(path, "all")
    assert checkpoint.warnings == (
        f"{path}: changed since mnistcli wrote it (its checksum is gone):"
        " treated as a foreign file",
    )
    assert checkpoint.record is None
    assert checkpoint.state is None
    np.testing.assert_array_equal(checkpoint.weights[1], np.full(10, 7.0, np.float32))


def test_a_checksum_on_a_foreign_file_makes_it_no_run_of_ours(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "foreign.h5")
    seal(path)
    checkpoint = read_checkpoint(path, "all")
    assert checkpoint.record is None
    assert checkpoint.warnings == ()
