"""Runs a checkpoint on examples, for what shows them: pictures and reports.

Where the command line says that data lie.

Which data a checkpoint is used on: those of its record, or those that flags name.

A checkpoint together with what using it takes: how pixels become input, and which data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.reader import Checkpoint, parse_checkpoint
from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
from mnistcli.commands.open_dataset import choose_splits, open_dataset
from mnistcli.config.allowed_values import AUTO, SPLITS, check_choice, get_choices, list_data_sets
from mnistcli.config.schema import (
    AnyDataset,
    DatasetConfig,
    FilesConfig,
    Normalization,
)
from mnistcli.datasets.base import WHITE, Dataset, DatasetInfo, Split, SplitName
from mnistcli.datasets.registry import get_info, recall_info
from mnistcli.errors import UsageError
from mnistcli.metrics.scores import (
    LossSpec,
    Score,
    class_probabilities,
    evaluate_logits,
    predict_classes,
)
from mnistcli.models.input_scaling import Preprocessing, fit_preprocessing
from mnistcli.models.layers import BatchNormalization, Rescaling
from mnistcli.models.numpy_inference import (
    build_numpy_forward,
    compute_penalty,
    compute_probabilities,
    is_same_layout,
    is_supported_by_numpy,
    run_network,
)
from mnistcli.output.plots.plot_kinds import Predictions
from mnistcli.output.terminal import Output
from mnistcli.tensorflow_import import load_backend


@dataclass(frozen=True)
class Places:
    """Where to look for data; null leaves it to the environment, or to what a run recorded.

    Attributes:
        directory: `--data-dir`, for published data sets.
        own: `--data`, images of one's own.
    """

    directory: Path | None = None
    own: Path | None = None


_DATASET, _DATA, _FILES = "--dataset", "--data", "files"


def choose_dataset(checkpoint: Checkpoint, name: str | None, own: Path | None) -> AnyDataset | None:
    """Return the data set's config; null for other people's files about which nothing is said.

    Args:
        checkpoint: with its record, where it has one.
        name: from `--dataset`.
        own: from `--data`.

    Raises:
        UsageError: there is no such data set, or it is not for this network.
        DataError: one's own images cannot be looked at, as they have to be for files that do not
            say what they take.
    """
    if name is not None:
        _check_name(name)
    recorded = checkpoint.record.config.dataset if checkpoint.record is not None else None
    if own is not None and name not in (None, _FILES):
        what = f"they are no copy of {name}"
        raise UsageError(f"{_DATA} and {_DATASET}", what, "give one of them")
    if isinstance(recorded, FilesConfig) and name in (None, _FILES):
        return _complete(checkpoint, recorded, own)
    if own is not None:
        return _adapt(checkpoint, recorded, own)
    if name == _FILES:
        raise UsageError(_DATASET, "nothing says where your images are", f"give {_DATA} PATH")
    if name is not None:
        chosen = DatasetConfig(name=name)
        _check_fit(checkpoint, get_info(chosen), _DATASET)
        return chosen
    return recorded


def _check_name(name: str) -> None:
    """Refuse what is no data set; UsageError."""
    if name == AUTO:
        what = "auto chooses what to train on, a trained network has its data"
        raise UsageError(_DATASET, what, f"name them: one of {', '.join(list_data_sets())}")
    check_choice(name, list_data_sets(), _DATASET)


def _complete(checkpoint: Checkpoint, recorded: FilesConfig, own: Path | None) -> FilesConfig:
    """Take the recorded images, perhaps from another place."""
    names = checkpoint.record.class_names if checkpoint.record is not None else ()
    return recorded.model_copy(
        update={
            "path": recorded.path if own is None else str(own),
            "size": recorded.size or checkpoint.architecture.input_shape,
            "classes": recorded.classes or names,
        }
    )


def _adapt(checkpoint: Checkpoint, recorded: AnyDataset | None, own: Path) -> FilesConfig:
    """Bring one's own images to what a network takes that was trained on others."""
    config = FilesConfig(name="files", path=str(own))
    if recorded is not None and checkpoint.record is not None:
        info = get_info(recorded)
        if len(info.image_shape) == 1:
            what = f"{recorded.name} takes {info.image_shape[0]} numbers, not images"
            raise UsageError(_DATA, what, "leave it out")
        changes = {"size": info.image_shape, "classes": checkpoint.record.class_names}
        return config.model_copy(update=changes)
    info = get_info(config)
    _check_fit(checkpoint, info, _DATA)
    return config.model_copy(update={"size": info.image_shape, "classes": info.class_names})


def _check_fit(checkpoint: Checkpoint, info: DatasetInfo, flag: str) -> None:
    """Refuse data that the network was not made for before any are read; UsageError."""
    network = checkpoint.architecture
    hint = "name the data that it was trained on"
    if not is_same_layout(info.image_shape, network.input_shape):
        what = f"{info.title}'s inputs are {info.image_shape}, {checkpoint.path} takes"
        raise UsageError(flag, f"{what} {network.input_shape}", hint)
    units = network.output_shape[-1]
    if len(info.class_names) != max(2, units):
        what = f"{info.title} has {len(info.class_names)} classes, {checkpoint.path} tells"
        raise UsageError(flag, f"{what} {max(2, units)} apart", hint)


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
            checkpoint.architecture.output_activation,
            checkpoint.loss or LossSpec("sparse_categorical_crossentropy"),
            self.class_names,
            compute_penalty(checkpoint.architecture, checkpoint.weights),
        )

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's logits [n, units] for raw images."""
        checkpoint = self.checkpoint
        build_forward = build_numpy_forward
        if not is_supported_by_numpy(checkpoint.architecture):
            load_backend()
            from mnistcli.training.network_state import build_keras_forward

            build_forward = build_keras_forward
        return run_network(
            checkpoint.architecture,
            checkpoint.weights,
            images,
            self.choose_preprocessing(),
            build_forward=build_forward,
        )


def open_model(
    path: Path,
    child: ParserProcess,
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
    checkpoint = parse_checkpoint(path, child.result())
    for warning in checkpoint.warnings:
        console.warn(warning)
    config = choose_dataset(checkpoint, dataset, places.own)
    if normalization is not None:
        check_choice(normalization, get_choices(DatasetConfig, "normalization"), "--normalization")
    return TrainedModel(
        checkpoint, config, cast("Normalization | None", normalization), places, console
    )


def predict_examples(model: TrainedModel, examples: Split) -> tuple[Predictions, Score]:
    """Return what the network makes of examples, and how well.

    Raises:
        DataError: there are none, or their classes are not the network's.
    """
    architecture = model.checkpoint.architecture
    logits = model.run(examples.images)
    score = model.score(examples, logits)
    outputs = compute_probabilities(architecture, logits)
    predictions = Predictions(
        images=model.brighten(examples.images),
        rows=np.arange(len(examples)),
        probabilities=class_probabilities(outputs),
        classes=predict_classes(outputs),
        truth=examples.labels,
        labels=model.class_names,
    )
    return predictions, score
