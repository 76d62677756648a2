"""A checkpoint together with what using it takes: how pixels become input, and which data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.reader import Checkpoint, interpret_checkpoint
from mnistcli.checkpoints.untrusted.process import ParsingChild
from mnistcli.commands.data_places import Places
from mnistcli.commands.model_dataset import choose_dataset
from mnistcli.commands.open_dataset import choose_splits, open_dataset
from mnistcli.config.allowed_values import SPLITS, check_choice, get_choices
from mnistcli.config.schema import AnyDataset, DatasetConfig, FilesConfig, Normalization
from mnistcli.datasets.base import WHITE, Dataset, DatasetInfo, Split, SplitName
from mnistcli.datasets.registry import get_info, recall_info
from mnistcli.errors import UsageError
from mnistcli.metrics.scores import LossSpec, Score, evaluate_logits
from mnistcli.models.input_scaling import Preprocessing, fit_preprocessing
from mnistcli.models.layers import BatchNormalization, Rescaling
from mnistcli.models.numpy_inference import run_network
from mnistcli.models.regularization import compute_penalty
from mnistcli.output.terminal import Output

_DATASET, _DATA = "--dataset", "--data"


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint that is ready to be used.

    Attributes:
        checkpoint: with its weights.
        dataset: whose images and classes these are; null for other people's files when neither
            `--dataset` nor `--data` says so.
        normalization: from the command line; null leaves it to the file.
        places: where data lie, from the command line.
    """

    checkpoint: Checkpoint
    dataset: AnyDataset | None
    normalization: Normalization | None
    places: Places
    console: Output

    @property
    def dataset_name(self) -> str | None:
        """The data set's name, as configs have it."""
        return self.dataset.name if self.dataset is not None else None

    @property
    def info(self) -> DatasetInfo | None:
        """What is known of the data set without looking for it."""
        if isinstance(self.dataset, FilesConfig):
            return recall_info(self.dataset)
        return get_info(self.dataset) if self.dataset is not None else None

    @property
    def max_value(self) -> int:
        """The largest value of a pixel; an image file's where nothing names the data."""
        return self.info.max_value if self.info is not None else WHITE

    def brighten(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return images as they are drawn, from 0 (black) to 255 (white)."""
        return self.info.brighten(images) if self.info is not None else images

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels in class order; numbers where nothing names the classes."""
        if self.checkpoint.record is not None:
            return self.checkpoint.record.class_names
        units = self.checkpoint.architecture.output_shape[-1]
        count = 2 if units == 1 else units
        if self.info is not None and len(self.info.class_names) == count:
            return self.info.class_names
        return tuple(str(index) for index in range(count))

    def choose_preprocessing(self) -> Preprocessing:
        """Return how pixels become input: as asked for, as recorded, or as is usual.

        Raises:
            UsageError: `standard` was asked for, and no data set says what that means.
            DataError: the training set that it means cannot be read.
        """
        record = self.checkpoint.record
        if self.normalization is None and record is not None:
            return record.preprocessing
        normalization = self.normalization or self._guess_normalization()
        if normalization != "standard":
            return fit_preprocessing(normalization, np.empty(0, np.uint8), self.max_value)
        if self.dataset is None:
            what = "standard needs the training set's mean and deviation"
            raise UsageError("--normalization", what, f"say which with {_DATASET}")
        images = self.open(frozenset({"train"})).train.images
        return fit_preprocessing("standard", images, self.max_value)

    def _guess_normalization(self) -> Normalization:
        """Say what is assumed of a file that does not tell."""
        scales_itself = any(
            isinstance(layer, Rescaling | BatchNormalization)
            for layer in self.checkpoint.architecture.layers[:2]
        )
        normalization: Normalization = "none" if scales_itself else "unit"
        divided = f"pixels are divided by {self.max_value}"
        assumed = "pixels are used as they are" if scales_itself else divided
        self.console.note(
            f"{self.checkpoint.path} does not say how pixels were scaled: {assumed}"
            f" (--normalization {normalization})"
        )
        return normalization

    def open(self, splits: frozenset[SplitName]) -> Dataset:
        """Read splits of the data set, and tell where they are not those of the run.

        Raises:
            UsageError: nothing says which data set it is.
            DataError: it is missing, unreachable or invalid.
        """
        if self.dataset is None:
            where, shape = str(self.checkpoint.path), self.checkpoint.architecture.input_shape
            what = f"the file does not say which data it is for (its input is {shape})"
            raise UsageError(where, what, f"name them with {_DATASET}, or your own with {_DATA}")
        dataset = open_dataset(self.dataset, splits, self.places.directory, self.console)
        record = self.checkpoint.record
        if record is not None and record.dataset.name == dataset.identity.name:
            recorded = record.dataset.arrays
            if any(recorded.get(k, v) != v for k, v in dataset.identity.arrays.items()):
                self.console.warn(
                    f"{dataset.identity.location}: not the data that"
                    f" {self.checkpoint.path} was trained on"
                )
        return dataset

    def read_split(self, name: str) -> Split:
        """Return the split that a command names.

        Raises:
            UsageError: there is no such split in this run.
            DataError: the data are missing, unreachable or invalid.
        """
        check_choice(name, SPLITS, "--split")
        record = self.checkpoint.record
        held_out = record.config.dataset.validation if record is not None else 0.0
        if name == "test":
            return self.open(frozenset({"test"})).test
        if name == "train" and held_out in (0.0, "test"):
            return self.open(frozenset({"train"})).train
        if record is None or held_out in (0.0, "test"):
            what = f"{self.checkpoint.path} held no validation set out of its training set"
            raise UsageError("--split", what, "use --split test")
        train, validation = choose_splits(record.config, self.open(frozenset({"train"})))
        return train if name == "train" else cast(Split, validation)

    def score(self, split: Split, logits: NDArray[np.float32]) -> Score:
        """Return how logits that `run` gave for a split's images fare on its labels."""
        checkpoint = self.checkpoint
        return evaluate_logits(
            logits,
            split.labels,
            checkpoint.architecture.head,
            checkpoint.loss or LossSpec("sparse_categorical_crossentropy"),
            self.class_names,
            compute_penalty(checkpoint.architecture, checkpoint.weights),
        )

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's logits [n, units] for raw images."""
        checkpoint = self.checkpoint
        return run_network(
            checkpoint.architecture, checkpoint.weights, images, self.choose_preprocessing()
        )


def open_model(
    path: Path,
    child: ParsingChild,
    dataset: str | None,
    normalization: str | None,
    places: Places,
    console: Output,
) -> TrainedModel:
    """Return a checkpoint, ready to be used, from the child that is reading it.

    Raises:
        CheckpointError: it is damaged or refused.
        UsageError: a flag names no data set or normalization, or one that does not fit.
        DataError: images of one's own that a flag names cannot be looked at.
    """
    checkpoint = interpret_checkpoint(path, child.result())
    for warning in checkpoint.warnings:
        console.warn(warning)
    config = choose_dataset(checkpoint, dataset, places.own)
    if normalization is not None:
        check_choice(normalization, get_choices(DatasetConfig, "normalization"), "--normalization")
    return TrainedModel(
        checkpoint, config, cast("Normalization | None", normalization), places, console
    )
