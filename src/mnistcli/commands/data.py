"""`data`: counts, shapes, classes and location of a data set, and its images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mnistcli.commands.open_dataset import fetch_dataset, open_dataset
from mnistcli.commands.plot import (
    check_picture_path,
    check_tile_count,
    refuse_numbers,
    write_picture,
)
from mnistcli.config.allowed_values import (
    DATASET_SPLITS,
    MATRICES,
    check_choice,
    check_dataset_name,
    get_choices,
)
from mnistcli.config.loading import load_config
from mnistcli.config.overrides import Override, parse_assignment
from mnistcli.config.schema import AnyDataset, DatasetConfig, Normalization
from mnistcli.datasets.base import BOTH_SPLITS, Dataset, Split, SplitName
from mnistcli.datasets.registry import get_info
from mnistcli.errors import UsageError, pluralize, quote_words
from mnistcli.models.input_scaling import Preprocessing, fit_preprocessing
from mnistcli.output.plots.figures import Heading, ImageGrid, compose_images
from mnistcli.output.results import (
    ArrayResult,
    DataResult,
    ExampleResult,
    FetchResult,
    PictureResult,
)
from mnistcli.output.terminal import ProgressMode


@dataclass(frozen=True, eq=False)
class DatasetView:
    """What is known of a data set, and its images as a picture.

    Attributes:
        result: counts, shapes, classes and location; one image where it was asked for.
        picture: of the images that were asked for; None without any.
    """

    result: DataResult
    picture: ImageGrid | None


@dataclass(frozen=True)
class _Selection:
    """The part of a data set that was asked for."""

    split: str | None
    first: int | None
    index: int | None
    matrix: str | None
    normalization: str

    @property
    def has_images(self) -> bool:
        return self.first is not None or self.index is not None

    @property
    def image_split(self) -> SplitName:
        return cast("SplitName", self.split or "test")

    def list_splits(self) -> frozenset[SplitName]:
        """Return the splits that have to be read."""
        if self.normalization == "standard":
            return frozenset({"train", self.image_split})
        if self.has_images or self.split is not None:
            return frozenset({self.image_split})
        return BOTH_SPLITS


def view_dataset(
    name: str,
    *,
    split: str | None = None,
    first: int | None = None,
    index: int | None = None,
    matrix: str | None = None,
    normalization: str | None = None,
    data: str | os.PathLike[str] | None = None,
    size: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: ProgressMode = "auto",
) -> DatasetView:
    """Read a data set; return its facts and images.

    Args:
        name: of the data set; `files` for your own images.
        split: `train` or `test`; None for both, and for images from `test`.
        first: compose the first so many images.
        index: describe and compose the image in this row, counted from 0.
        matrix: with `index`, return the image's numbers too: `raw` or `normalized`.
        normalization: with `normalized`: `unit`, which is the default, `standard` or `none`.
        data: your own images, a folder or an .npz file.
        size: what these are resized to, as `64,64` or `64,64,3`.
        data_dir: the folder of the published data sets.
        output: the picture's file, .png or .svg; None writes none.
        overwrite: replace an existing file.
        progress: how downloads are shown on stderr.

    Raises:
        UsageError: an argument does not fit the others, the row does not exist, or there are no
            images to draw.
        DataError: the data are missing, unreachable or invalid.
        ResourceError: the picture could not be drawn or written.
    """
    config = _choose_config(name, data, size)
    _check_names(split, index, matrix, normalization)
    path = None if output is None else Path(output)
    if path is not None:
        check_picture_path(path, overwrite=overwrite)
    selection = _Selection(split, first, index, matrix, normalization or "unit")
    check_tile_count(first)
    if first is not None and isinstance(config, DatasetConfig):
        refuse_numbers(get_info(config), "--first")
    folder = None if data_dir is None else Path(data_dir)
    dataset = open_dataset(config, selection.list_splits(), folder, progress)
    example = None if index is None else _describe_example(dataset, selection, index)
    picture = written = None
    if selection.has_images and len(dataset.info.image_shape) > 1:
        picture = _compose_images(dataset, selection)
        if path is not None:
            written = write_picture(picture, path, overwrite=overwrite)
    return DatasetView(_describe_dataset(dataset, example, written), picture)


def fetch(
    name: str,
    *,
    data: str | os.PathLike[str] | None = None,
    size: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    progress: ProgressMode = "auto",
) -> FetchResult:
    """Find a data set's files or download them, and check them; see `view_dataset`.

    Raises:
        DataError: it is missing and cannot be downloaded, or it is invalid.
        ResourceError: the download cannot be written.
    """
    config = _choose_config(name, data, size)
    folder = None if data_dir is None else Path(data_dir)
    dataset, downloaded = fetch_dataset(config, folder, progress)
    location = None if dataset is None else dataset.identity.location
    return FetchResult(name=config.name, location=location, downloaded=downloaded)


def _choose_config(name: str, data: str | os.PathLike[str] | None, size: str | None) -> AnyDataset:
    """Return the data set's config as a run would have it; UsageError, ConfigError."""
    check_dataset_name(name, "NAME", "mnistcli", "data", "files")
    if (name == "files") is not (data is not None):
        hint = f"give both: {quote_words('mnistcli', 'data', 'files', '--data', data or 'PATH')}"
        raise UsageError("NAME and --data", "images of your own are the data set files", hint)
    if size is not None and data is None:
        raise UsageError("--size", f"{name} has its own", "leave it out")
    overrides = [Override("dataset.name", name, "NAME")]
    if name == "xor":
        return DatasetConfig(name="xor")  # whose rules are about networks
    if data is not None:
        overrides.append(Override("dataset.path", os.fspath(data), "--data"))
    if size is not None:
        numbers = parse_assignment(f"dataset.size=[{size}]").value
        overrides.append(Override("dataset.size", numbers, "--size"))
    return load_config(None, overrides).config.dataset


def _check_names(
    split: str | None, index: int | None, matrix: str | None, normalization: str | None
) -> None:
    """Refuse unknown names, and arguments that would have no effect; UsageError."""
    if split is not None:
        check_choice(split, DATASET_SPLITS, "--split")
    if matrix is not None:
        check_choice(matrix, MATRICES, "--matrix")
        if index is None:
            raise UsageError("--matrix", "it shows one image's numbers", "say which with --index")
    if normalization is not None:
        check_choice(normalization, get_choices(DatasetConfig, "normalization"), "--normalization")
        if matrix != "normalized":
            what = "nothing is normalized"
            raise UsageError("--normalization", what, "give it with --matrix normalized")


def _compose_images(dataset: Dataset, selection: _Selection) -> ImageGrid:
    split, names = dataset.splits[selection.image_split], dataset.info.class_names
    start = selection.index or 0
    rows = slice(start, start + (1 if selection.first is None else selection.first))
    images, labels = dataset.info.to_uint8_range(split.images[rows]), split.labels[rows]
    title = f"{dataset.info.title} {selection.image_split}"
    span = f"first {len(labels)}" if selection.index is None else f"row {selection.index}"
    heading = Heading(f"{title}: {span}", dataset.identity.known_as or "unknown contents")
    return compose_images(heading, images, [names[label] for label in labels.tolist()])


def _describe_example(dataset: Dataset, selection: _Selection, index: int) -> ExampleResult:
    """Return the facts of one image; UsageError where there is no such row."""
    split, names = dataset.splits[selection.image_split], dataset.info.class_names
    if index >= len(split):
        what = f"{index} is beyond the last of {pluralize(len(split), 'image')}"
        raise UsageError("--index", what, f"give 0 to {len(split) - 1}")
    label = int(split.labels[index])
    values: np.ndarray = split.images[index]
    if selection.matrix == "normalized":
        values = _fit_preprocessing(dataset, selection).apply(values)
    return ExampleResult(
        split=selection.image_split,
        row=index,
        class_index=label,
        label=names[label],
        one_hot=tuple(int(k == label) for k in range(len(names))),
        minimum=float(values.min()),
        maximum=float(values.max()),
        matrix=None if selection.matrix is None else values.tolist(),
    )


def _fit_preprocessing(dataset: Dataset, selection: _Selection) -> Preprocessing:
    """Return the scaling of pixels; only `standard` reads the training set."""
    normalization = cast("Normalization", selection.normalization)
    needs_train = normalization == "standard"
    images = dataset.train.images if needs_train else np.empty(0, np.uint8)
    return fit_preprocessing(normalization, images, dataset.info.max_value)


def _describe_dataset(
    dataset: Dataset, example: ExampleResult | None, picture: PictureResult | None
) -> DataResult:
    info, identity = dataset.info, dataset.identity
    splits = {name: dataset.splits[name] for name in ("train", "test") if name in dataset.splits}
    return DataResult(
        name=info.name,
        title=info.title,
        location=identity.location,
        known_as=identity.known_as,
        sha256=identity.sha256,
        image_shape=info.image_shape,
        class_names=info.class_names,
        arrays=tuple(
            _describe_array(array, name, identity.arrays[name])
            for split_name, split in splits.items()
            for name, array in _name_arrays(split_name, split).items()
        ),
        counts={name: len(split) for name, split in splits.items()},
        balance={
            name: tuple(np.bincount(split.labels, minlength=len(info.class_names)).tolist())
            for name, split in splits.items()
        },
        example=example,
        picture=picture,
    )


def _name_arrays(name: str, split: Split) -> dict[str, np.ndarray]:
    """Return a split's arrays under Keras' names."""
    return {f"x_{name}": split.images, f"y_{name}": split.labels}


def _describe_array(array: np.ndarray, name: str, sha256: str) -> ArrayResult:
    return ArrayResult(
        name=name,
        shape=array.shape,
        dtype=str(array.dtype),
        minimum=int(array.min()),
        maximum=int(array.max()),
        sha256=sha256,
    )
