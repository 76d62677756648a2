"""Reading the metadata of many files: results per file, and files that fail alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import SOURCE
from helpers.checkpoints import make_run, seal, write_dense
from mnistcli.checkpoints.checksum import split_checksum, verify_checksum
from mnistcli.checkpoints.reader import CheckpointMetadata, parse_metadata
from mnistcli.checkpoints.record import RunMetadata
from mnistcli.checkpoints.untrusted import sandbox
from mnistcli.checkpoints.untrusted.protocol import RUN_METADATA_FIELDS, MetricRange
from mnistcli.checkpoints.untrusted.sandbox import MetadataReader, ParsedMetadata
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.errors import CheckpointError

DAMAGED = "damaged: its contents do not match its checksum"


def write_run(path: Path, epoch: int = 2) -> Path:
    replace_checkpoint(path, *make_run(epoch))
    return path


def read_all_metadata(paths: Sequence[Path]) -> list[CheckpointMetadata | CheckpointError]:
    """What is known of each file, or its error."""
    return [
        interpret(path, answer)
        for path, answer in zip(paths, MetadataReader(paths).results(), strict=True)
    ]


def interpret(path: Path, answer: ParsedMetadata) -> CheckpointMetadata | CheckpointError:
    if isinstance(answer, CheckpointError):
        return answer
    try:
        return parse_metadata(path, answer)
    except CheckpointError as error:
        return error


def expect_error(answer: object) -> str:
    assert isinstance(answer, CheckpointError)
    return answer.what


def expect_file(answer: object) -> CheckpointMetadata:
    assert isinstance(answer, CheckpointMetadata)
    return answer


def test_the_parts_that_are_asked_for_are_those_of_the_excerpt() -> None:
    assert set(RUN_METADATA_FIELDS) == set(RunMetadata.model_fields)


def test_a_run_tells_its_record_and_its_metrics(tmp_path: Path) -> None:
    state, record = make_run(3)
    config = Config.model_validate({"dataset": {"validation": "test"}})
    record = record.model_copy(update={"config": config})
    history = {
        "loss": (0.5, 0.125, 0.25),
        "accuracy": (0.5, 0.25, 0.75),
        "val_loss": (0.5, float("nan"), 0.25),
        "val_accuracy": (float("inf"),) * 3,
    }
    progress = replace(state.progress, history=history, epoch_durations_s=(9.0, 1.0, 2.0))
    replace_checkpoint(tmp_path / "a.h5", replace(state, progress=progress), record)
    [answer] = read_all_metadata([tmp_path / "a.h5"])
    file = expect_file(answer)
    assert (file.parameters, file.keras_version, file.is_changed) == (7850, "3.15.1", False)
    assert file.history == {
        "loss": MetricRange(3, 0.25, 0.125, 0.5, lowest_epoch=2, at_best=None),
        "accuracy": MetricRange(3, 0.75, 0.25, 0.75, lowest_epoch=2, at_best=None),
        "val_loss": MetricRange(3, 0.25, 0.25, 0.5, lowest_epoch=None, at_best=None),
        "val_accuracy": MetricRange(3, None, None, None, lowest_epoch=None, at_best=None),
    }
    assert file.warm_epoch_s == 1.5
    assert file.record is not None
    assert file.record.model_dump() == record.model_dump(include=set(RUN_METADATA_FIELDS))


def test_files_of_keras_and_changed_ones_have_no_record(tmp_path: Path) -> None:
    foreign, changed = write_dense(tmp_path / "a.h5"), write_run(tmp_path / "b.h5")
    with h5py.File(changed, "r+") as file:
        file["model_weights/dense/sequential/dense/bias"][0] = 7
    first, second = map(expect_file, read_all_metadata([foreign, changed]))
    assert (first.record, first.is_changed, first.parameters) == (None, False, 15)
    assert (second.record, second.is_changed, second.history) == (None, True, {})


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    data = write_run(tmp_path / "sound.h5").read_bytes()
    places = [*np.linspace(0, len(data) - 1, 40).astype(int), data.index(b'"name": "mnist"') + 9]
    paths = []
    for number, place in enumerate(places):
        flipped = bytearray(data)
        flipped[place] ^= 4
        paths.append(tmp_path / f"{number}.h5")
        paths[-1].write_bytes(flipped)
    for place, answer in zip(places, read_all_metadata(paths), strict=True):
        if place < len(data) - 82:
            assert expect_error(answer) == DAMAGED
        else:  # the checksum line
            is_found = isinstance(answer, CheckpointError) or answer.is_changed
            assert is_found


def test_the_checksum_of_an_open_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for size in (0, 50, 82, 1 << 20, (1 << 20) + 7):
        path.write_bytes(os.urandom(size))
        for expected in ("missing", "valid", "mismatch"):
            if expected == "valid":
                seal(path)
            elif expected == "mismatch" and size:
                path.write_bytes(b"!" + path.read_bytes()[1:])
            with path.open("rb", buffering=0) as stream:
                assert verify_checksum(stream) == split_checksum(memoryview(path.read_bytes()))[1]


def make_bad(folder: Path) -> dict[Path, str]:
    """Files that cannot be read, and why."""
    bad = {
        "cut.h5": "damaged: its end is missing",
        "empty.h5": "the file is empty",
        "keras.h5": "is a zip archive, not an HDF5 file",
        "later.h5": "written by a later mnistcli (format 9)",
        "link.h5": "'/mnistcli' is an external link, which can lead anywhere",
        "noise.h5": "damaged: HDF5 cannot make sense of it",
        "record.h5": "its record of the run is damaged"
        " (progress.epoch: Input should be greater than or equal to 0)",
        "text.h5": "is a text file, not an HDF5 file",
        "weights.h5": "weights without their network: no arrays",
    }
    (folder / "cut.h5").write_bytes(write_dense(folder / "cut.h5").read_bytes()[:-100])
    (folder / "empty.h5").touch()
    (folder / "keras.h5").write_bytes(b"PK\x03\x04" + bytes(100))
    with h5py.File(write_dense(folder / "link.h5"), "r+") as file:
        file["mnistcli"] = h5py.ExternalLink("/etc/passwd", "/")
    (folder / "noise.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 9)
    for name, part, text in (
        ("later.h5", "format_version", "9"),
        ("record.h5", "progress", '{"epoch": -1}'),
    ):
        path = write_run(folder / name)
        with h5py.File(path, "r+") as file:
            file["mnistcli"].attrs[part] = text
        path.write_bytes(split_checksum(memoryview(path.read_bytes()))[0])
        seal(path)
    (folder / "text.h5").write_text("not a checkpoint")
    with h5py.File(folder / "weights.h5", "w") as file:
        file.create_group("model_weights")
    return {folder / name: reason for name, reason in bad.items()}


def test_bad_files_are_refused_with_the_reason_and_the_others_read(tmp_path: Path) -> None:
    bad = make_bad(tmp_path)
    bad |= {tmp_path / "missing.h5": "no such checkpoint"}
    (tmp_path / "folder.h5").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    bad |= {tmp_path / "folder.h5": "is a folder", tmp_path / "pipe.h5": "not a regular file"}
    good = [write_run(tmp_path / f"good{number}.h5", number) for number in range(1, 13)]
    mixed = [path for pair in zip(bad, good, strict=True) for path in pair]
    answers = dict(zip(mixed, read_all_metadata(mixed), strict=True))
    assert {path: expect_error(answers[path]) for path in bad} == bad
    epochs = [expect_file(answers[path]).record.progress.epoch for path in good]  # type: ignore[union-attr]
    assert epochs == list(range(1, 13))


# Replaces the sandboxed program: a file's attribute says how it fails.
FAULTY_PROGRAM = """
import os, sys, time
sys.path.append(sys.argv.pop(1))
from mnistcli.checkpoints.untrusted import sandboxed_reader
read = sandboxed_reader.read_metadata
def misbehave(stream, mapped_bytes):
    text = stream.read()
    stream.seek(0)
    if b"crash" in text:
        os.kill(os.getpid(), 11)
    if b"spin" in text:
        os.kill(os.getpid(), 24)
    if b"sleep" in text:
        time.sleep(60)
    if b"leave" in text:
        os._exit(0)
    if b"flood" in text:
        os.write(0, b"x" * 5_000_000)
    return read(stream, mapped_bytes)
sandboxed_reader.read_metadata = misbehave
sandboxed_reader.parse_files()
"""


@pytest.mark.parametrize(
    ("fault", "faulty", "reason"),
    [
        (
            "crash",
            (0, 2, 3),
            "the process that reads it was ended by a signal (Segmentation fault)",
        ),
        ("spin", (0, 2, 3), "damaged: reading it goes on and on"),
        ("sleep", (2,), "damaged: it was not read within 5 s"),
        ("leave", (0, 2, 3), "damaged: reading it gave no result"),
        ("flood", (0, 2, 3), "damaged: reading it gave no result"),
    ],
)
def test_a_file_that_ends_its_process_costs_only_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    faulty: tuple[int, ...],
    reason: str,
) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", FAULTY_PROGRAM)
    if fault == "sleep":
        monkeypatch.setattr(sandbox, "TIME_LIMIT_BASE_S", 5)
    monkeypatch.setattr(sandbox, "_MAX_LINE_BYTES", 1_000_000)
    monkeypatch.setattr(sandbox, "MAX_PROCESSES", 1)
    paths = [write_dense(tmp_path / f"{number}.h5") for number in range(6)]
    for number in faulty:
        with h5py.File(paths[number], "r+") as file:
            file.attrs["fault"] = fault
    answers = read_all_metadata(paths)
    for number, answer in enumerate(answers):
        if number in faulty:
            assert expect_error(answer) == reason
        else:
            assert expect_file(answer).parameters == 15


def test_a_process_that_cannot_start_is_reported_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", "import no_such_library")
    paths = [write_dense(tmp_path / f"{number}.h5") for number in range(3)]
    assert [expect_error(answer) for answer in read_all_metadata(paths)] == [
        "the process that reads it did not start"
    ] * 3


def test_a_file_that_would_fill_the_memory_is_refused_and_the_next_one_read(
    tmp_path: Path,
) -> None:
    deep, sound = write_dense(tmp_path / "deep.h5"), write_run(tmp_path / "sound.h5")
    with h5py.File(deep, "r+") as file:
        file.create_group("mnistcli/history").create_dataset(
            "loss", data=np.zeros(300_000_000, np.uint8), compression="gzip"
        )
    first, second = read_all_metadata([deep, sound])
    assert "memory" in expect_error(first)
    assert expect_file(second).parameters == 7850


def test_no_files_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", "this is no program")
    assert MetadataReader([]).results() == []


def test_the_parent_process_imports_nothing_heavy() -> None:
    program = (
        "import sys; from mnistcli.checkpoints.untrusted.sandbox import MetadataReader;"
        "MetadataReader([]);"
        "loaded = {'numpy', 'h5py', 'pydantic', 'rich'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_two_hundred_files_take_a_few_milliseconds_each(tmp_path: Path) -> None:
    data = write_run(tmp_path / "0.h5").read_bytes()
    paths = [tmp_path / f"{number}.h5" for number in range(200)]
    for path in paths:
        path.write_bytes(data)
    begin_s = time.monotonic()
    answers = MetadataReader(paths).results()
    assert time.monotonic() - begin_s < 20  # half a second on a quiet machine of two cores
    assert all(isinstance(answer, dict) for answer in answers)
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
