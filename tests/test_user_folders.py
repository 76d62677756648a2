"""Caches: only in folders that nobody else can change, and only their own files are removed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Run
from helpers.custom_images import write_squares
from mnistcli import user_folders
from mnistcli.datasets.synthetic import read_dataset
from mnistcli.user_folders import find_cache, make_private_folder


def make_old(path: Path) -> Path:
    """A file that looks unused for years, in a folder that does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"kept")
    os.utime(path, (0, 0))
    os.utime(path.parent, (0, 0))
    return path


def make_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere")


def make_open(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def make_another_users(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give folders away")
    path.mkdir()
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("inside", ["", "programs", "programs/one"])
@pytest.mark.parametrize(
    ("make", "why"),
    [(make_link, "is a link"), (make_open, "can be changed by other users"),
     (make_another_users, "belongs to another user"), (Path.touch, "Not a directory")],
)  # fmt: skip
def test_a_folder_that_others_can_change_or_lead_elsewhere_is_refused(
    tmp_path: Path, make: Callable[[Path], None], why: str, inside: str
) -> None:
    planted = tmp_path / "mnistcli"
    make(planted)
    with pytest.raises(OSError, match=why) as caught:
        make_private_folder(planted / inside)
    assert caught.value.filename == str(planted)
    assert not (tmp_path / "elsewhere" / "programs").exists()


def test_a_new_folder_is_this_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")] == [
        0o700,
        0o700,
    ]
    make_private_folder(tmp_path / "a" / "b")


def test_below_a_folder_like_tmp_a_folder_of_ours_will_do(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    make_private_folder(shared / "ours")
    with pytest.raises(OSError, match="can be changed by other users"):
        make_private_folder(shared)


def test_a_link_of_the_users_to_the_place_for_caches_is_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "cache").symlink_to("scratch")
    found = find_cache({"XDG_CACHE_HOME": f"{tmp_path}/x/../cache"})
    assert found == tmp_path / "scratch" / "mnistcli"
    make_private_folder(found)


def test_without_a_home_a_folder_that_another_made_in_tmp_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_folders, "find_home", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    victim = tmp_path / "victim"
    victim.mkdir()
    cache = find_cache({})
    assert cache == tmp_path / f"mnistcli-{os.getuid()}"
    cache.symlink_to(victim)
    assert len(read_dataset(frozenset({"test"}), cache).splits["test"].labels) == 2000
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize("make", [make_link, make_open])
def test_decoded_images_are_not_kept_where_others_can_change_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    folder = write_squares(tmp_path / "pets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    make(tmp_path / "cache" / "mnistcli")
    ended = run("data", "files", "--data", folder, "-q")
    assert (ended.code, ended.out) == (7, "")
    assert f"{tmp_path}/cache/mnistcli " in ended.err
    assert ended.err.endswith("Name a folder of your own with room in XDG_CACHE_HOME\n")
    assert not (tmp_path / "cache" / "elsewhere" / "rows").exists()


def test_only_what_is_named_like_the_caches_own_files_is_removed_from_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = tmp_path / "cache" / "mnistcli" / "rows"
    rows.parent.mkdir(parents=True)
    others = [make_old(rows / name) for name in ("weights.npy", ".notes.tmp", f"{'a' * 64}.npy")]
    own = [
        make_old(rows / name)
        for name in (f"{'b' * 64}-{'a' * 64}.npy", f".{'b' * 40}.mnistcli-abcdefgh.tmp")
    ]
    assert run("data", "files", "--data", write_squares(tmp_path / "pets"), "-q").code == 0
    assert [path.exists() for path in others] == [True] * 3
    assert [path.exists() for path in own] == [False] * 2
