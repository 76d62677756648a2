"""From a data set's name to the data: find or download its files, and read them.

A data set is a module of this package with a `SPEC`, and a line of `CLASS_COUNTS` in
`mnistcli.config.schema`. The module is imported when it is asked for, so that none pays for
another's reader.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import cast

from mnistcli.config.schema import CLASS_COUNTS, AnyDataset, FilesConfig
from mnistcli.datasets.base import (
    Dataset,
    DatasetInfo,
    DatasetSpec,
    FileDataset,
    FileSource,
    OtherDatasetError,
    SplitName,
    is_file,
    is_folder,
)
from mnistcli.datasets.download import OnDownload, download_file
from mnistcli.errors import DataError, ResourceError
from mnistcli.optional_imports import require_scikit_learn
from mnistcli.user_folders import find_cache, find_home

_VARIABLE = "MNISTCLI_DATA_DIR"
_NO = ("", "0", "false", "no", "off")
_LOG = logging.getLogger(__name__)


def _ignore_progress(name: str, received_bytes: int, total_bytes: int | None) -> None:
    """Show nothing."""


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


def list_specs() -> tuple[DatasetSpec, ...]:
    """Return the specs of all data sets, in the order of the registry."""
    return tuple(get_spec(name) for name in CLASS_COUNTS)


def get_spec(name: str) -> DatasetSpec:
    """Import a data set's module and return its spec.

    Args:
        name: of a data set, as the registry has it; neither `auto` nor `files`.
    """
    return cast("DatasetSpec", import_module(f"mnistcli.datasets.{name}").SPEC)


def get_info(dataset: AnyDataset) -> DatasetInfo:
    """Return the facts about a data set that are known before it is read.

    They hold for every copy of a published data set, and no file is looked for. Of the user's own
    images a folder is listed, or a file's headers are read.

    Args:
        dataset: the config. `auto` gives MNIST's: what may stand in has the same shape.

    Raises:
        DataError: the user's own images are not there, or not laid out as they have to be.
    """
    if isinstance(dataset, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.get_info(dataset)
    return get_spec("mnist" if dataset.name == "auto" else dataset.name).info


def recall_info(config: FilesConfig) -> DatasetInfo:
    """Return what a run's record tells of the user's own images, which may be gone."""
    from mnistcli.datasets import image_folder

    return image_folder.recall_info(config)


def load_dataset(dataset: AnyDataset, splits: frozenset[SplitName], search: DataSearch) -> Dataset:
    """Read a data set into memory; find or download its files first.

    Only the splits that are asked for are read and hashed. No data set is swapped for another,
    except by `auto`, which asks for it: MNIST where it can be had, else synthetic digits, with
    the reason as the first of the warnings. "Had" means found or downloaded. An MNIST that was
    found and turns out to be damaged is an error under `auto` too: the user believes to have it,
    and results that change because a file broke must not look like a choice.

    Args:
        dataset: the config.
        splits: those that are needed.
        search: where to look, from `search_from_environment`.

    Raises:
        DataError: not found and not to be downloaded, or damaged.
        ResourceError: a download or the cache cannot be written; or the package that brings the
            data set is not installed.
    """
    if isinstance(dataset, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.read_dataset(
            dataset, splits, search.cache_directory, search.on_preparation
        )
    if dataset.name == "auto":
        return _load_mnist_or_synthetic(splits, search)
    spec = get_spec(dataset.name)
    if isinstance(spec, FileDataset):
        return read_files(spec, locate_files(spec, search), splits, search)
    return spec.make(splits, search.cache_directory)


def read_files(
    spec: FileDataset, path: Path, splits: frozenset[SplitName], search: DataSearch
) -> Dataset:
    """Read files that were found; folders that were asked for and passed over come as warnings.

    Args:
        spec: of the data set.
        path: what `locate_files` returned.
        splits: those that are needed.
        search: where was looked.

    Raises:
        DataError: they are damaged or incomplete.
        OtherDatasetError: they are the published files of another data set.
    """
    dataset = spec.read(path, splits)
    if dataset.identity.known_as is None:
        _refuse_other_files(spec, path, dataset, search)
    return replace(dataset, warnings=missing_directories(search, path) + dataset.warnings)


def resolve_dataset(config: AnyDataset, dataset: Dataset) -> AnyDataset:
    """Return the config with what was found: `auto`'s choice, or the user's own images.

    Args:
        config: as loaded.
        dataset: what it led to.
    """
    if isinstance(config, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.resolve(config, dataset)
    return config.model_copy(update={"name": dataset.info.name})


def locate_dataset(dataset: AnyDataset, search: DataSearch) -> Path | None:
    """Find a data set's files, or download them where that is allowed; nothing is read.

    Args:
        dataset: the config of one data set, not `auto`.
        search: where to look, from `search_from_environment`.

    Returns:
        The file or folder; None for data sets that are built in.

    Raises:
        DataError: not found and not to be downloaded.
        ResourceError: the download cannot be written, or the package that brings the data set is
            not installed.
    """
    if isinstance(dataset, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.locate(dataset)
    spec = get_spec(dataset.name)
    if isinstance(spec, FileDataset):
        return locate_files(spec, search)
    if spec.package:
        require_scikit_learn()
    return None


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


def locate_files(spec: FileDataset, search: DataSearch) -> Path:
    """Find a data set's files, or download them where that is allowed.

    Nothing is read here: files that are found and turn out to be damaged are the reader's error.

    Returns:
        The file or folder to read.

    Raises:
        DataError: found nowhere, and offline or not to be downloaded.
        ResourceError: the download cannot be written.
    """
    source, title = spec.source, spec.info.title
    for directory in search.directories:
        if found := source.find(directory):
            _LOG.debug("%s: found %s", title, found)
            if source.folder and found == search.download_directory / source.folder:
                break  # a download of several files may have broken off between two of them
            return found
        _LOG.debug("%s: not in %s", title, directory)
    else:
        if search.offline:
            raise _not_found(spec, search)
    return _download_files(source, search)


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


def _load_mnist_or_synthetic(splits: frozenset[SplitName], search: DataSearch) -> Dataset:
    from mnistcli.datasets import mnist

    try:
        path = locate_files(mnist.SPEC, search)
    except (DataError, ResourceError) as error:
        from mnistcli.datasets import synthetic

        warning = (
            "MNIST cannot be had, so synthetic digits are used in its place"
            f" ({error.where}: {error.what})"
        )
        stand_in = synthetic.read_dataset(splits, search.cache_directory)
        return replace(stand_in, warnings=(warning, *stand_in.warnings))
    return read_files(mnist.SPEC, path, splits, search)  # damage is an error: outside the try


def _refuse_other_files(
    spec: FileDataset, path: Path, dataset: Dataset, search: DataSearch
) -> None:
    """Compare unknown contents with what other data sets published: some share names of files."""
    arrays, title, folder = dataset.identity.arrays, spec.info.title, spec.source.folder
    for other in list_specs():
        if not isinstance(other, FileDataset) or other is spec:
            continue
        known = other.array_sha256.keys() & arrays.keys()
        if known and all(arrays[name] == other.array_sha256[name] for name in known):
            what = f"these are {other.info.title}'s files, not {title}'s"
            hint = f"name the folder of {title} with --data-dir"
            if folder:
                hint = f"{hint}, or put it into {search.download_directory / folder}"
            raise OtherDatasetError(str(path), what, hint)


def _download_files(source: FileSource, search: DataSearch) -> Path:
    """Download the files that are not there yet; those that are may be unpacked."""
    folder = search.download_directory / source.folder
    for remote in source.downloads:
        names = (remote.name, remote.name.removesuffix(".gz"))
        if not search.offline and not any(is_file(folder / name) for name in names):
            download_file(remote, folder, search.on_download, source.alternative)
    return folder if source.folder else folder / source.downloads[0].name


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


def _not_found(spec: FileDataset, search: DataSearch) -> DataError:
    """The whole list: a user who knows where was looked knows what to correct."""
    places = [
        str(directory) if is_folder(directory) else f"{directory} (no such folder)"
        for directory in search.directories
    ]
    ways_out = (
        "name its folder with --data-dir",
        "unset MNISTCLI_OFFLINE to download it",
        spec.source.alternative,
    )
    return DataError(
        spec.info.title,
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
