"""Locks: two runs never write the same file, and a lock ends with its process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import SOURCE, Run, Train
from mnistcli.checkpoints.lock import LockedError, RunLock
from mnistcli.commands.train.request import name_output
from mnistcli.config.schema import Config

HOLDER = """
import sys
from pathlib import Path
from mnistcli.checkpoints.lock import RunLock

with RunLock() as lock:
    lock.acquire(Path(sys.argv[1]))
    print("taken", flush=True)
    sys.stdin.readline()
"""

# Seccomp has the system call answer as it does on a file system without locks, for this process.
WITHOUT_LOCKS = """
import ctypes, errno, platform, struct, sys
from pathlib import Path
from mnistcli.checkpoints.lock import RunLock

flock = {"x86_64": 73, "aarch64": 32}[platform.machine()]
rows = [  # load the call's number; if it is flock, answer with an error; allow all others
    (0x20, 0, 0, 0), (0x15, 0, 1, flock), (0x06, 0, 0, 0x00050000 | int(sys.argv[1])),
    (0x06, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rows), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit("no seccomp here")
with RunLock() as lock:
    lock.acquire(Path("m.h5"))
    lock.acquire(Path("m.best.h5"))
"""

COLD = """
import sys
from mnistcli.cli import app

code = app.run(sys.argv[1:])
loaded = {"keras", "tensorflow"} & set(sys.modules)
sys.exit(f"{loaded} were imported" if loaded else code)
"""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a checkpoint's lock, until it reads a line or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def take(path: Path) -> None:
    with RunLock() as lock:
        lock.acquire(path)


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_another_process_is_named_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with hold(path) as holder:
        with pytest.raises(LockedError) as caught:
            take(path)
        assert str(caught.value) == (
            f"{path}: another run is writing it (process {holder.pid})."
            " Wait for its end, or write to another file"
        )
        holder.communicate("done\n", timeout=30)
        assert list_names(tmp_path) == []
        take(path)
    assert list_names(tmp_path) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with hold(path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
        assert list_names(tmp_path) == [".m.h5.mnistcli-lock"]
        take(path)
    assert list_names(tmp_path) == []


def test_what_a_killed_run_left_behind_goes_with_the_next_run_in_its_folder(
    tmp_path: Path,
) -> None:
    with hold(tmp_path / "in use.h5"), hold(tmp_path / "killed.h5") as killed:
        killed.kill()
        killed.wait(30)
        take(tmp_path / "other.h5")
        assert list_names(tmp_path) == [".in use.h5.mnistcli-lock"]


def test_other_files_are_free(tmp_path: Path) -> None:
    with hold(tmp_path / "m.h5"):
        for name in ("n.h5", "m.best.h5", "M-h5"):
            take(tmp_path / name)


@pytest.mark.parametrize("length", [240, 252])
def test_names_of_any_legal_length_are_told_apart(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{'x' * length}.h5"
    with hold(path):
        take(tmp_path / f"{'x' * (length - 1)}y.h5")
        with pytest.raises(LockedError):
            take(path)


def test_a_link_leads_to_the_lock_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.h5"
    link.symlink_to(tmp_path / "elsewhere" / "m.h5")
    with hold(tmp_path / "elsewhere" / "m.h5"), pytest.raises(LockedError):
        take(link)


def test_a_name_that_another_run_has_reserved_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnistcli.commands.train.request.time.strftime", lambda _: "now")
    with hold(Path("mnist-softmax-s0-now.h5")), RunLock() as lock:
        output = name_output(Config(), lock)
        assert str(output.path) == "mnist-softmax-s0-now-2.h5"


@pytest.mark.parametrize(
    "words",
    [("-o", "m.h5"), ("-o", "model.h5", "--overwrite"), ("--resume", "model.h5"),
     ("-o", "m2.h5", "--validation", 0.2)],
    ids=["new", "overwrite", "resume", "best"],
)  # fmt: skip
def test_a_second_run_is_refused_before_anything_is_loaded(
    run: Run, environment: dict[str, str], train_once: Train, words: tuple[object, ...]
) -> None:
    model = train_once("--batch-size", 100, "--epochs", 1)
    before = model.read_bytes()
    written = Path(str(words[1]) if words[1] != "m2.h5" else "m2.best.h5")
    with hold(written) as holder:
        ended = subprocess.run(
            [sys.executable, "-c", COLD, "train", *map(str, words), "--epochs", "2"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (7, "")
        assert ended.stderr == (
            f"mnistcli: error: {written}: another run is writing it (process {holder.pid})."
            " Wait for its end, or write to another file\n"
        )
        assert run("train", *words, "--epochs", 2, "--dry-run").code == 0  # it writes nothing
    assert model.read_bytes() == before


def test_a_run_keeps_others_off_its_file_as_long_as_it_trains(
    environment: dict[str, str], spawn: Run, train_once: Train
) -> None:
    model = train_once("--batch-size", 100, "--epochs", 1)
    command = [
        sys.executable,
        "-m",
        "mnistcli",
        "train",
        "--resume",
        "model.h5",
        "--more",
        "100000",
    ]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as first:
        try:
            assert first.stderr is not None
            assert any(line.startswith("epoch ") for line in first.stderr)
            ended = spawn("train", "--resume", model, "--more", 1)
            assert (ended.code, f"(process {first.pid})" in ended.err) == (7, True)
        finally:
            first.kill()
            first.communicate()
    assert spawn("train", "--resume", model, "--more", 1, "-q").out == "model.h5\n"
    assert list_names(Path()) == ["model.h5"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_warned_of_once(tmp_path: Path, number: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, str(number)], cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, check=False,
    )  # fmt: skip
    if ended.stderr == "no seccomp here\n":
        pytest.skip(ended.stderr)
    what = "its file system has no locks, so another run could write the same file"
    assert (ended.returncode, ended.stderr) == (0, f"{tmp_path}: {what}\n")
    assert list(tmp_path.iterdir()) == []
