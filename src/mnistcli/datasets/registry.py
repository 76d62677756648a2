"""The registry of data sets: from a name to the data, found on disk or downloaded.

A data set is a module of this package with a `SPEC`, and a line of `CLASS_COUNTS` in
`mnistcli.config.schema`. The module is imported when it is used, so that a command does not wait
for the readers of other data sets.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import cast

from mnistcli.config.schema import CLASS_COUNTS, AnyDataset, FilesConfig
from mnistcli.datasets.base import (
    BuiltInDataset,
    Dataset,
    DatasetInfo,
    DatasetSpec,
    FileDataset,
    FileLocator,
    OtherDatasetError,
    SplitName,
    is_file,
    is_folder,
)
from mnistcli.datasets.download import OnDownload, download_file
from mnistcli.errors import DataError, ResourceError
from mnistcli.file_kinds import explain_missing
from mnistcli.images.options import ImageKind
from mnistcli.optional_imports import require_scikit_learn
from mnistcli.tensorflow_import import NO_KERAS_HOME
from mnistcli.user_folders import expand_home, find_cache, find_home, make_private_folder

_VARIABLE = "MNISTCLI_DATA_DIR"
_NO = ("", "0", "false", "no", "off")
_LOG = logging.getLogger(__name__)


def _ignore_progress(name: str, received_bytes: int, total_bytes: int | None) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class DataSearch:
    """Where to look for data, and whether downloads are allowed.

    Attributes:
        directories: the folders to search, in this order.
        download_directory: the folder for downloads; created when needed.
        cache_directory: the folder for generated data; created when needed.
        offline: whether downloads are forbidden.
        on_download: called with the progress of a download: file name, bytes so far, bytes in
            total (None where that is not known).
        on_preparation: called with the progress of decoding or unpacking, likewise.
        required_arrays: the sha256 that each array of custom images has to have; None for any.
        image_kind: how custom pictures are prepared: as the images that a network was trained on.
    """

    directories: tuple[Path, ...]
    download_directory: Path
    cache_directory: Path
    offline: bool
    on_download: OnDownload = _ignore_progress
    on_preparation: OnDownload = _ignore_progress
    required_arrays: Mapping[str, str] | None = None
    image_kind: ImageKind = "custom"


def list_specs() -> tuple[DatasetSpec, ...]:
    """Return the specs of all data sets, in the order of the registry."""
    return tuple(get_spec(name) for name in CLASS_COUNTS)


def get_spec(name: str) -> DatasetSpec:
    """Import a data set's module and return its spec.

    Args:
        name: one of `CLASS_COUNTS`; neither `auto` nor `files`.
    """
    return cast("DatasetSpec", import_module(f"mnistcli.datasets.{name}").SPEC)


def get_info(dataset: AnyDataset) -> DatasetInfo:
    """Return the facts about a data set without looking for its files.

    Only custom images are looked at: a folder is listed, or a file's headers are read.

    Args:
        dataset: the config. `auto` gives MNIST's facts; synthetic digits have the same shape.

    Raises:
        DataError: custom images are missing or not laid out as expected.
    """
    if isinstance(dataset, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.get_info(dataset)
    return get_spec("mnist" if dataset.name == "auto" else dataset.name).info


def get_recorded_info(config: FilesConfig) -> DatasetInfo:
    """Return the facts about custom images that a run has recorded; they may no longer exist."""
    from mnistcli.datasets import image_folder

    return image_folder.get_recorded_info(config)


def load_dataset(dataset: AnyDataset, splits: frozenset[SplitName], search: DataSearch) -> Dataset:
    """Read splits of a data set, after finding or downloading its files.

    A data set is never replaced by another, except by `auto`: MNIST where it is found or can be
    downloaded, else synthetic digits with a warning that gives the reason. An MNIST that is found
    and damaged is an error under `auto` too: results that change because a file broke must not look
    like a choice.

    Args:
        dataset: the config.
        splits: the splits to read.
        search: where to look, from `search_from_environment`.

    Raises:
        DataError: not found and not to be downloaded, or damaged.
        ResourceError: a download or the cache cannot be written; or the package that provides the
            data set is not installed.
    """
    if isinstance(dataset, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.read_dataset(
            dataset,
            splits,
            search.cache_directory,
            search.on_preparation,
            search.required_arrays,
            search.image_kind,
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
    """Read splits from files that were found, with a warning for each missing search folder.

    Args:
        spec: of the data set.
        path: from `locate_files`.
        splits: the splits to read.
        search: the search that found them.

    Raises:
        DataError: files are damaged or missing.
        OtherDatasetError: they are the published files of another data set.
    """
    dataset = spec.read(path, splits)
    if dataset.identity.known_as is None:
        _refuse_other_files(spec, path, dataset, search)
    return replace(dataset, warnings=list_missing_directories(search, path) + dataset.warnings)


def resolve_dataset(config: AnyDataset, dataset: Dataset) -> AnyDataset:
    """Return the config of the data set that was read: the choice of `auto`, the custom images.

    Args:
        config: the config it was read by.
        dataset: what was read.
    """
    if isinstance(config, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.resolve_files_config(config, dataset)
    return config.model_copy(update={"name": dataset.info.name})


def has_files(dataset: AnyDataset) -> bool:
    """Return whether a data set consists of files; else it is built in, or comes with a package.

    Raises:
        ResourceError: that package is not installed.
    """
    if isinstance(dataset, FilesConfig):
        return True
    spec = get_spec(dataset.name)
    if isinstance(spec, BuiltInDataset) and spec.package:
        require_scikit_learn()
    return isinstance(spec, FileDataset)


def search_from_environment(data_dir: Path | None) -> DataSearch:
    """Return the search of `--data-dir` alone, or of `MNISTCLI_DATA_DIR`, then Keras' folder.

    A `--data-dir` that does not exist is an error: a misspelt one would otherwise be created and
    filled. The folder that the environment names may be created by the first download; until then
    it is skipped with a warning. Without a home directory the folder of downloads and the cache are
    below the system's temporary directory.

    Args:
        data_dir: from the command line, or None.

    Raises:
        DataError: `data_dir` is not a folder, or the variable names a file.
        ResourceError: there is no home, and others can change what is in its place.
    """
    environment = os.environ
    cache = find_cache(environment)
    directories: tuple[Path, ...]
    if data_dir is not None:
        directories = (_check_data_dir(expand_home(data_dir)),)
    else:
        directories = _list_environment_directories(environment)
        if keras := _keras_directory(environment):
            directories = tuple(dict.fromkeys((*directories, keras)))
        elif not directories:
            directories = (_make_datasets_folder(cache),)
    return DataSearch(
        directories=directories,
        download_directory=directories[0],
        cache_directory=cache,
        offline=environment.get("MNISTCLI_OFFLINE", "").lower() not in _NO,
    )


def locate_files(spec: FileDataset, search: DataSearch) -> Path:
    """Find a data set's files, or download them where that is allowed.

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
            raise _make_not_found_error(spec, search)
    return _download_files(source, search)


def list_missing_directories(search: DataSearch, found: Path) -> tuple[str, ...]:
    """Return a warning for each folder that does not exist and was searched before the right one.

    Args:
        search: the folders searched.
        found: from `locate_files`.
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
    """Compare contents with those of the other data sets: some have files of the same names."""
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


def _download_files(source: FileLocator, search: DataSearch) -> Path:
    """Download the files that are neither there nor unpacked."""
    folder = search.download_directory / source.folder
    for remote in source.downloads:
        names = (remote.name, remote.name.removesuffix(".gz"))
        if not search.offline and not any(is_file(folder / name) for name in names):
            download_file(remote, folder, search.on_download, source.alternative)
    return folder if source.folder else folder / source.downloads[0].name


def _check_data_dir(directory: Path) -> Path:
    exists = is_folder(directory)
    _refuse_file(directory, "--data-dir")
    if not exists:
        what, hint = explain_missing(
            str(directory),
            f"{directory} does not exist",
            f"correct the path, or create the folder: mkdir -p {shlex.quote(str(directory))}",
        )
        raise DataError("--data-dir", what, hint)
    return directory


def _list_environment_directories(environment: Mapping[str, str]) -> tuple[Path, ...]:
    if not (value := environment.get(_VARIABLE)):
        return ()
    named = expand_home(Path(value))
    with contextlib.suppress(OSError):  # an error of the search, if it gets there
        _refuse_file(named, _VARIABLE)
    return (named,)


def _make_datasets_folder(cache: Path) -> Path:
    folder = cache / "datasets"
    try:
        make_private_folder(folder)
    except OSError as error:
        what = f"data cannot be kept there: {error.strerror or error}"
        hint = f"name a folder for them with --data-dir or {_VARIABLE}"
        raise ResourceError(str(folder), what, hint) from error
    return folder


def _refuse_file(path: Path, where: str) -> None:
    if path.is_file():
        raise DataError(where, f"{path} is a file", f"name the folder it is in, {path.parent}")


def _make_not_found_error(spec: FileDataset, search: DataSearch) -> DataError:
    places = [
        str(directory) if is_folder(directory) else f"{directory} (no such folder)"
        for directory in search.directories
    ]
    hints = (
        f"name the folder of {spec.source.file_names} with --data-dir",
        "unset MNISTCLI_OFFLINE to download it",
        spec.source.alternative,
    )
    return DataError(
        spec.info.title,
        f"not found in {', '.join(places)}, and MNISTCLI_OFFLINE forbids downloading",
        ", or ".join(hint for hint in hints if hint),
    )


def _keras_directory(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of Keras' downloads; None without a home directory."""
    keras_home = environment.get("KERAS_HOME", NO_KERAS_HOME)
    if keras_home not in ("", NO_KERAS_HOME):
        return expand_home(Path(keras_home)) / "datasets"
    home = find_home()
    return home / ".keras" / "datasets" if home else None
