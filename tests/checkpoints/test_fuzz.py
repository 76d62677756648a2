"""Files with random damage are either refused or read; nothing crashes or hangs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import SOURCE
from helpers.checkpoints import describe_dense, draw_dense, make_run, write_dense, write_model
from helpers.inference import compute_logits
from mnistcli.checkpoints.checksum import format_checksum_line, split_checksum
from mnistcli.checkpoints.reader import Checkpoint, parse_checkpoint, read_checkpoint
from mnistcli.checkpoints.untrusted.sandbox import ParserOutput
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.errors import CheckpointError

# Runs the sandboxed reader again and again, each time in a fork of a process that has imported h5py
# (and never TensorFlow): twenty times as fast, and as easily ended. Reads lines with the file to
# parse and the file for its output; answers each with the exit code.
FORK_SERVER = """
import os, sys
from mnistcli.checkpoints.untrusted import sandboxed_reader
sandboxed_reader.CPU_BASE_S = 1
sys.argv = ["sandboxed_reader", "all"]
for line in sys.stdin:
    source, output = line.split()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(source, os.O_RDONLY), 0)
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sandboxed_reader.parse_one_file()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class ForkServer:
    """Parses files in short-lived processes."""

    def __init__(self, directory: Path) -> None:
        self._output = directory / "output"
        self.exits: Counter[int] = Counter()
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORK_SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def read(self, path: Path) -> Checkpoint | None:
        """Read a checkpoint as `read_checkpoint` does; None where it is refused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path} {self._output}\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        if code != 0:
            self.exits[code] += 1
            return None
        line, _, arrays = self._output.read_bytes().partition(b"\n")
        parsed = ParserOutput(json.loads(line), memoryview(arrays), "all")
        if "refused" in parsed.line:
            assert parsed.line["refused"].isprintable()
            return None
        return parse_checkpoint(path, parsed)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path)
    yield server
    server.close()


def make_originals(directory: Path) -> list[bytes]:
    """A run of ours, a file of Keras', and one with compressed weights; without seals."""
    ours = directory / "ours.h5"
    replace_checkpoint(ours, *make_run(inputs=4))
    foreign = write_dense(directory / "foreign.h5")
    packed = write_model(directory / "packed.h5", describe_dense(4, 3), draw_dense(4, 3))
    with h5py.File(packed, "r+", libver="latest") as file:
        group = file["model_weights/dense"]
        for name in ("dense/kernel", "dense/bias"):
            values = group[name][()]
            del group[name]
            group.create_dataset(name, data=values, compression="gzip", fletcher32=True)
    return [
        bytes(split_checksum(memoryview(path.read_bytes()))[0]) for path in (ours, foreign, packed)
    ]


def damage(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, copy a piece elsewhere, or cut the end off; then perhaps seal it."""
    damaged = bytearray(data)
    kind = rng.randrange(10)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(damaged))
        if kind < 5:
            damaged[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind < 8:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 8:
            piece = damaged[at : at + rng.choice((1, 2, 4, 8, 64))]
            to = rng.randrange(len(damaged) - len(piece) + 1)
            damaged[to : to + len(piece)] = piece
        else:
            damaged = damaged[: max(1, at)]
    return bytes(damaged) + (format_checksum_line(bytes(damaged)) if rng.random() < 0.7 else b"")


def check_sound(checkpoint: Checkpoint) -> None:
    """What is read can be used: a network, its finite weights, and a run that belongs to it."""
    expected = [w.shape for node in checkpoint.architecture.iter_layers() for w in node.weights]
    assert [array.shape for array in checkpoint.weights] == expected
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in checkpoint.weights)
    inputs = np.zeros((2, *checkpoint.architecture.input_shape), np.float32)
    compute_logits(checkpoint.architecture, checkpoint.weights, inputs)
    if checkpoint.record is not None:
        assert len(checkpoint.record.class_names) == checkpoint.architecture.output_shape[-1]
        assert checkpoint.state is not None
        assert all(
            len(v) == checkpoint.progress.epoch for v in checkpoint.progress.history.values()
        )


def check_outcome(read: Callable[[Path], Checkpoint | None], path: Path) -> str:
    """Read a file, check what comes of it, and return that in a word."""
    try:
        checkpoint = read(path)
    except CheckpointError as error:
        line = str(error)
    else:
        if checkpoint is not None:
            check_sound(checkpoint)
            return "read"
        line = f"{path}: "
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return "refused"


def try_damage(server: ForkServer, directory: Path, count: int, duration_s: float) -> Counter[str]:
    """Damage files at random, and count what became of them."""
    originals, rng, outcomes = make_originals(directory), random.Random(0), Counter[str]()
    path, end_s = directory / "damaged.h5", time.monotonic() + duration_s
    while outcomes.total() < count and time.monotonic() < end_s:
        path.write_bytes(damage(rng.choice(originals), rng))
        outcomes[check_outcome(server.read, path)] += 1
    return outcomes


# Endless loops, wild pointers and failed assertions in the library.
DEATHS = {-signal.SIGXCPU, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGBUS}


def test_damage_is_refused_or_does_no_harm(
    server: ForkServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes = try_damage(server, tmp_path, 350, 20)
    assert outcomes["refused"] > 25
    assert outcomes["read"] > 25
    assert set(server.exits) <= DEATHS
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_thousands_of_damaged_files(server: ForkServer, tmp_path: Path) -> None:
    assert try_damage(server, tmp_path, 20_000, 3600).total() == 20_000
    assert set(server.exits) <= DEATHS


def test_damage_through_the_front_door(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    originals, rng, path = make_originals(tmp_path), random.Random(1), tmp_path / "damaged.h5"
    for _ in range(12):
        path.write_bytes(damage(rng.choice(originals), rng))
        check_outcome(lambda path: read_checkpoint(path, "all"), path)
    assert capfd.readouterr() == ("", "")
