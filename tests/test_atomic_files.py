"""What others put where our scratch files go: nothing of it is followed, waited for or changed."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Run, Train
from mnistcli.atomic_files import open_scratch_file, replace_file
from mnistcli.checkpoints.lock import RunLock
from mnistcli.datasets.download import RemoteFile, download_file
from mnistcli.errors import ResourceError

VICTIM = b"years of work"


def plant(kind: str, path: Path) -> Path:
    """Put something at a name before we get there; return the file that is not to be changed."""
    victim = path.parent / "victim"
    victim.write_bytes(VICTIM)
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(path.parent / "anywhere")
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path.relative_to(Path.cwd())))  # a socket's path is short
    elif kind == "another user's":
        path.write_bytes(b"theirs")
        os.chown(path, 12345, 12345)
    return victim


KINDS = ["link", "dangling link", "hard link", "FIFO", "folder", "socket", "another user's"]
REASONS = {
    "link": "{name} is a link; remove it",
    "dangling link": "{name} is a link; remove it",
    "hard link": "{name} is a hard link to another file; remove it",
    "FIFO": "{name} is no regular file; remove it",
    "folder": "Is a directory",
    "socket": "No such device or address",
    "another user's": "{name} belongs to another user",
}


def skip_what_needs_root(kind: str) -> None:
    if kind.startswith("another user's") and os.geteuid() != 0:
        pytest.skip("only root can give files away")


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_download_is_a_file_of_ours(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_what_needs_root(kind)
    monkeypatch.chdir(tmp_path)
    part = tmp_path / "mnist.npz.part"
    victim = plant(kind, part)
    remote = RemoteFile("mnist.npz", ("http://127.0.0.1:1/",), hashlib.sha256().hexdigest(), 9)
    with pytest.raises(ResourceError) as caught:
        download_file(remote, tmp_path, lambda *_: None)
    assert caught.value.where == str(part)
    assert caught.value.what == f"cannot be written: {REASONS[kind].format(name=part.name)}"
    assert victim.read_bytes() == VICTIM
    assert not (tmp_path / "anywhere").exists()
    assert os.path.lexists(part)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_is_a_file_of_ours(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_what_needs_root(kind)
    monkeypatch.chdir(tmp_path)
    lock_path = tmp_path / ".m.h5.mnistcli-lock"
    victim = plant(kind, lock_path)
    with RunLock() as lock, pytest.raises(ResourceError) as caught:
        lock.acquire(tmp_path / "m.h5")
    reason = REASONS[kind].format(name=lock_path.name)
    assert caught.value.what == f"cannot be locked: {reason}"
    with RunLock() as lock:  # what a killed run left behind is removed, and nothing else
        lock.acquire(tmp_path / "other.h5")
    assert victim.read_bytes() == VICTIM
    assert os.path.lexists(lock_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_a_temporary_file_of_a_killed_writer_is_let_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_what_needs_root(kind)
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / ".m.h5.mnistcli-abcdefgh.tmp"
    victim = plant(kind, temporary)
    replace_file(tmp_path / "m.h5", [b"new"])
    assert (tmp_path / "m.h5").read_bytes() == b"new"
    assert victim.read_bytes() == VICTIM
    assert os.path.lexists(temporary)


def test_a_file_of_the_folders_owner_will_do(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path = tmp_path / "scratch"
    path.write_bytes(b"")
    os.chown(path, 12345, 12345)  # some file systems give every file one owner
    os.chown(tmp_path, 12345, 12345)
    os.close(open_scratch_file(path))


@pytest.mark.parametrize("word", ["train", "summary", "sweep"])
def test_a_pipe_that_nobody_writes_to_is_no_config(run: Run, word: str) -> None:
    os.mkfifo("c.yaml")
    ended = run(word, "c.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("mnistcli: error: c.yaml: cannot be read: it is no regular file.")


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_a_pipe_that_nobody_writes_to_is_no_picture(run: Run, train_once: Train, name: str) -> None:
    model = train_once("--batch-size", 100, "--epochs", 1)
    os.mkfifo(name)
    ended = run("predict", model, name)
    assert ended.code == 4
    assert f"{name}: cannot be read: it is no regular file." in ended.err


def test_what_a_command_prints_is_a_config(environment: dict[str, str]) -> None:
    script = "exec %s -m mnistcli summary <(sleep 0.2; echo 'model: {type: mlp, hidden: [7]}')"
    ended = subprocess.run(
        ["bash", "-c", script % sys.executable],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "5,495" in ended.stdout  # 784 * 7 + 7


@pytest.mark.parametrize(
    ("kind", "why"),
    [("FIFO", "it is no regular file"), ("folder", "Is a directory"),
     ("socket", "it is no regular file"), ("hard link", "it is a hard link to another file"),
     ("another user's link", "it is another user's link")],
)  # fmt: skip
def test_a_log_is_not_written_where_others_want_it(run: Run, kind: str, why: str) -> None:
    skip_what_needs_root(kind)
    victim = plant(kind.removeprefix("another user's "), Path.cwd() / "run.log")
    if kind == "another user's link":
        os.chown("run.log", 12345, 12345, follow_symlinks=False)
    ended = run("summary", "xor", "--log-file", "run.log")
    assert ended.code == 7
    assert f"--log-file: run.log cannot be written: {why}." in ended.err
    assert victim.read_bytes() == VICTIM


def test_a_log_goes_where_a_link_of_the_users_leads(run: Run) -> None:
    Path("latest.log").symlink_to("today.log")
    assert run("summary", "xor", "--log-file", "latest.log").code == 0
    assert "summary xor" in Path("today.log").read_text()
