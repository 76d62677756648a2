"""Where the files of a data set are looked for, and what happens when they are nowhere."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mnistcli.datasets.download import OnDownload, RemoteFile, download_file
from mnistcli.datasets.reading import unreadable
from mnistcli.errors import DataError
from mnistcli.user_folders import find_cache, find_home

_VARIABLE = "MNISTCLI_DATA_DIR"
_NO = ("", "0", "false", "no", "off")
_LOG = logging.getLogger(__name__)


def _ignore_progress(name: str, received_bytes: int, total_bytes: int | None) -> None:
    """For those who show nothing."""


@dataclass(frozen=True)
class DataSearch:
    """Where to look for data, and whether the network may be asked.

    Attributes:
        directories: in the order searched.
        download_directory: where a download goes; made when it is needed.
        cache_directory: where generated data is kept; made when it is needed.
        offline: True: nothing is downloaded.
        on_download: hears of a download's progress: file name, bytes so far, bytes in total
            (None where that is not known).
        on_preparation: hears of images that are decoded or unpacked, in the same way.
    """

    directories: tuple[Path, ...]
    download_directory: Path
    cache_directory: Path
    offline: bool
    on_download: OnDownload = _ignore_progress
    on_preparation: OnDownload = _ignore_progress


@dataclass(frozen=True)
class Source:
    """How one data set's files are recognised, and where they were published.

    Attributes:
        title: the data set's, for messages.
        find: the file or folder to read within one directory; None where it holds none. It may
            raise DataError where it cannot look.
        remote: what is downloaded when nothing was found.
        alternative: what to do without these data, a phrase for hints; may be empty.
    """

    title: str
    find: Callable[[Path], Path | None]
    remote: RemoteFile
    alternative: str = ""


def search_from_environment(data_dir: Path | None) -> DataSearch:
    """Where this user's data lie: --data-dir, MNISTCLI_DATA_DIR, then Keras' own folder.

    A `--data-dir` that does not exist is an error: a misspelt one would otherwise be passed over
    or, worse, created and filled. One that the environment names may not exist yet (a cache that
    the first download makes); it is passed over, and `missing_directories` says so.

    Args:
        data_dir: from the command line; None where not given.

    Returns:
        The search. Without a home directory everything lies below the system's temporary one.

    Raises:
        DataError: `data_dir` is no folder, or the variable names a file.
    """
    environment = os.environ
    cache = find_cache(environment)
    candidates: list[Path] = []
    if data_dir is not None:
        candidates.append(_check_data_dir(_expand_home(data_dir)))
    if from_environment := environment.get(_VARIABLE):
        named = _expand_home(Path(from_environment))
        with contextlib.suppress(OSError):  # what cannot be looked at is told when it is searched
            _refuse_file(named, _VARIABLE)
        candidates.append(named)
    candidates.append(_keras_directory(environment) or cache / "datasets")
    directories = tuple(dict.fromkeys(candidates))
    return DataSearch(
        directories=directories,
        download_directory=directories[0],
        cache_directory=cache,
        offline=environment.get("MNISTCLI_OFFLINE", "").lower() not in _NO,
    )


def locate_files(source: Source, search: DataSearch) -> Path:
    """Find a data set's files, or download them where that is allowed.

    Nothing is read here: files that are found and turn out to be damaged are the reader's error.

    Returns:
        The file or folder to read.

    Raises:
        DataError: found nowhere, and offline or not to be downloaded.
        ResourceError: the download cannot be written.
    """
    for directory in search.directories:
        if found := source.find(directory):
            _LOG.debug("%s: found %s", source.title, found)
            return found
        _LOG.debug("%s: not in %s", source.title, directory)
    if search.offline:
        raise _not_found(source, search)
    return download_file(
        source.remote, search.download_directory, search.on_download, source.alternative
    )


def missing_directories(search: DataSearch, found: Path) -> tuple[str, ...]:
    """One warning for each folder that was asked for, does not exist, and so was passed over.

    Args:
        search: where was looked.
        found: what `locate_files` returned.
    """
    warnings = []
    for directory in search.directories:
        if found.is_relative_to(directory):
            break
        if not is_folder(directory):
            warnings.append(f"{directory} is no folder, so {found} was read instead")
    return tuple(warnings)


def is_file(path: Path) -> bool:
    """Like `Path.is_file`; but where the system will not tell, that is an error.

    Raises:
        DataError: no permission to look, for example.
    """
    return _exists(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """Like `Path.is_dir`; but where the system will not tell, that is an error.

    Raises:
        DataError: no permission to look, for example.
    """
    return _exists(path, Path.is_dir)


def _exists(path: Path, test: Callable[[Path], bool]) -> bool:
    """Python versions differ in which errors `is_file` and `is_dir` swallow."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return test(path)


def _check_data_dir(directory: Path) -> Path:
    """Before anything is searched."""
    exists = is_folder(directory)
    _refuse_file(directory, "--data-dir")
    if not exists:
        raise DataError(
            "--data-dir",
            f"{directory} does not exist",
            f"correct the path, or create the folder with `mkdir -p {directory}`",
        )
    return directory


def _refuse_file(path: Path, where: str) -> None:
    """Whoever names mnist.npz itself means the folder that it is in."""
    if path.is_file():
        raise DataError(where, f"{path} is a file", f"name the folder it is in, {path.parent}")


def _not_found(source: Source, search: DataSearch) -> DataError:
    """The whole list: a user who knows where was looked knows what to correct."""
    places = [
        str(directory) if is_folder(directory) else f"{directory} (no such folder)"
        for directory in search.directories
    ]
    ways_out = (
        "name its folder with --data-dir",
        "unset MNISTCLI_OFFLINE to download it",
        source.alternative,
    )
    return DataError(
        source.title,
        f"not found in {', '.join(places)}, and MNISTCLI_OFFLINE forbids downloading",
        ", or ".join(way_out for way_out in ways_out if way_out),
    )


def _keras_directory(environment: Mapping[str, str]) -> Path | None:
    """Where Keras keeps what it has downloaded; None without a home directory."""
    if keras_home := environment.get("KERAS_HOME"):
        return _expand_home(Path(keras_home)) / "datasets"
    home = find_home()
    return home / ".keras" / "datasets" if home else None


def _expand_home(path: Path) -> Path:
    """A shell does not expand the tilde of `--data-dir=~/data`."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
