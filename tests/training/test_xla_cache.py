"""The XLA cache: the next run finds the compiled programs, and only those."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import h5py
import pytest

from conftest import Run
from mnistcli.training import xla_cache
from mnistcli.training.xla_cache import MAX_PROGRAMS, XlaCache, open_xla_cache

TRAIN = ("train", "mnist-mlp", "--epochs", 1, "--dropout", 0.2, "--validation", 0.1, "-q", "-o")


def read_weights(path: Path) -> list[bytes]:
    """The bytes of every array of the network."""
    found: list[bytes] = []

    def read(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(item[()].tobytes())

    with h5py.File(path) as file:
        file["model_weights"].visititems(read)
    return found


def test_a_second_run_finds_what_the_first_compiled_and_a_damaged_program_is_compiled_again(
    run: Run, spawn: Run, tmp_path: Path
) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert run(*TRAIN, "plain.h5").code == 0
    assert not (tmp_path / "cache").exists()

    assert spawn(*TRAIN, "first.h5", env=cache).code == 0
    (folder,) = (tmp_path / "cache" / "mnistcli" / "programs").iterdir()
    programs = {path: path.stat().st_mtime_ns for path in folder.glob("*.pb")}
    assert len(programs) == 3  # whole batches, the smaller last one, validation
    assert len(list(folder.iterdir())) == 6

    damaged = sorted(programs)[0]
    os.truncate(damaged, 1000)
    assert spawn(*TRAIN, "second.h5", env=cache).code == 0
    after = {path: path.stat().st_mtime_ns for path in folder.glob("*.pb")}
    assert {path for path in after if after[path] != programs.get(path)} == {damaged}

    weights = [read_weights(tmp_path / name) for name in ("plain.h5", "first.h5", "second.h5")]
    assert len(weights[0]) == 4
    assert weights[1] == weights[0]
    assert weights[2] == weights[0]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> XlaCache:
    """A cache as a process opens it that has not loaded TensorFlow."""
    monkeypatch.delenv("MNISTCLI_PROGRAM_CACHE", raising=False)
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    monkeypatch.delitem(xla_cache.sys.modules, "tensorflow", raising=False)
    opened = open_xla_cache(tmp_path)
    assert opened is not None
    assert os.environ["TF_XLA_FLAGS"] == f"--tf_xla_persistent_cache_directory={opened.folder}"
    monkeypatch.delenv("TF_XLA_FLAGS")
    return opened


def test_only_sealed_programs_stay_and_only_the_latest(cache: XlaCache) -> None:
    for number in range(MAX_PROGRAMS + 2):
        program = cache.folder / f"{number}.pb"
        program.write_bytes(b"code")
        os.utime(program, (time.time() + number, time.time() + number))
    cache.write_checksums()
    (cache.folder / "7.pb").write_bytes(b"cod3")
    unsealed, fresh = cache.folder / "killed.pb", cache.folder / "of_another_run.pb"
    for path in (unsealed, fresh):
        path.write_bytes(b"code")
    os.utime(unsealed, (0, 0))

    cache.clean()

    kept = {path.stem for path in cache.folder.glob("*.pb")}
    assert kept == {str(n) for n in range(1, MAX_PROGRAMS + 2)} - {"7"} | {"of_another_run"}


def test_what_other_versions_left_is_forgotten_in_time(cache: XlaCache) -> None:
    parent = cache.folder.parent
    for name, mtime in (("old", 0), ("recent", time.time() - 3600)):
        (parent / name).mkdir()
        os.utime(parent / name, (mtime, mtime))
    assert open_xla_cache(parent) is not None
    assert {path.name for path in parent.iterdir()} == {"recent", cache.folder.name}


def test_nothing_but_programs_is_removed_and_no_link_is_followed(
    cache: XlaCache, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    for folder in (victim / "dir", tmp_path / "old"):
        folder.mkdir(parents=True)
        for name in ("thesis.tex", "program.pb", "program.pb.sha256"):
            (folder / name).touch()
        os.utime(folder, (0, 0))
    (tmp_path / "linked").symlink_to(victim / "dir")
    os.utime(tmp_path / "linked", (0, 0), follow_symlinks=False)
    (tmp_path / "programs").symlink_to(victim)

    assert open_xla_cache(tmp_path / "programs") is None
    assert "TF_XLA_FLAGS" not in os.environ
    assert open_xla_cache(cache.folder.parent) is not None

    assert [path.name for path in victim.iterdir()] == ["dir"]
    assert len(list((victim / "dir").iterdir())) == 3
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["thesis.tex"]


def test_what_is_no_file_of_ours_is_no_program(cache: XlaCache, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"code")
    sums = hashlib.sha256(b"code").hexdigest()
    for name in ("fifo", "hard", "link", "sound"):
        (cache.folder / f"{name}.pb.sha256").write_text(sums)
    os.mkfifo(cache.folder / "fifo.pb")
    os.mkfifo(cache.folder / "other.pb")
    os.link(tmp_path / "victim", cache.folder / "hard.pb")
    (cache.folder / "link.pb").symlink_to(tmp_path / "victim")
    (cache.folder / "sound.pb").write_bytes(b"code")
    cache.write_checksums()
    cache.clean()
    assert [path.name for path in cache.folder.glob("*.pb")] == ["sound.pb"]
    assert (tmp_path / "victim").read_bytes() == b"code"


def test_a_folder_that_others_may_write_to_is_not_used(cache: XlaCache) -> None:
    cache.folder.chmod(0o770)
    assert open_xla_cache(cache.folder.parent) is None
    assert "TF_XLA_FLAGS" not in os.environ


def test_a_folder_that_cannot_be_made_is_not_used(cache: XlaCache, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert open_xla_cache(tmp_path / "file" / "programs") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("MNISTCLI_PROGRAM_CACHE", "0"), ("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit")],
)
def test_a_user_has_the_last_word(
    cache: XlaCache, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert open_xla_cache(cache.folder.parent) is None
    assert os.environ.get("TF_XLA_FLAGS", value) == value


def test_flags_that_would_end_the_process_are_named_and_nothing_is_left_behind(spawn: Run) -> None:
    ended = spawn("train", "xor", "--json", "-o", "m.h5", env={"XLA_FLAGS": "--xla_no_such_flag=1"})
    hint = "correct it, or take it away: unset XLA_FLAGS"
    what = "TensorFlow does not know --xla_no_such_flag=1"
    assert ended.json["error"] == {
        "code": 7, "kind": "resource", "where": "XLA_FLAGS", "message": what, "hint": hint,
    }  # fmt: skip
    line = f"mnistcli: error: XLA_FLAGS: {what}. C{hint.removeprefix('c')}\n"
    assert (ended.code, ended.err) == (7, line)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("TF_XLA_FLAGS", "/no/file", "/no/file is no file with flags, and no flag, which begins"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("TF_XLA_FLAGS", "--nonsense", "TensorFlow does not know --nonsense"),
                ("XLA_FLAGS", "--xla_a --xla_b", "TensorFlow does not know --xla_a --xla_b"),
                ("XLA_FLAGS", "--xla_cpu_enable_fast_math=x", "TensorFlow does not take --xla_cpu"),
            )
        ),
    ],
)
def test_doctor_names_the_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv(name, value)
    ended = run("doctor")
    assert ended.code == 7
    assert ended.err.startswith(f"mnistcli: error: {name}: {what}")
