"""`doctor`: check the installation, the hardware, the data, the folders and a checkpoint."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mnistcli import __version__
from mnistcli.available_memory import read_available_memory
from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import (
    count_processors,
    describe_environment,
    find_version,
    list_differences,
    read_processor_features,
)
from mnistcli.commands.open_dataset import make_files_config
from mnistcli.commands.summary import describe_training
from mnistcli.config.schema import FilesConfig
from mnistcli.datasets.base import BOTH_SPLITS, BuiltInDataset, FileDataset, OtherDatasetError
from mnistcli.datasets.registry import (
    DataSearch,
    get_info,
    list_specs,
    locate_files,
    read_files,
    search_from_environment,
)
from mnistcli.errors import CheckpointError, DataError, MnistcliError, ResourceError
from mnistcli.optional_imports import require_scikit_learn
from mnistcli.output.results import (
    CheckpointResult,
    DirectoryResult,
    DoctorResult,
    LocatedDatasetResult,
    describe_error,
)
from mnistcli.training.xla_cache import check_xla_flags

_LIBRARIES = ("keras", "tensorflow", "numpy", "h5py")


@dataclass(frozen=True)
class Diagnosis:
    """The state of the installation, and what keeps `train` and `evaluate` from running.

    Attributes:
        result: the facts; its `problems` describe the errors.
        errors: in the order in which they were found.
    """

    result: DoctorResult
    errors: tuple[MnistcliError, ...]


def diagnose(
    model: str | os.PathLike[str] | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Diagnosis:
    """Check what `train` and `evaluate` need: versions, processor, data, folders, a checkpoint.

    Args:
        model: a checkpoint to check too.
        data: your own images, a folder or an .npz file.
        data_dir: the folder of the published data sets.

    Raises:
        DataError: `--data-dir` is no folder.
    """
    path = None if model is None else Path(model)
    problems: list[MnistcliError] = []
    search = search_from_environment(None if data_dir is None else Path(data_dir))
    versions = _find_versions(problems)
    directories = tuple(_list_directories(search))
    if not directories[0].writable:
        hint = "go to another folder, or choose a place with -o"
        problems.append(ResourceError(directories[0].path, "this folder is not writable", hint))
    try:
        check_xla_flags()
    except ResourceError as error:
        problems.append(error)
    checkpoint = None if path is None else _read_checkpoint(path, problems)
    needed = {"mnist"} if path is None else set()
    if checkpoint is not None and checkpoint.record is not None:
        needed = {checkpoint.record.dataset.name}
    datasets = (
        *_list_datasets(search, needed, problems),
        *_describe_custom_images(_find_custom_images(checkpoint, data), problems),
    )
    processors = os.cpu_count() or 1
    result = DoctorResult(
        versions=versions,
        processor=platform.machine(),
        processor_features=read_processor_features(),
        processors=processors,
        threads=count_processors(),
        available_memory=read_available_memory(),
        datasets=datasets,
        directories=directories,
        checkpoint=None if checkpoint is None else _describe_checkpoint(checkpoint),
        problems=tuple(map(describe_error, problems)),
    )
    return Diagnosis(result, tuple(problems))


def _find_versions(problems: list[MnistcliError]) -> dict[str, str | None]:
    """Return the versions of installed packages, without importing them."""
    versions = {name: find_version(name) for name in _LIBRARIES}
    for name, version in versions.items():
        if version is None:
            hint = f"install it: python -m pip install {name}"
            problems.append(ResourceError(name, "not installed", hint))
    return {"mnistcli": __version__, "python": platform.python_version(), **versions}


def _list_directories(search: DataSearch) -> Iterator[DirectoryResult]:
    """Describe the folders that are written to, the working directory first."""
    for purpose, directory in (
        ("checkpoints", Path.cwd()),
        ("downloads", search.download_directory),
        ("cache", search.cache_directory),
    ):
        yield DirectoryResult(
            purpose=purpose,
            path=str(directory),
            exists=directory.is_dir(),
            writable=_is_writable(directory),
        )


def _is_writable(directory: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself if it is missing."""
    existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _list_datasets(
    search: DataSearch, needed: set[str], problems: list[MnistcliError]
) -> Iterator[LocatedDatasetResult]:
    """Find and read the data sets that are files, and describe those that are built in."""
    for spec in list_specs():
        is_needed = spec.info.name in needed
        if isinstance(spec, FileDataset):
            yield _read_files(spec, search, problems, is_needed=is_needed)
        else:
            yield _describe_built_in(spec, problems, is_needed=is_needed)


def _read_files(
    spec: FileDataset, search: DataSearch, problems: list[MnistcliError], *, is_needed: bool
) -> LocatedDatasetResult:
    """Read a data set's files, so that damage is found."""
    name = spec.info.name
    path = _locate(spec, search, problems, is_needed=is_needed)
    if path is None:
        note = "not found" if search.offline else "not found: downloaded when it is needed"
        return _describe_missing(name, note)
    try:
        identity = read_files(spec, path, BOTH_SPLITS, search).identity
    except OtherDatasetError as error:
        if is_needed:
            problems.append(error)
        return _describe_missing(name, f"not found: in {path} {error.what}")
    except DataError as error:
        problems.append(error)
        return _describe_missing(name, f"damaged: {path}")
    return LocatedDatasetResult(
        name=name,
        location=identity.location,
        sha256=identity.sha256,
        known_as=identity.known_as,
        note="unknown contents" if identity.known_as is None else "",
    )


def _find_custom_images(
    checkpoint: Checkpoint | None, data: str | os.PathLike[str] | None
) -> FilesConfig | None:
    """Return the config of your own images; None without any."""
    record = checkpoint.record if checkpoint is not None else None
    recorded = record.config.dataset if record is not None else None
    own = {} if data is None else {"path": os.fspath(data)}
    if isinstance(recorded, FilesConfig):
        return recorded.model_copy(update=own)
    return None if data is None else make_files_config(data)


def _describe_custom_images(
    config: FilesConfig | None, problems: list[MnistcliError]
) -> Iterator[LocatedDatasetResult]:
    """Describe your own images without decoding them, which would write to the cache."""
    if config is None:
        return
    try:
        info = get_info(config)
    except DataError as error:
        problems.append(error)
        yield _describe_missing(config.name, "not found, or not laid out as images of one's own")
        return
    note = f"{info.train_count:,} training and {info.test_count:,} test images, not read"
    yield LocatedDatasetResult(
        name=config.name, location=config.path, sha256=None, known_as=None, note=note
    )


def _describe_built_in(
    spec: BuiltInDataset, problems: list[MnistcliError], *, is_needed: bool
) -> LocatedDatasetResult:
    """Describe a built-in data set, or whether the package that it comes with is installed."""
    name, count = spec.info.name, f"{spec.info.train_count:,} examples"
    if not spec.package:
        return _describe_missing(name, f"built in: {count}")
    try:
        require_scikit_learn()
    except ResourceError as error:
        if is_needed:
            problems.append(error)
        return _describe_missing(name, f"not found: {spec.package} is not installed")
    return _describe_missing(name, f"comes with {spec.package}: {count}")


def _locate(
    spec: FileDataset, search: DataSearch, problems: list[MnistcliError], *, is_needed: bool
) -> Path | None:
    """Find a data set's files without downloading them."""
    try:
        return locate_files(spec, replace(search, offline=True))
    except DataError as error:
        directory = search.download_directory
        if is_needed and search.offline:
            problems.append(error)
        elif is_needed and not _is_writable(directory):
            hint = "name a folder that is, with --data-dir or MNISTCLI_DATA_DIR"
            what = f"{spec.info.title} cannot be downloaded into it: not writable"
            problems.append(ResourceError(str(directory), what, hint))
        return None


def _describe_missing(name: str, note: str) -> LocatedDatasetResult:
    """Describe a data set without a file."""
    return LocatedDatasetResult(name=name, location=None, sha256=None, known_as=None, note=note)


def _read_checkpoint(path: Path, problems: list[MnistcliError]) -> Checkpoint | None:
    """Read a checkpoint with its weights, so that checksum, structure and arrays are checked."""
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        problems.append(error)
        return None


def _describe_checkpoint(checkpoint: Checkpoint) -> CheckpointResult:
    """Describe a checkpoint, and why it could not be reproduced here."""
    record = checkpoint.record
    differences: tuple[str, ...] = ()
    if record is not None and all(map(find_version, _LIBRARIES)):
        here = describe_environment(record.environment.threads, record.environment.devices)
        differences = list_differences(record.environment, here)
    unsealed = "gone" if checkpoint.is_changed else "none"
    return CheckpointResult(
        path=str(checkpoint.path),
        seal=unsealed if record is None else "intact",
        layers=len(checkpoint.architecture.layers),
        parameters=checkpoint.architecture.parameter_count,
        training=None if record is None else describe_training(record, checkpoint),
        differences=differences,
    )
