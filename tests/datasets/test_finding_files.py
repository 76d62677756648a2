"""The folders in which data sets are searched, and their order."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.datasets import registry
from mnistcli.datasets.base import Dataset, DatasetInfo, FileDataset, FileLocator, SplitName
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.registry import (
    DataSearch,
    list_missing_directories,
    locate_files,
    search_from_environment,
)
from mnistcli.errors import DataError, ResourceError

VARIABLES = ("MNISTCLI_DATA_DIR", "MNISTCLI_OFFLINE", "KERAS_HOME", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the test's own, and none of the variables set."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def find_data(directory: Path) -> Path | None:
    return directory / "data" if (directory / "data").exists() else None


def read_data(path: Path, splits: frozenset[SplitName]) -> Dataset:
    raise NotImplementedError


SPEC = FileDataset(
    info=DatasetInfo("data", "DATA", (28, 28), ("0", "1"), 2, 1, image_kind="picture"),
    source=FileLocator(
        find=find_data,
        file_names="data",
        downloads=(RemoteFile("data", (), sha256="", max_bytes=0),),
        alternative="use --dataset other",
    ),
    read=read_data,
)


def make_search(*directories: Path) -> DataSearch:
    return DataSearch(directories, directories[0], directories[0], offline=True)


def test_keras_folder_and_the_users_cache_are_the_defaults(home: Path) -> None:
    search = search_from_environment(None)
    assert search.directories == (home / ".keras" / "datasets",)
    assert search.download_directory == home / ".keras" / "datasets"
    assert search.cache_directory == home / ".cache" / "mnistcli"
    assert search.offline is False
    assert not home.exists()


def test_the_flag_is_the_only_place_and_the_variable_comes_before_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flag").mkdir()
    monkeypatch.setenv("MNISTCLI_DATA_DIR", str(tmp_path / "variable"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    search = search_from_environment(tmp_path / "flag")
    assert search.directories == (tmp_path / "flag",)
    assert search.download_directory == tmp_path / "flag"
    search = search_from_environment(None)
    assert search.directories == (tmp_path / "variable", tmp_path / "keras" / "datasets")
    assert search.download_directory == tmp_path / "variable"
    assert search.cache_directory == tmp_path / "cache" / "mnistcli"


def test_a_tilde_is_the_home_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "data").mkdir(parents=True)
    monkeypatch.setenv("MNISTCLI_DATA_DIR", "~/more")
    assert search_from_environment(Path("~/data")).directories == (home / "data",)
    assert search_from_environment(None).directories[0] == home / "more"


def test_empty_and_relative_variables_count_as_unset(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    search = search_from_environment(None)
    assert search.directories == (home / ".keras" / "datasets",)
    assert search.cache_directory == home / ".cache" / "mnistcli"
    assert search.offline is False


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("0", False), ("False", False)]
)
def test_offline_is_switched_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, offline: bool
) -> None:
    monkeypatch.setenv("MNISTCLI_OFFLINE", value)
    assert search_from_environment(None).offline is offline


def test_a_user_without_a_home_has_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # a container's user without an entry
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    search = search_from_environment(None)
    assert search.cache_directory == tmp_path / f"mnistcli-{os.getuid()}"
    assert search.directories == (search.cache_directory / "datasets",)
    shutil.rmtree(search.cache_directory)
    search.cache_directory.symlink_to(tmp_path)  # another user's, who wants us to read their data
    with pytest.raises(ResourceError, match=r"data cannot be kept there: .* is a link\. Name a"):
        search_from_environment(None)


def test_a_misspelt_data_dir_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        search_from_environment(tmp_path / "dtaa")
    assert str(caught.value) == (
        f"--data-dir: {tmp_path}/dtaa does not exist. "
        f"Correct the path, or create the folder: mkdir -p {tmp_path}/dtaa"
    )


def test_a_data_dir_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        search_from_environment(tmp_path / "mnist.npz")
    assert str(caught.value) == (
        f"--data-dir: {tmp_path}/mnist.npz is a file. Name the folder it is in, {tmp_path}"
    )


def test_the_first_folder_that_holds_the_data_wins(tmp_path: Path) -> None:
    for name in ("empty", "second/data", "third/data"):
        (tmp_path / name).mkdir(parents=True)
    search = make_search(tmp_path / "empty", tmp_path / "second", tmp_path / "third")
    assert locate_files(SPEC, search) == tmp_path / "second" / "data"


def test_data_that_are_nowhere_are_an_error_with_every_way_out(tmp_path: Path) -> None:
    search = make_search(tmp_path, tmp_path / "nowhere")
    with pytest.raises(DataError) as caught:
        locate_files(SPEC, search)
    assert str(caught.value) == (
        f"DATA: not found in {tmp_path}, {tmp_path}/nowhere (no such folder), and MNISTCLI_OFFLINE"
        " forbids downloading. Name the folder of data with --data-dir, or unset MNISTCLI_OFFLINE"
        " to download it, or use --dataset other"
    )


def test_a_folder_that_was_asked_for_and_is_missing_is_worth_a_warning(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    found = tmp_path / "there" / "data"
    search = make_search(tmp_path / "misspelt", tmp_path / "there", tmp_path / "never looked at")
    assert list_missing_directories(search, found) == (
        f"{tmp_path}/misspelt is no folder, so {found} was read instead",
    )


def find_parts(directory: Path) -> Path | None:
    folder = directory / "parts"
    return folder if folder.exists() else None


def test_a_download_of_several_files_goes_on_where_it_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remotes = tuple(RemoteFile(name, (), sha256="", max_bytes=0) for name in ("a.gz", "b.gz", "c"))
    spec = replace(SPEC, source=FileLocator(find_parts, "parts", remotes, folder="parts"))
    fetched: list[Path] = []
    monkeypatch.setattr(
        registry, "download_file", lambda remote, folder, *_: fetched.append(folder / remote.name)
    )
    search = replace(make_search(tmp_path), offline=False)
    folder = tmp_path / "parts"
    assert locate_files(spec, search) == folder
    assert fetched == [folder / "a.gz", folder / "b.gz", folder / "c"]
    folder.mkdir()
    (folder / "a").touch()  # unpacked
    (folder / "b.gz").touch()
    fetched.clear()
    assert locate_files(spec, search) == folder
    assert fetched == [folder / "c"]
    assert locate_files(spec, replace(search, offline=True)) == folder
    elsewhere = replace(search, download_directory=tmp_path / "downloads")
    assert locate_files(spec, elsewhere) == folder
    assert fetched == [folder / "c"]
