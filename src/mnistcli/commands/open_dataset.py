"""Finds and opens the data that a command needs, and cuts them as a config says."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from mnistcli.config.schema import AnyDataset, Config, FilesConfig
from mnistcli.datasets.base import Dataset, Split, SplitName, split_validation
from mnistcli.datasets.registry import load_dataset, locate_dataset, search_from_environment
from mnistcli.errors import DataError
from mnistcli.output.progress import DownloadDisplay
from mnistcli.output.terminal import Output

_LOG = logging.getLogger(__name__)


_Key = tuple[tuple[object, ...], frozenset[SplitName], Path | None]
_shelf: ContextVar[dict[_Key, Dataset] | None] = ContextVar("_shelf", default=None)


@contextlib.contextmanager
def keep_dataset() -> Iterator[None]:
    """Let runs that follow each other in one process share the data set opened last."""
    token = _shelf.set({})
    try:
        yield
    finally:
        _shelf.reset(token)


def open_dataset(
    config: AnyDataset, splits: frozenset[SplitName], data_dir: Path | None, console: Output
) -> Dataset:
    """Find (or download) a data set and pass on what it has to say.

    Raises:
        DataError: it is missing, unreachable or invalid.
        ResourceError: what is decoded or unpacked of it cannot be kept.
    """
    key, shelf = (_make_key(config), splits, data_dir), _shelf.get()
    if shelf is not None and key in shelf:
        return shelf[key]
    if shelf is not None:
        shelf.clear()  # before the next one is read: two may be too much
    dataset = _read_dataset(config, splits, data_dir, console)
    if shelf is not None:
        shelf[key] = dataset
    return dataset


def _make_key(config: AnyDataset) -> tuple[object, ...]:
    """Sum up what decides which data are read; what is made of them is another matter."""
    if isinstance(config, FilesConfig):
        return config.name, config.path, config.size, config.classes
    return (config.name,)


def _read_dataset(
    config: AnyDataset, splits: frozenset[SplitName], data_dir: Path | None, console: Output
) -> Dataset:
    """Find and read it, wherever it lies."""
    downloads = DownloadDisplay(console.progress)
    preparations = DownloadDisplay(console.progress, "preparing")
    try:
        search = replace(
            search_from_environment(data_dir),
            on_download=downloads.show,
            on_preparation=preparations.show,
        )
        dataset = load_dataset(config, splits, search)
    finally:
        downloads.close()
        preparations.close()
    _log_identity(dataset)
    for note in dataset.notes:
        console.note(note)
    for warning in dataset.warnings:
        console.warn(warning)
    return dataset


def fetch_dataset(
    config: AnyDataset, data_dir: Path | None, console: Output
) -> tuple[Path | None, bool]:
    """Find a data set's files or download them; nothing is read.

    Returns:
        The file or folder, null for what is built in; and whether it was downloaded just now.

    Raises:
        DataError: it is missing and cannot be downloaded.
        ResourceError: the download cannot be written.
    """
    display, heard = DownloadDisplay(console.progress), False

    def listen(file: str, received_bytes: int, total_bytes: int | None) -> None:
        nonlocal heard
        heard = True
        display.show(file, received_bytes, total_bytes)

    try:
        search = replace(search_from_environment(data_dir), on_download=listen)
        return locate_dataset(config, search), heard
    finally:
        display.close()


def _log_identity(dataset: Dataset) -> None:
    """Write down which data these are, and where they were found."""
    identity = dataset.identity
    named = identity.known_as or f"{dataset.info.title}, unknown contents"
    counts = " and ".join(f"{len(dataset.splits[n])} {n}" for n in sorted(dataset.splits)[::-1])
    sha256 = identity.sha256 or "of parts only"
    _LOG.info("data: %s, %s, from %s, sha256 %s", named, counts, identity.location, sha256)
    for array, digest in identity.arrays.items():
        _LOG.debug("data: %s has sha256 %s", array, digest)


def choose_splits(config: Config, dataset: Dataset) -> tuple[Split, Split | None]:
    """Return what a config trains on and what it monitors."""
    held_out = config.dataset.validation
    if held_out == "test":
        return dataset.train, dataset.test
    if held_out == 0:
        return dataset.train, None
    train, validation = split_validation(dataset.train, held_out, config.training.seed)
    if len(train) == 0 or len(validation) == 0:
        what = f"validation {held_out:g} of {len(dataset.train)} images leaves one part empty"
        raise DataError(dataset.info.name, what, "choose another fraction with --validation")
    return train, validation
