"""Reads a data set, and shows what `data` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mnistcli.commands.open_dataset import open_dataset
from mnistcli.commands.output_files import PictureOutput
from mnistcli.commands.plot import check_tile_count, refuse_numbers
from mnistcli.config.schema import AnyDataset, DatasetConfig, Normalization
from mnistcli.datasets.base import BOTH_SPLITS, Dataset, Split, SplitName
from mnistcli.datasets.registry import get_info
from mnistcli.errors import UsageError
from mnistcli.models.input_scaling import Preprocessing, fit_preprocessing
from mnistcli.output.plots.plot_kinds import Heading, Tiles, compose_images
from mnistcli.output.results import ArrayResult, DataResult, ExampleResult, PictureResult
from mnistcli.output.terminal import emit


@dataclass(frozen=True)
class View:
    """What of a data set is shown; the flags of `data`, checked one by one."""

    split: str | None
    first: int | None
    index: int | None
    matrix: str | None
    normalization: str

    @property
    def draws(self) -> bool:
        """Whether images are shown; facts about all of it otherwise."""
        return self.first is not None or self.index is not None

    @property
    def image_split(self) -> SplitName:
        """Where images are taken from."""
        return cast("SplitName", self.split or "test")

    def list_splits(self) -> frozenset[SplitName]:
        """Name the splits that have to be read."""
        if self.normalization == "standard":
            return frozenset({"train", self.image_split})
        if self.draws or self.split is not None:
            return frozenset({self.image_split})
        return BOTH_SPLITS


def view_dataset(
    config: AnyDataset, view: View, data_dir: Path | None, target: PictureOutput, *, json: bool
) -> None:
    """Carry out `mnistcli data`.

    Raises:
        UsageError: the row does not exist, or there are no images to draw.
        DataError: the data are missing, unreachable or invalid.
    """
    console = target.console
    check_tile_count(view.first)
    if view.first is not None and isinstance(config, DatasetConfig):
        refuse_numbers(get_info(config), "--first")
    dataset = open_dataset(config, view.list_splits(), data_dir, console)
    info = dataset.info
    example = None if view.index is None else _describe_example(dataset, view, view.index)
    written = None
    if view.draws and len(info.image_shape) > 1:
        written = target.deliver(_compose_images(dataset, view))
    answer = describe_dataset(dataset, example, written)
    if json:
        emit(answer, "json")
        return
    if example is not None or not view.draws:
        emit(answer)
    if written is not None:
        (console.note if target.shows or example else console.print_line)(written.path)


def _compose_images(dataset: Dataset, view: View) -> Tiles:
    """Choose the images, and label them."""
    split, names = dataset.splits[view.image_split], dataset.info.class_names
    start = view.index or 0
    rows = slice(start, start + (1 if view.first is None else view.first))
    images, labels = dataset.info.brighten(split.images[rows]), split.labels[rows]
    title = f"{dataset.info.title} {view.image_split}"
    span = f"first {len(labels)}" if view.index is None else f"row {view.index}"
    heading = Heading(f"{title}: {span}", dataset.identity.known_as or "unknown contents")
    return compose_images(heading, images, [names[label] for label in labels.tolist()])


def _describe_example(dataset: Dataset, view: View, index: int) -> ExampleResult:
    """Return the facts of one image; UsageError where there is no such row."""
    split, names = dataset.splits[view.image_split], dataset.info.class_names
    if index >= len(split):
        what = f"{index} is beyond the last of {len(split)} images"
        raise UsageError("--index", what, f"give 0 to {len(split) - 1}")
    label = int(split.labels[index])
    values: np.ndarray = split.images[index]
    if view.matrix == "normalized":
        values = _fit(dataset, view).apply(values)
    return ExampleResult(
        split=view.image_split,
        row=index,
        class_index=label,
        label=names[label],
        one_hot=tuple(int(k == label) for k in range(len(names))),
        minimum=float(values.min()),
        maximum=float(values.max()),
        matrix=None if view.matrix is None else values.tolist(),
    )


def _fit(dataset: Dataset, view: View) -> Preprocessing:
    """Return how pixels become numbers; only `standard` looks at the training set."""
    normalization = cast("Normalization", view.normalization)
    needs_train = normalization == "standard"
    images = dataset.train.images if needs_train else np.empty(0, np.uint8)
    return fit_preprocessing(normalization, images, dataset.info.max_value)


def describe_dataset(
    dataset: Dataset, example: ExampleResult | None, picture: PictureResult | None
) -> DataResult:
    """Return what is known of a data set, and of what was read of it."""
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
    """Call a split's arrays as Keras does."""
    return {f"x_{name}": split.images, f"y_{name}": split.labels}


def _describe_array(array: np.ndarray, name: str, sha256: str) -> ArrayResult:
    """Return one array's shape, dtype and range."""
    return ArrayResult(
        name=name,
        shape=array.shape,
        dtype=str(array.dtype),
        minimum=int(array.min()),
        maximum=int(array.max()),
        sha256=sha256,
    )
