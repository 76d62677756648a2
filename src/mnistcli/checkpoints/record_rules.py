"""Rules over several parts of a record: what cannot be true of any run.

A record is what a file claims, and a file may come from anywhere. `parse_record` validates each
part alone; here the parts are compared with one another, with the network in the file, with the
history, and with the data set. Every command reads records through these rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mnistcli.checkpoints.record import Record, RunMetadata, make_damaged_record_error
from mnistcli.checkpoints.run_state import EarlyStoppingState
from mnistcli.checkpoints.untrusted.protocol import DURATIONS, MetricRange, quote
from mnistcli.config.cross_field_rules import check_class_count, check_rules
from mnistcli.config.schema import CLASS_COUNTS, EarlyStopping, FilesConfig, ReduceOnPlateau
from mnistcli.config.validation_errors import format_path
from mnistcli.datasets.base import ARRAY_NAMES, WHITE, FileDataset, join_hashes
from mnistcli.datasets.registry import get_info, get_spec
from mnistcli.errors import pluralize
from mnistcli.metrics.losses import AnyLoss, LossSpec
from mnistcli.models.architecture import Architecture, plan_architecture
from mnistcli.models.layers import Dropout, Shape

_METRICS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
_MAX_METRIC = 1e39  # float32, in which losses are computed, ends before
_ROUNDING = 1e-6
_LEAST_SCALE = 1e-9  # below the deviation of images of which one pixel is not 0
_MAX_DURATION_S = 1e10  # three hundred years
_MAX_EXAMPLES = 10**9  # in a training set
_HASH_CHARACTERS = set("0123456789abcdef")


def check_record(
    record: RunMetadata,
    architecture: Architecture,
    history: Mapping[str, MetricRange],
    loss: AnyLoss | None,
    where: str,
) -> None:
    """Refuse a record that cannot be true.

    Args:
        record: the record, or the part of it that `ls` reads.
        architecture: of the network in the same file.
        history: a range for each metric, and for `DURATIONS`.
        loss: that the network was compiled with; None where it was not read.
        where: the file, for messages.

    Raises:
        CheckpointError: it cannot; the message names what.
    """
    for what in _list_contradictions(record, architecture, history, loss):
        raise make_damaged_record_error(where, what)


def _list_contradictions(
    record: RunMetadata,
    architecture: Architecture,
    history: Mapping[str, MetricRange],
    loss: AnyLoss | None,
) -> Iterator[str]:
    for issue in check_rules(record.config):
        yield f"config.{format_path(issue.path)}: {issue.what}"
    yield from _check_identity(record)
    yield from _check_network(record, architecture)
    yield from _check_loss(record, loss)
    yield from _check_progress(record)
    yield from _check_history(record, history)
    yield from _check_best(record, history)
    yield from _check_test(record)
    yield from _check_callbacks(record)
    if isinstance(record, Record):
        yield from _check_classes(record)
        yield from _check_preprocessing(record)
        yield from _check_running(record, architecture)


def _check_identity(record: RunMetadata) -> Iterator[str]:
    identity, config = record.dataset, record.config.dataset
    if identity.name != config.name:
        yield f"it was trained on {identity.name}, its config says {config.name}"
    hashes = [*identity.arrays.values(), *filter(None, [identity.sha256])]
    if set(identity.arrays) - set(ARRAY_NAMES) or not all(map(_is_hash, hashes)):
        yield "dataset: its hashes are none of a data set"
    # synthetic digits are identified by their generator
    joined = join_hashes(identity.arrays) if identity.name != "synthetic" else None
    if joined not in (None, identity.sha256):
        yield "dataset: the hash of the data is not that of its arrays"
    spec = get_spec(identity.name) if identity.name in CLASS_COUNTS else None
    if isinstance(spec, FileDataset) and identity.known_as == f"canonical {spec.info.title}":
        published = spec.array_sha256
        if any(identity.arrays.get(name, digest) != digest for name, digest in published.items()):
            yield f"dataset: it is not {quote(identity.known_as)}"
    if not 0 <= identity.held_out < 1:
        yield f"dataset.held_out: {quote(identity.held_out)} is no fraction"
    if isinstance(config, FilesConfig) and not Path(config.path).is_absolute():
        yield "config.dataset.path: no absolute path"
    if isinstance(config, FilesConfig) and None in (config.size, config.classes):
        yield "config.dataset: its size and its classes are not said"


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= _HASH_CHARACTERS


def _check_network(record: RunMetadata, architecture: Architecture) -> Iterator[str]:
    """Compare the network in the file with the one that the config describes."""
    config, head = record.config, architecture.head.activation
    if config.model.output_activation != head:
        said = f"its config says {config.model.output_activation}"
        yield f"config.model.output_activation: its network ends in {head}, {said}"
    shape, count = _find_data_shape(record, architecture)
    found = architecture.with_precision("float32")  # whatever it was trained in
    if plan_architecture(config.model, shape, count) != found:
        yield "config.model: its network is not the one that its config describes"


def _find_data_shape(record: RunMetadata, architecture: Architecture) -> tuple[Shape, int]:
    """Return the shape of an image of the data set, and the number of its classes."""
    config = record.config.dataset
    if not isinstance(config, FilesConfig):
        info = get_info(config)
        return info.image_shape, len(info.class_names)
    classes = max(2, architecture.output_shape[-1])
    if config.classes is not None:
        classes = len(config.classes)
    return config.size or architecture.input_shape, classes


def _check_loss(record: RunMetadata, loss: AnyLoss | None) -> Iterator[str]:
    training = record.config.training
    if loss is None or loss.name is None:
        return
    smoothing = loss.label_smoothing if isinstance(loss, LossSpec) else None
    if (loss.name, smoothing) != (training.loss, training.label_smoothing):
        yield f"config.training.loss: its network was compiled with {quote(loss.name)}"


def _check_progress(record: RunMetadata) -> Iterator[str]:
    progress, training = record.progress, record.config.training
    epoch, planned = progress.epoch, training.epochs
    if epoch > planned:
        yield f"progress.epoch: {quote(epoch)} epochs of {planned} are done"
    if progress.step * training.batch_size >= _MAX_EXAMPLES + training.batch_size:
        yield f"progress.step: no epoch has {quote(progress.step)} steps of {training.batch_size}"
    if progress.elapsed_s > _MAX_DURATION_S:
        yield f"progress.elapsed_s: {progress.elapsed_s:g} s"


def _check_history(record: RunMetadata, history: Mapping[str, MetricRange]) -> Iterator[str]:
    config = record.config
    expected = {"loss", "accuracy"}
    if config.dataset.validation != 0:
        expected |= {"val_loss", "val_accuracy"}
    if config.training.schedule is not None or config.training.reduce_on_plateau is not None:
        expected.add("learning_rate")
    if record.progress.epoch > 0 and (missing := sorted(expected - set(history))):
        yield f"history: {missing[0]} is missing"
    if surplus := sorted(_METRICS & set(history) - expected):
        yield f"history: {surplus[0]}, of which its config knows nothing"
    for name, metric in history.items():
        if metric.count != record.progress.epoch:
            count = f"{metric.count:,} values for {record.progress.epoch} epochs"
            yield f"history: {quote(name)} has {count}"
        elif not _is_possible(name, metric):
            yield f"history: {quote(name)} goes from {metric.lowest} to {metric.highest}"


def _is_possible(name: str, metric: MetricRange) -> bool:
    lowest, highest = metric.lowest, metric.highest
    if metric.count == 0:
        return True
    if lowest is None or highest is None:
        return name.startswith("val_")  # a run ends where its other metrics are not finite
    limit = _MAX_DURATION_S if name == DURATIONS else _MAX_METRIC
    limit = 1 + _ROUNDING if name.endswith("accuracy") else limit
    return lowest >= -_ROUNDING and highest <= limit


def _check_best(record: RunMetadata, history: Mapping[str, MetricRange]) -> Iterator[str]:
    """Compare what is said of the best epochs with the history."""
    validated = history.get("val_loss")
    selects_best = record.config.dataset.validation not in (0, "test")
    best_epoch = record.progress.best_epoch
    found = validated.lowest_epoch if validated is not None and selects_best else 0
    if best_epoch != found and found is not None:
        yield f"progress.best_epoch: {quote(best_epoch)}, in its history it is {found}"
    training, stopping = record.config.training, record.early_stopping
    if training.early_stopping is not None and stopping is not None:
        settings = training.early_stopping
        monitored = history.get(settings.monitor)
        if monitored is not None and stopping.best != monitored.at_best:
            yield f"early_stopping.best: {stopping.best}, in its history {monitored.at_best}"
        yield from _check_extreme("early_stopping", settings, stopping.best, monitored)
    if training.reduce_on_plateau is not None and record.reduce_on_plateau is not None:
        plateau, best = training.reduce_on_plateau, record.reduce_on_plateau.best
        yield from _check_extreme("reduce_on_plateau", plateau, best, history.get(plateau.monitor))


def _check_extreme(
    name: str,
    settings: EarlyStopping | ReduceOnPlateau,
    best: float | None,
    monitored: MetricRange | None,
) -> Iterator[str]:
    """Compare a callback's best value with the metric that it monitors."""
    if monitored is None or best is None:
        return
    extreme = monitored.lowest if settings.monitor.endswith("loss") else monitored.highest
    allowed = settings.min_delta + _ROUNDING  # less than `min_delta` better does not count
    if extreme is not None and not abs(best - extreme) <= allowed:
        yield f"{name}.best: {best}, its history has {extreme}"


def _check_test(record: RunMetadata) -> Iterator[str]:
    test = record.test
    if test is None:
        return
    if test.count < 1:
        yield "test.count: an accuracy of no images"
    elif abs(test.accuracy * test.count - round(test.accuracy * test.count)) > 1e-3:
        yield f"test.accuracy: no share of {quote(test.count)} images is {test.accuracy}"
    if not math.isnan(test.loss) and not -_ROUNDING <= test.loss <= _MAX_METRIC:
        yield f"test.loss: {test.loss:g}"


def _check_callbacks(record: RunMetadata) -> Iterator[str]:
    training = record.config.training
    stopping, plateau = record.early_stopping, record.reduce_on_plateau
    if (training.early_stopping is None) != (stopping is None):
        yield "early_stopping: its config and its state do not go together"
    elif stopping is not None and training.early_stopping is not None:
        settings = training.early_stopping
        yield from _check_stopping(
            stopping, record.progress.epoch, settings.patience, restores=settings.restore_best
        )
    if (training.reduce_on_plateau is None) != (plateau is None):
        yield "reduce_on_plateau: its config and its state do not go together"
    elif plateau is not None and training.reduce_on_plateau is not None:
        if not 0 <= plateau.wait <= record.progress.epoch:
            yield f"reduce_on_plateau.wait: {quote(plateau.wait)} epochs"
        if not 0 <= plateau.cooldown <= training.reduce_on_plateau.cooldown:
            yield f"reduce_on_plateau.cooldown: {quote(plateau.cooldown)} epochs"


def _check_stopping(
    state: EarlyStoppingState, epoch: int, patience: int, *, restores: bool
) -> Iterator[str]:
    since = max(0, epoch - 1 - state.best_epoch)
    if not 0 <= state.best_epoch <= max(0, epoch - 1):
        yield f"early_stopping.best_epoch: {quote(state.best_epoch + 1)} of {epoch} epochs"
    elif not 0 <= state.wait <= since:
        # it is less where the run was extended, which begins to wait again
        yield f"early_stopping.wait: {quote(state.wait)} of {since} epochs"
    if state.is_stopped and (epoch == 0 or state.wait < patience):
        yield f"early_stopping.is_stopped: after {quote(state.wait)} epochs, its patience is more"
    if state.is_restored and not (restores and epoch > 0):
        yield "early_stopping.is_restored: its config restores no weights"


def _check_classes(record: Record) -> Iterator[str]:
    config, names = record.config.dataset, record.class_names
    if len(set(names)) < len(names):
        yield "class_names: two are alike"
    expected = get_info(config).class_names if not isinstance(config, FilesConfig) else None
    if isinstance(config, FilesConfig):
        expected = config.classes
        for issue in check_class_count(record.config, len(names)):
            yield f"config.{format_path(issue.path)}: {issue.what}"
    if expected not in (None, names):
        yield f"class_names: they are not those of {record.dataset.name}"


def _check_preprocessing(record: Record) -> Iterator[str]:
    """Compare the scaling with the normalization, of which it is the result."""
    config, found = record.config.dataset, record.preprocessing
    white = WHITE if isinstance(config, FilesConfig) else get_info(config).max_value
    numbers = (found.offset, found.scale)
    is_fitted = 0 <= found.offset <= white and _LEAST_SCALE <= found.scale <= white
    usual = {"unit": (0, white), "none": (0, 1)}.get(config.normalization, numbers)
    # the numbers are applied in float32, where others would round, also to 0
    is_exact = is_fitted and all(float(np.float32(number)) == number for number in numbers)
    if not is_exact or numbers != usual:
        words = f"offset {found.offset:g} and scale {found.scale:g}"
        yield f"preprocessing: {words} are not those of normalization {config.normalization}"


def _check_running(record: Record, architecture: Architecture) -> Iterator[str]:
    running = record.running
    dropouts = sum(isinstance(layer, Dropout) and layer.rate > 0 for layer in architecture.layers)
    if len(running.generators) != dropouts:
        generators = pluralize(len(running.generators), "random generator")
        yield f"{generators} for {pluralize(dropouts, 'dropout layer')}"
    with np.errstate(over="ignore"):
        sums = np.array(list(running.metrics.values()), np.float32)
    if not np.isfinite(sums).all():
        yield "running.metrics: a sum is not finite"
    if (record.init_from is None) != (record.init_weights_sha256 is None):
        yield "init_from and init_weights_sha256: one of the two is missing"
