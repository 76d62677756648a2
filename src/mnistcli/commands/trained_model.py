"""A checkpoint that is ready for use: its network, how pixels become its input, and its data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.reader import Checkpoint, parse_checkpoint
from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
from mnistcli.commands.open_dataset import choose_splits, make_files_config, open_dataset
from mnistcli.commands.summary import describe_checkpoint
from mnistcli.config.allowed_values import (
    AUTO,
    SPLITS,
    check_choice,
    check_dataset_name,
    get_choices,
    list_dataset_names,
)
from mnistcli.config.schema import (
    AnyDataset,
    Config,
    DatasetConfig,
    FilesConfig,
    Normalization,
)
from mnistcli.datasets.base import (
    WHITE,
    Dataset,
    DatasetInfo,
    Split,
    SplitName,
    match_classes,
    unify_class_names,
)
from mnistcli.datasets.registry import get_info, get_recorded_info
from mnistcli.errors import CheckpointError, UsageError
from mnistcli.images.options import COLOUR_SHAPE, DIGIT_SHAPE, ImageKind
from mnistcli.metrics.losses import AnyLoss, LossSpec, UnknownLoss, compute_mean_loss
from mnistcli.metrics.scores import (
    AddedActivation,
    Classification,
    MeanLoss,
    Score,
    choose_added_activation,
    classify,
    evaluate_logits,
    find_absurd_loss,
    find_chance_accuracy,
)
from mnistcli.models.activations import apply_activation
from mnistcli.models.input_scaling import Preprocessing, fit_preprocessing, guess_normalization
from mnistcli.models.layers import Shape
from mnistcli.models.numpy_inference import (
    Forward,
    ForwardBuilder,
    build_numpy_forward,
    compute_activity_penalty,
    compute_penalty,
    is_supported_by_numpy,
    run_network,
    takes_images,
)
from mnistcli.output.logs import warn
from mnistcli.output.plots.figures import Predictions
from mnistcli.output.results import EvaluationResult, SummaryResult
from mnistcli.output.terminal import ProgressMode
from mnistcli.tensorflow_import import load_backend

if TYPE_CHECKING:
    from mnistcli.commands.predict import Images, PredictedClasses

_ADDED: dict[AddedActivation, str] = {
    "softmax": "the softmax of its outputs",
    "sigmoid": "the sigmoid of its output",
    "clip": "its output, clipped to 0 to 1",
}
MAX_CLASSES_SHOWN, MAX_CLASS_NAME = 12, 20
_DATASET, _DATA, _FILES = "--dataset", "--data", "files"

CheckpointSource = str | os.PathLike[str] | ParserProcess
"""A checkpoint's path, or the child that is reading it already."""


@dataclass(frozen=True)
class DataLocation:
    """Where to look for data; None leaves it to the environment, or to what a run recorded.

    Attributes:
        data_dir: the folder of the published data sets (`--data-dir`).
        data: your own images, a folder or an .npz file (`--data`).
    """

    data_dir: Path | None = None
    data: Path | None = None


class LoadOptions(TypedDict, total=False):
    """The keyword arguments of `load_model`, which the commands pass on to it."""

    dataset: str | None
    normalization: str | None
    data: str | os.PathLike[str] | None
    data_dir: str | os.PathLike[str] | None
    progress: ProgressMode


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint that is ready for use.

    Attributes:
        checkpoint: the file's contents, with its weights.
        dataset: the data set whose images and classes these are; None for other people's files
            when nothing says so.
        normalization: how pixels are scaled; None leaves it to the file.
        location: where to look for the data.
        progress: how downloads are shown on stderr.
        trained_on: the data set whose images it was trained on, as recorded or as the user named
            it; None where only the shape of its input tells.
    """

    checkpoint: Checkpoint
    dataset: AnyDataset | None
    normalization: Normalization | None = None
    location: DataLocation = DataLocation()
    progress: ProgressMode = "auto"
    trained_on: AnyDataset | None = None

    def predict(self, images: Images) -> PredictedClasses:
        """Predict the classes of images.

        Args:
            images: an array [n, height, width] or [n, height, width, 3], or one image without the
                first axis, of raw pixels as the data set stores them (0 to 255 for MNIST): they
                are scaled here as they were in training. Or the path of an image file or a
                folder, or several of them, prepared as `mnistcli predict` does.

        Raises:
            DataError: images are missing, invalid, or do not fit the network.
        """
        from mnistcli.commands.predict import join_predictions, predict_each

        return join_predictions(self, predict_each(self, images))

    def evaluate(self, split: str = "test") -> EvaluationResult:
        """Evaluate the network on a split of its data set.

        Args:
            split: `train`, `validation` or `test`.

        Returns:
            Loss, accuracy, per-class metrics and the confusion matrix.

        Raises:
            UsageError: there is no such split, or nothing says which data set it is.
            DataError: the data are missing, unreachable or invalid.
        """
        examples = self.read_split(split)
        score = self.score(examples, self.compute_logits(examples.images))
        return EvaluationResult(
            checkpoint=str(self.checkpoint.path),
            dataset=self.dataset_name or "",
            split=split,
            added_activation=self.added_activation,
            **dict(score),
        )

    def summary(self) -> SummaryResult:
        """Return the table of layers, and the training facts of the run."""
        return describe_checkpoint(self.checkpoint)

    @property
    def history(self) -> Mapping[str, tuple[float, ...]]:
        """The value of each metric after each epoch; empty for other people's files."""
        return self.checkpoint.progress.history

    @property
    def config(self) -> Config | None:
        """The config that the run was trained with; None for other people's files."""
        return self.checkpoint.record.config if self.checkpoint.record is not None else None

    @property
    def dataset_name(self) -> str | None:
        """The data set's name, as configs have it."""
        return self.dataset.name if self.dataset is not None else None

    @property
    def info(self) -> DatasetInfo | None:
        """What is known of the data set without reading it."""
        if isinstance(self.dataset, FilesConfig):
            return get_recorded_info(self.dataset)
        return get_info(self.dataset) if self.dataset is not None else None

    @property
    def image_shape(self) -> Shape | None:
        """The shape of its images, [height, width] or [height, width, 3]; None for other input."""
        if self.info is not None:
            return self.info.image_shape if len(self.info.image_shape) > 1 else None
        return _guess_image_shape(self.checkpoint)

    @property
    def image_kind(self) -> ImageKind:
        """How pictures become input: as the images that the network was trained on.

        It does not depend on what the network is used on, nor by which command.
        """
        if isinstance(self.trained_on, FilesConfig):
            return "custom"
        if self.trained_on is not None:
            return get_info(self.trained_on).image_kind
        kinds: dict[Shape | None, ImageKind] = {DIGIT_SHAPE: "digit", COLOUR_SHAPE: "picture"}
        return kinds.get(_guess_image_shape(self.checkpoint), "custom")

    @property
    def max_value(self) -> int:
        """The largest value of a pixel; an image file's where nothing names the data."""
        return self.info.max_value if self.info is not None else WHITE

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

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How pixels become input: as asked for, as recorded, or as is usual.

        Raises:
            UsageError: `standard` was asked for, and no data set says what that means.
            DataError: the training set that it means cannot be read.
        """
        record = self.checkpoint.record
        if self.normalization is None and record is not None:
            return record.preprocessing
        normalization = self.normalization or self._guessed_normalization
        self._warn_of_normalization(normalization)
        if normalization != "standard":
            return fit_preprocessing(normalization, np.empty(0, np.uint8), self.max_value)
        if self.dataset is None:
            what = "standard needs the training set's mean and deviation"
            raise UsageError("--normalization", what, f"say which with {_DATASET}")
        images = self.open_dataset(frozenset({"train"})).train.images
        return fit_preprocessing("standard", images, self.max_value)

    def to_uint8_range(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return images with pixels from 0 (black) to 255 (white), whatever the data set's are."""
        return self.info.to_uint8_range(images) if self.info is not None else images

    def open_dataset(self, splits: frozenset[SplitName]) -> Dataset:
        """Read splits of the data set, and warn where they are not those of the run.

        Raises:
            UsageError: nothing says which data set it is.
            DataError: it is missing, unreachable or invalid.
        """
        if self.dataset is None:
            where, shape = str(self.checkpoint.path), self.checkpoint.architecture.input_shape
            what = f"the file does not say which data it is for (its input is {shape})"
            raise UsageError(where, what, f"name them with {_DATASET}, or your own with {_DATA}")
        record = self.checkpoint.record
        is_recorded_place = record is not None and self.location.data is None
        dataset = open_dataset(
            self.dataset,
            splits,
            self.location.data_dir,
            self.progress,
            record.dataset.arrays if record is not None and is_recorded_place else None,
            self.image_kind,
        )
        if record is not None and record.dataset.name == dataset.identity.name:
            recorded = record.dataset.arrays
            if any(recorded.get(k, v) != v for k, v in dataset.identity.arrays.items()):
                place, path = dataset.identity.location, self.checkpoint.path
                warn(f"{place}: not the data that {path} was trained on")
        return self._order_classes(dataset)

    def _order_classes(self, dataset: Dataset) -> Dataset:
        """Return the data set with its classes in the order of the network's outputs."""
        names = self.class_names
        order = _match_classes(self.checkpoint, dataset.info, _DATASET)
        if order == tuple(range(len(names))):
            return dataset
        places = np.array(order, np.uint8)
        splits = {
            name: Split(split.images, places[split.labels])
            for name, split in dataset.splits.items()
        }
        info = replace(dataset.info, class_names=names)
        return replace(dataset, info=info, splits=splits)

    def read_split(self, name: str) -> Split:
        """Return a split of the data set by its name.

        Raises:
            UsageError: there is no such split in this run.
            DataError: the data are missing, unreachable or invalid.
        """
        check_choice(name, SPLITS, "--split")
        config = self.config
        held_out = config.dataset.validation if config is not None else 0.0
        if name == "test":
            return self.open_dataset(frozenset({"test"})).test
        if name == "train" and held_out in (0.0, "test"):
            return self.open_dataset(frozenset({"train"})).train
        if config is None or held_out in (0.0, "test"):
            what = f"{self.checkpoint.path} held no validation set out of its training set"
            raise UsageError("--split", what, "use --split test")
        train, validation = choose_splits(config, self.open_dataset(frozenset({"train"})))
        return train if name == "train" else cast(Split, validation)

    def compute_logits(
        self, images: NDArray[np.uint8] | NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the network's logits [n, units] for raw images.

        Raises:
            CheckpointError: some are not finite, and so tell no class.
            DataError: the images do not fit the network.
        """
        checkpoint = self.checkpoint
        logits = run_network(
            checkpoint.architecture,
            checkpoint.weights,
            images,
            self.preprocessing,
            build_forward=lambda *_: self._forward,
        )
        outputs = apply_activation(checkpoint.architecture.head.activation, logits)
        is_finite = np.isfinite(logits).all(axis=1) & np.isfinite(outputs).all(axis=1)
        if not is_finite.all():
            wrong = np.count_nonzero(~is_finite)
            what = f"its outputs are not finite for {wrong:,} of {len(logits):,} images"
            hint = "its weights, or the scaling of its input (--normalization), are too large"
            raise CheckpointError(str(checkpoint.path), what, hint)
        return logits

    def classify(self, logits: NDArray[np.float32]) -> Classification:
        """Return classes and probabilities of the logits that `compute_logits` gave."""
        checkpoint = self.checkpoint
        if self.added_activation is not None:
            what = f"{checkpoint.path} does not end in probabilities"
            warn(f"{what}: those shown are {_ADDED[self.added_activation]}")
        return classify(logits, checkpoint.architecture.head, checkpoint.loss)

    @property
    def added_activation(self) -> AddedActivation | None:
        """What turns the network's outputs into probabilities; None where they are such."""
        architecture = self.checkpoint.architecture
        units = architecture.output_shape[-1]
        return choose_added_activation(architecture.head, units, self.checkpoint.loss)

    @cached_property
    def _forward(self) -> Forward:
        """The network up to its logits; Keras' is built once for many images."""
        architecture = self.checkpoint.architecture.without_output_activation()
        return self._build_forward(architecture, self.checkpoint.weights)

    def score(self, split: Split, logits: NDArray[np.float32]) -> Score:
        """Return the score of the logits that `compute_logits` gave for a split's images."""
        loss, penalty = self._find_loss(), 0.0
        architecture, weights = self.checkpoint.architecture, self.checkpoint.weights
        mean_loss: MeanLoss = compute_mean_loss
        if isinstance(loss, LossSpec):
            inputs = (architecture, weights, split.images, self.preprocessing, self._build_forward)
            penalty = compute_penalty(architecture, weights) + compute_activity_penalty(*inputs)
            if loss.keras_config:
                load_backend()
                from mnistcli.training.compile_model import compute_keras_loss

                mean_loss = compute_keras_loss
        arguments = (logits, split.labels, architecture.head, loss, self.class_names, penalty)
        score = evaluate_logits(*arguments, mean_loss)
        if score.loss_reason is not None:
            warn(f"{self.checkpoint.path}: the loss is not known: {score.loss_reason}")
        if self.checkpoint.record is None or self.normalization is not None:
            symptom = find_absurd_loss(score, loss, penalty) or find_chance_accuracy(score)
            self._warn_of_wrong_input(symptom)
        return score

    def predict_split(self, split: Split) -> tuple[Predictions, Score]:
        """Return the predictions for labelled images, and their score.

        Raises:
            DataError: there are none, or their classes are not the network's.
        """
        logits = self.compute_logits(split.images)
        classified = self.classify(logits)
        predictions = Predictions(
            images=self.to_uint8_range(split.images),
            rows=np.arange(len(split)),
            probabilities=classified.probabilities,
            classes=classified.classes,
            true_classes=split.labels,
            labels=self.class_names,
        )
        return predictions, self.score(split, logits)

    def _find_loss(self) -> AnyLoss:
        """Return the loss, unless a penalty that is part of it is not known."""
        loss = self.checkpoint.loss
        for layer in self.checkpoint.architecture.layers:
            for regularizer in layer.regularizers:
                if regularizer.unknown is not None and isinstance(loss, LossSpec):
                    what = f"the {regularizer.target} regularizer {regularizer.unknown} of its"
                    return UnknownLoss(f"{what} layer {layer.name} is not L1 or L2", loss.name)
        return loss

    @property
    def _build_forward(self) -> ForwardBuilder:
        if is_supported_by_numpy(self.checkpoint.architecture):
            return build_numpy_forward
        load_backend()
        from mnistcli.training.network_state import build_keras_forward

        return build_keras_forward

    @cached_property
    def _guessed_normalization(self) -> Normalization:
        checkpoint = self.checkpoint
        return guess_normalization(checkpoint.architecture, checkpoint.weights, self.max_value)

    def _warn_of_normalization(self, normalization: Normalization) -> None:
        """Warn where it is guessed, and where the network scales pixels that are scaled already."""
        path, record = self.checkpoint.path, self.checkpoint.record
        if self.normalization is None:
            is_none, divided = normalization == "none", f"divided by {self.max_value}"
            warn(
                f"{path} does not say how pixels were scaled: they are"
                f" {'used as they are' if is_none else divided} (--normalization {normalization})"
            )
        elif record is None and normalization != "none" and self._guessed_normalization == "none":
            warn(
                f"{path} begins with layers that scale pixels: with --normalization"
                f" {normalization} they are scaled twice. Try --normalization none"
            )
        elif record is not None and normalization != record.config.dataset.normalization:
            trained = record.config.dataset.normalization
            warn(f"{path} was trained with --normalization {trained}, not {normalization}")

    def _warn_of_wrong_input(self, symptom: str | None) -> None:
        if symptom is None:
            return
        used = self.normalization or self._guessed_normalization
        others = [name for name in ("unit", "none") if name != used]
        flags = " or ".join(f"--normalization {name}" for name in others)
        warn(
            f"{self.checkpoint.path}: {symptom}: perhaps its input was scaled otherwise in"
            f" training. Try {flags}"
        )


def load_model(
    source: CheckpointSource,
    *,
    dataset: str | None = None,
    normalization: str | None = None,
    data: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    progress: ProgressMode = "auto",
) -> TrainedModel:
    """Load a checkpoint, without importing TensorFlow where NumPy can run its layers.

    Args:
        source: the .h5 file, of mnistcli or of Keras.
        dataset: the data set that it is used on, where the file does not say or another one is
            meant.
        normalization: `unit`, `standard` or `none`, where the file does not say.
        data: your own images, a folder or an .npz file; their current place where the model was
            trained on such images.
        data_dir: the folder of the published data sets.
        progress: how downloads are shown on stderr: `auto`, `bar`, `lines` or `none`.

    Raises:
        CheckpointError: it is missing, damaged or refused.
        UsageError: there is no such data set or normalization, or it does not fit the network.
        DataError: your own images cannot be looked at.
    """
    child = source if isinstance(source, ParserProcess) else ParserProcess(Path(source), "weights")
    checkpoint = parse_checkpoint(child.path, child.result())
    for warning in checkpoint.warnings:
        warn(warning)
    location = DataLocation(
        data_dir=None if data_dir is None else Path(data_dir),
        data=None if data is None else Path(data),
    )
    chosen = choose_dataset(checkpoint, dataset, location.data)
    if normalization is not None:
        check_choice(normalization, get_choices(DatasetConfig, "normalization"), "--normalization")
    scaling = cast("Normalization | None", normalization)
    if chosen is not None and checkpoint.architecture.is_input_open:
        network = checkpoint.architecture.fit_input(get_info(chosen).image_shape)
        checkpoint = replace(checkpoint, architecture=network)
    recorded = None if checkpoint.record is None else checkpoint.record.config.dataset
    trained_on = recorded or (None if dataset is None else chosen)
    return TrainedModel(checkpoint, chosen, scaling, location, progress, trained_on)


def _guess_image_shape(checkpoint: Checkpoint) -> Shape | None:
    """Return the shape of MNIST's or CIFAR-10's images where a network takes them."""
    network = checkpoint.architecture
    return next((s for s in (DIGIT_SHAPE, COLOUR_SHAPE) if takes_images(network, s)), None)


def choose_dataset(
    checkpoint: Checkpoint, name: str | None, data: Path | None
) -> AnyDataset | None:
    """Return the config of the data set that a checkpoint is used on.

    Args:
        checkpoint: with its record, where it has one.
        name: the data set that was asked for (`--dataset`).
        data: your own images (`--data`).

    Returns:
        None for other people's files about which nothing is said.

    Raises:
        UsageError: there is no such data set, or it does not fit this network.
        DataError: your own images cannot be looked at, as they have to be for files that do not
            say what they take.
    """
    if name is not None:
        _check_name(name)
    recorded = checkpoint.record.config.dataset if checkpoint.record is not None else None
    if data is not None and name not in (None, _FILES):
        what = f"they are no copy of {name}"
        raise UsageError(f"{_DATA} and {_DATASET}", what, "give one of them")
    if isinstance(recorded, FilesConfig) and name in (None, _FILES):
        return _complete_recorded_images(checkpoint, recorded, data)
    if data is not None:
        return _resolve_custom_images(checkpoint, recorded, data)
    if name == _FILES:
        raise UsageError(_DATASET, "nothing says where your images are", f"give {_DATA} PATH")
    if name is not None:
        chosen = DatasetConfig(name=name)
        _check_fit(checkpoint, get_info(chosen), _DATASET)
        _match_classes(checkpoint, get_info(chosen), _DATASET)
        return chosen
    return recorded


def _check_name(name: str) -> None:
    if name == AUTO:
        what = "auto chooses what to train on, a trained network has its data"
        raise UsageError(_DATASET, what, f"name them: one of {', '.join(list_dataset_names())}")
    check_dataset_name(name, _DATASET)


def _complete_recorded_images(
    checkpoint: Checkpoint, recorded: FilesConfig, data: Path | None
) -> FilesConfig:
    """Return the recorded images' config, with their current place, size and classes."""
    if data is None:
        return recorded
    is_archive = Path(recorded.path).suffix == ".npz"
    return _name_classes(checkpoint, recorded, data, is_archive=is_archive)


def _resolve_custom_images(
    checkpoint: Checkpoint, recorded: AnyDataset | None, data: Path
) -> FilesConfig:
    """Return the config of your own images for a network that was trained on others."""
    config = make_files_config(data)
    if recorded is not None and checkpoint.record is not None:
        info = get_info(recorded)
        if len(info.image_shape) == 1:
            what = f"{recorded.name} takes {info.image_shape[0]} numbers, not images"
            raise UsageError(_DATA, what, "leave it out")
        sized = config.model_copy(update={"size": info.image_shape})
        return _name_classes(checkpoint, sized, data, is_archive=False)
    if data.is_dir():  # whose pictures have any size
        config = config.model_copy(update={"size": _guess_image_shape(checkpoint)})
    info = get_info(config)
    _check_fit(checkpoint, info, _DATA)
    return config.model_copy(update={"size": info.image_shape, "classes": info.class_names})


def _name_classes(
    checkpoint: Checkpoint, config: FilesConfig, data: Path, *, is_archive: bool
) -> FilesConfig:
    """Return the config of your own images with the names of their classes.

    The labels of an .npz file have no names. They are the network's places where it was trained on
    such a file (`is_archive`), and numbers where its classes are digits; else its places too.

    Raises:
        UsageError: they are not the network's classes.
        DataError: the images cannot be looked at.
    """
    names = checkpoint.record.class_names if checkpoint.record is not None else ()
    unnamed = config.model_copy(update={"path": str(data), "classes": None})
    info = get_info(unnamed)
    is_numbered = all(name.isdecimal() for name in unify_class_names(names))
    if data.suffix == ".npz" and (is_archive or not is_numbered):
        return unnamed.model_copy(update={"classes": names})
    _match_classes(checkpoint, info, _DATA)
    in_order = set(info.class_names) == set(names)  # else they are put in order once they are read
    return unnamed.model_copy(update={"classes": names if in_order else info.class_names})


def _match_classes(checkpoint: Checkpoint, info: DatasetInfo, flag: str) -> tuple[int, ...]:
    """Return the network's output for each class of the data.

    Raises:
        UsageError: the names of both are known, and they are not the same.
    """
    if checkpoint.record is None:
        return tuple(range(len(info.class_names)))
    names = checkpoint.record.class_names
    order = match_classes(names, info.class_names)
    if order is None:
        what = f"its classes are {_list_names(info.class_names)}, those of {checkpoint.path} are"
        hint = "name data of the same classes; for your own, name the folders like the network's"
        raise UsageError(flag, f"{what} {_list_names(names)}", hint)
    return order


def _list_names(names: Sequence[str]) -> str:
    shown = ", ".join(name[:MAX_CLASS_NAME] for name in names[:MAX_CLASSES_SHOWN])
    return f"{shown}, …" if len(names) > MAX_CLASSES_SHOWN else shown


def _check_fit(checkpoint: Checkpoint, info: DatasetInfo, flag: str) -> None:
    """Refuse data that do not fit the network, before any are read."""
    network = checkpoint.architecture.fit_input(info.image_shape)
    hint = "name the data that it was trained on"
    if not takes_images(network, info.image_shape):
        what = f"{info.title}'s inputs are {info.image_shape}, {checkpoint.path} takes"
        raise UsageError(flag, f"{what} {network.input_shape}", hint)
    units = network.output_shape[-1]
    if len(info.class_names) != max(2, units):
        what = f"{info.title} has {len(info.class_names)} classes, {checkpoint.path} tells"
        raise UsageError(flag, f"{what} {max(2, units)} apart", hint)
