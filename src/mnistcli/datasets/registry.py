"""A data set's config -> what is known of it, and the data set itself.

Each data set's module is imported when it is asked for, so that none pays for another's readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mnistcli.config.schema import AnyDataset, FilesConfig
from mnistcli.datasets.base import Dataset, DatasetInfo, SplitName
from mnistcli.datasets.download import DataSearch, Source, locate_files, missing_directories
from mnistcli.errors import DataError, ResourceError
from mnistcli.optional_imports import check_scikit_learn

_Reader = Callable[[Path, frozenset[SplitName]], Dataset]


def get_info(dataset: AnyDataset) -> DatasetInfo:
    """What is known of a data set before it is read.

    That holds for every copy of a published data set, and no file is looked for. One's own are
    looked at: a folder is listed, a file's headers are read.

    Args:
        dataset: the config. `auto` gives MNIST's: what may stand in has the same shape.

    Raises:
        DataError: one's own data are not there, or not laid out as they have to be.
    """
    if isinstance(dataset, FilesConfig):
        from mnistcli.datasets import image_folder

        return image_folder.get_info(dataset)
    match dataset.name:
        case "mnist" | "auto":
            from mnistcli.datasets import mnist

            return mnist.INFO
        case "cifar10":
            from mnistcli.datasets import cifar10

            return cifar10.INFO
        case "digits":
            from mnistcli.datasets import digits

            return digits.INFO
        case "synthetic":
            from mnistcli.datasets import synthetic

            return synthetic.INFO
        case "xor":
            from mnistcli.datasets import xor

            return xor.INFO


def recall_info(config: FilesConfig) -> DatasetInfo:
    """What a run's record tells of images of one's own, which may be gone; nothing is counted."""
    from mnistcli.datasets import image_folder

    return image_folder.recall_info(config)


def load_dataset(dataset: AnyDataset, splits: frozenset[SplitName], search: DataSearch) -> Dataset:
    """Bring a data set into memory.

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
    match dataset.name:
        case "mnist":
            from mnistcli.datasets import mnist

            return _load_files(mnist.SOURCE, mnist.read_dataset, splits, search)
        case "cifar10":
            from mnistcli.datasets import cifar10

            return _load_files(cifar10.SOURCE, cifar10.read_dataset, splits, search)
        case "digits":
            from mnistcli.datasets import digits

            return digits.read_dataset(splits)
        case "synthetic":
            from mnistcli.datasets import synthetic

            return synthetic.read_dataset(splits, search.cache_directory)
        case "xor":
            from mnistcli.datasets import xor

            return xor.read_dataset(splits)
        case "auto":
            return _load_mnist_or_synthetic(splits, search)


def _load_files(
    source: Source, read: _Reader, splits: frozenset[SplitName], search: DataSearch
) -> Dataset:
    """What all data sets have in common that come as files."""
    return _read_located(locate_files(source, search), read, splits, search)


def _read_located(
    path: Path, read: _Reader, splits: frozenset[SplitName], search: DataSearch
) -> Dataset:
    """A folder that was asked for and passed over is worth a word."""
    dataset = read(path, splits)
    return replace(dataset, warnings=missing_directories(search, path) + dataset.warnings)


def _load_mnist_or_synthetic(splits: frozenset[SplitName], search: DataSearch) -> Dataset:
    """Only finding may fail without an error; reading is outside the try."""
    from mnistcli.datasets import mnist

    try:
        path = locate_files(mnist.SOURCE, search)
    except (DataError, ResourceError) as error:
        from mnistcli.datasets import synthetic

        warning = (
            "MNIST cannot be had, so synthetic digits are used in its place"
            f" ({error.where}: {error.what})"
        )
        stand_in = synthetic.read_dataset(splits, search.cache_directory)
        return replace(stand_in, warnings=(warning, *stand_in.warnings))
    return _read_located(path, mnist.read_dataset, splits, search)


def resolve_dataset(config: AnyDataset, dataset: Dataset) -> AnyDataset:
    """Write down which data set `auto` turned out to be, and what was found of one's own.

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
    match dataset.name:
        case "mnist":
            from mnistcli.datasets import mnist

            return locate_files(mnist.SOURCE, search)
        case "cifar10":
            from mnistcli.datasets import cifar10

            return locate_files(cifar10.SOURCE, search)
        case "digits":
            check_scikit_learn()
    return None
