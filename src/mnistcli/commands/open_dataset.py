"""Find or download the data set of a command, and split it as a config says."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from mnistcli.config.schema import AnyDataset, Config, FilesConfig
from mnistcli.datasets.base import BOTH_SPLITS, Dataset, Split, SplitName, split_validation
from mnistcli.datasets.registry import has_files, load_dataset, search_from_environment
from mnistcli.errors import DataError, pluralize
from mnistcli.images.options import ImageKind
from mnistcli.output.logs import note, warn
from mnistcli.output.progress import DownloadDisplay
from mnistcli.output.terminal import ProgressMode, choose_progress

_LOG = logging.getLogger(__name__)

_Key = tuple[tuple[object, ...], frozenset[SplitName], Path | None]
_cache: ContextVar[dict[_Key, Dataset] | None] = ContextVar("_cache", default=None)


def make_files_config(data: str | os.PathLike[str]) -> FilesConfig:
    """Return the config of custom images in a place; reading them finds what is wrong with it.

    A name that is no text would fail here, with pydantic's words.
    """
    return FilesConfig(name="files", path=".").model_copy(update={"path": os.fspath(data)})


@contextlib.contextmanager
def cache_dataset() -> Iterator[None]:
    """Let consecutive runs in one process share the data set that was opened last."""
    token = _cache.set({})
    try:
        yield
    finally:
        _cache.reset(token)


def open_dataset(
    config: AnyDataset,
    splits: frozenset[SplitName],
    data_dir: Path | None = None,
    progress: ProgressMode = "auto",
    required_arrays: Mapping[str, str] | None = None,
    image_kind: ImageKind = "custom",
) -> Dataset:
    """Find or download a data set, read splits of it, and show its notes and warnings.

    Args:
        config: which data set.
        splits: what is read of it.
        data_dir: the folder to look in; None for those of the environment.
        progress: how downloads are shown on stderr.
        required_arrays: the sha256 that each array of custom images has to have, where their place
            comes from a checkpoint's record: it may name any folder of this machine.
        image_kind: how your own pictures are prepared, which a network decides.

    Raises:
        DataError: it is missing, unreachable or invalid, or not the images that are required.
        ResourceError: what is decoded or unpacked of it cannot be kept.
    """
    key = ((*_make_key(config, required_arrays), image_kind), splits, data_dir)
    cache = _cache.get()
    if cache is not None and key in cache:
        return cache[key]
    if cache is not None:
        cache.clear()  # before the next one is read: two may be too much
    mode = choose_progress(progress, silent=False)
    dataset = _read_dataset(
        config, splits, data_dir, mode, required_arrays=required_arrays, image_kind=image_kind
    )
    if cache is not None:
        cache[key] = dataset
    return dataset


def fetch_dataset(
    config: AnyDataset, data_dir: Path | None = None, progress: ProgressMode = "auto"
) -> tuple[Dataset | None, bool]:
    """Find a data set's files or download them, and read all of them, so that damage is found.

    Returns:
        The data set, None for what is built in; and whether files were downloaded just now.

    Raises:
        DataError: it is missing and cannot be downloaded, or it is invalid.
        ResourceError: the download cannot be written.
    """
    if not has_files(config):
        return None, False
    downloaded: set[str] = set()
    mode = choose_progress(progress, silent=False)
    dataset = _read_dataset(config, BOTH_SPLITS, data_dir, mode, downloaded)
    return dataset, bool(downloaded)


def choose_splits(config: Config, dataset: Dataset) -> tuple[Split, Split | None]:
    """Return the training set of a config, and its validation set, if any.

    Raises:
        DataError: the validation fraction leaves one of them empty.
    """
    held_out = config.dataset.validation
    if held_out == "test":
        return dataset.train, dataset.test
    if held_out == 0:
        return dataset.train, None
    train, validation = split_validation(dataset.train, held_out, config.training.seed)
    if len(train) == 0 or len(validation) == 0:
        images = pluralize(len(dataset.train), "image")
        what = f"validation {held_out:g} of {images} leaves one part empty"
        raise DataError(dataset.info.name, what, "choose another fraction with --validation")
    return train, validation


def _make_key(config: AnyDataset, required_arrays: Mapping[str, str] | None) -> tuple[object, ...]:
    """Return the settings that decide which data are read."""
    if isinstance(config, FilesConfig):
        required = None if required_arrays is None else frozenset(required_arrays.items())
        return config.name, config.path, config.size, config.classes, required
    return (config.name,)


def _read_dataset(
    config: AnyDataset,
    splits: frozenset[SplitName],
    data_dir: Path | None,
    progress: ProgressMode,
    downloaded: set[str] | None = None,
    required_arrays: Mapping[str, str] | None = None,
    image_kind: ImageKind = "custom",
) -> Dataset:
    """Read a data set, show its notes and warnings, and collect the names of downloaded files."""
    downloads, preparations = DownloadDisplay(progress), DownloadDisplay(progress, "preparing")

    def show_download(file: str, received_bytes: int, total_bytes: int | None) -> None:
        if downloaded is not None:
            downloaded.add(file)
        downloads.show(file, received_bytes, total_bytes)

    try:
        search = replace(
            search_from_environment(data_dir),
            on_download=show_download,
            on_preparation=preparations.show,
            required_arrays=required_arrays,
            image_kind=image_kind,
        )
        dataset = load_dataset(config, splits, search)
    finally:
        downloads.close()
        preparations.close()
    _log_identity(dataset)
    for text in dataset.notes:
        note(text)
    for text in dataset.warnings:
        warn(text)
    return dataset


def _log_identity(dataset: Dataset) -> None:
    identity = dataset.identity
    named = identity.known_as or f"{dataset.info.title}, unknown contents"
    counts = " and ".join(f"{len(dataset.splits[n])} {n}" for n in sorted(dataset.splits)[::-1])
    sha256 = identity.sha256 or "of parts only"
    _LOG.info("data: %s, %s, from %s, sha256 %s", named, counts, identity.location, sha256)
    for array, digest in identity.arrays.items():
        _LOG.debug("data: %s has sha256 %s", array, digest)
