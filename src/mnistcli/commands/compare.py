"""Joins what `compare` needs: every checkpoint on its images, then pairs on the same ones.

scikit-learn's classifiers, fitted to the images that our networks are trained on. What a network
has to beat. They have scikit-learn's own defaults, but for what is said below.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.record import Record, count_processors
from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
from mnistcli.commands.trained_model import Places, TrainedModel, open_model
from mnistcli.config.allowed_values import BASELINE_FLAG, BASELINES, BaselineName, check_choice
from mnistcli.config.serialization import diff_configs
from mnistcli.datasets.base import DatasetInfo, Split
from mnistcli.errors import UsageError
from mnistcli.metrics.scores import predict_classes
from mnistcli.metrics.significance import (
    CONFIDENCE,
    Interval,
    adjust_p_values,
    compute_mcnemar_p,
    compute_wilson_interval,
)
from mnistcli.models.input_scaling import fit_preprocessing
from mnistcli.models.numpy_inference import compute_probabilities
from mnistcli.optional_imports import import_scikit_learn, require_scikit_learn
from mnistcli.output.results import (
    ComparedResult,
    CompareResult,
    DatasetResult,
    DifferenceResult,
    PairResult,
    UnpairedResult,
)
from mnistcli.output.terminal import Output

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression


RANDOM_STATE = 0
MAX_ITERATIONS = 100  # of logistic regression, as in scikit-learn; too few for MNIST to converge


@dataclass(frozen=True)
class Baseline:
    """A classifier that has been fitted, and what it makes of examples.

    Attributes:
        classes: the predicted ones, int64 [n].
        loss: scikit-learn's log loss on the examples.
        fit_s: seconds that fitting took.
        has_converged: false where it was stopped by `MAX_ITERATIONS`.
    """

    classes: NDArray[np.int64]
    loss: float
    fit_s: float
    has_converged: bool


def run_baseline(
    name: BaselineName, train: Split, examples: Split, info: DatasetInfo, threads: int
) -> Baseline:
    """Fit a classifier and ask it about examples; the same input gives the same answer.

    Args:
        name: which one.
        train: what it is fitted to, normalised as `unit`.
        examples: what it is asked about.
        info: of the data set of both.
        threads: for fitting a forest, whose trees do not depend on their number.

    Raises:
        ResourceError: scikit-learn is missing or broken.
    """
    classifier = _make_classifier(name, threads)
    begin_s = time.perf_counter()
    with warnings.catch_warnings():  # that it has not converged is in the answer
        warnings.simplefilter("ignore", import_scikit_learn("exceptions").ConvergenceWarning)
        classifier.fit(_flatten(train, info), train.labels)
    fit_s = time.perf_counter() - begin_s
    if name == "random-forest":
        classifier.set_params(n_jobs=1)  # threads add their trees' votes up in any order
    known = classifier.predict_proba(_flatten(examples, info))
    probabilities = np.zeros((len(examples), len(info.class_names)))
    probabilities[:, classifier.classes_] = known
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32 ones do not sum to 1
    every = range(len(info.class_names))
    return Baseline(
        classes=probabilities.argmax(axis=1),
        loss=float(
            import_scikit_learn("metrics").log_loss(examples.labels, probabilities, labels=every)
        ),
        fit_s=fit_s,
        has_converged=name == "random-forest" or bool(max(classifier.n_iter_) < MAX_ITERATIONS),
    )


def _make_classifier(
    name: BaselineName, threads: int
) -> LogisticRegression | RandomForestClassifier:
    """Build what a name stands for."""
    if name == "logistic-regression":
        linear = import_scikit_learn("linear_model")
        return linear.LogisticRegression(max_iter=MAX_ITERATIONS, random_state=RANDOM_STATE)
    ensemble = import_scikit_learn("ensemble")
    return ensemble.RandomForestClassifier(random_state=RANDOM_STATE, n_jobs=threads)


def _flatten(split: Split, info: DatasetInfo) -> NDArray[np.float32]:
    """Return images as rows of numbers from 0 to 1, [n, pixels]."""
    unit = fit_preprocessing("unit", split.images, info.max_value)
    return unit.apply(split.images).reshape(len(split), -1)


@dataclass(frozen=True)
class Selection:
    """Which part of which data, as the command line says; null leaves it to each file."""

    split: str
    dataset: str | None
    normalization: str | None
    places: Places


@dataclass(frozen=True)
class _Examined:
    """One checkpoint on its images.

    Attributes:
        images_digest: tells whether two splits are the same images and labels.
        is_right: bool [n], image by image.
    """

    result: ComparedResult
    record: Record | None
    images_digest: bytes
    is_right: NDArray[np.bool_]


def compare_checkpoints(
    paths: Sequence[Path], baselines: Sequence[str], selection: Selection, console: Output
) -> CompareResult:
    """Return how checkpoints did, what differs in their configs, and which pairs differ really.

    Args:
        paths: of the checkpoints; one at least.
        baselines: names of baselines, which are fitted to the first one's data.
        selection: which images.
        console: hears what takes long.

    Raises:
        CheckpointError, DataError, UsageError: one of them cannot be evaluated.
        ResourceError: scikit-learn is missing, and a baseline takes it.
    """
    names = check_baselines(baselines, selection.split)
    chosen = (selection.dataset, selection.normalization, selection.places)
    models = [
        open_model(path, ParserProcess(path, "weights"), *chosen, console) for path in paths
    ]  # all of them first: a name that is wrong is said before anything is computed
    examined = [_examine(model, selection.split) for model in models]
    examined += [_examine_baseline(name, models[0], selection.split) for name in names]
    places = list(combinations(range(len(examined)), 2))
    same = [p for p in places if examined[p[0]].images_digest == examined[p[1]].images_digest]
    return CompareResult(
        split=selection.split,
        confidence=CONFIDENCE,
        results=tuple(one.result for one in examined),
        differences=tuple(_list_differences(examined)),
        pairs=tuple(_test_pairs(examined, same)),
        unpaired=tuple(
            UnpairedResult(
                first=i,
                second=j,
                reason=_explain(examined[i].result, examined[j].result, selection.split),
            )
            for i, j in places
            if (i, j) not in same
        ),
    )


def _examine(model: TrainedModel, split_name: str) -> _Examined:
    """Evaluate one checkpoint, image by image."""
    split, checkpoint = model.read_split(split_name), model.checkpoint
    logits = model.run(split.images)
    score = model.score(split, logits)
    predicted = predict_classes(compute_probabilities(checkpoint.architecture, logits))
    is_right, record = predicted == split.labels, checkpoint.record
    correct, interval = _count_right(is_right)
    result = ComparedResult(
        kind="checkpoint",
        checkpoint=str(checkpoint.path),
        dataset=model.dataset_name or "",
        trained_on=None
        if record is None
        else DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        epochs=None if record is None else record.progress.epoch,
        count=score.count,
        correct=correct,
        accuracy=score.accuracy,
        interval=interval,
        loss=score.loss,
        fit_seconds=None if record is None else record.progress.elapsed_s,
    )
    return _Examined(result, record, _hash_split(split), is_right)


def _examine_baseline(name: BaselineName, model: TrainedModel, split_name: str) -> _Examined:
    """Fit a baseline to the whole training set of a checkpoint's data, and evaluate it alike."""
    split, dataset = model.read_split(split_name), model.open(frozenset({"train", "test"}))
    title = f"{name} on {len(dataset.train):,} images of {dataset.info.title}"
    model.console.note(f"fitting {title}")
    fitted = run_baseline(name, dataset.train, split, dataset.info, count_processors())
    if not fitted.has_converged:
        model.console.note(f"{name} was stopped after {MAX_ITERATIONS} iterations")
    is_right = fitted.classes == split.labels
    correct, interval = _count_right(is_right)
    identity = dataset.identity
    result = ComparedResult(
        kind="baseline",
        checkpoint=name,
        dataset=dataset.info.name,
        trained_on=DatasetResult(name=identity.name, sha256=identity.sha256),
        epochs=None,
        count=len(split),
        correct=correct,
        accuracy=correct / len(split),
        interval=interval,
        loss=fitted.loss,
        fit_seconds=fitted.fit_s,
    )
    return _Examined(result, None, _hash_split(split), is_right)


def check_baselines(names: Sequence[str], split: str) -> tuple[BaselineName, ...]:
    """Return each baseline once.

    Raises:
        UsageError: a name is none, or they have seen the images that they would be judged on.
        ResourceError: scikit-learn is not installed.
    """
    for name in names:
        check_choice(name, BASELINES, BASELINE_FLAG)
    if names and split == "validation":
        what = "baselines are fitted to the whole training set, the validation images included"
        raise UsageError(BASELINE_FLAG, what, "use --split test")
    if names:
        require_scikit_learn()
    return cast("tuple[BaselineName, ...]", tuple(dict.fromkeys(names)))


def _count_right(is_right: NDArray[np.bool_]) -> tuple[int, Interval]:
    """Return how many are right, and what that says of the true accuracy."""
    correct = int(np.count_nonzero(is_right))
    return correct, compute_wilson_interval(correct, len(is_right))


def _hash_split(split: Split) -> bytes:
    """Two files may hold the same images, and two seeds hold out others of the same file."""
    digest = hashlib.sha256(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels).data)
    return digest.digest()


def _list_differences(examined: Sequence[_Examined]) -> Iterator[DifferenceResult]:
    """Compare the configs of the files that have one; the others' values are null."""
    records = [one.record for one in examined]
    known = [record for record in records if record is not None]
    hashes = [None if record is None else record.dataset.sha256 for record in records]
    if len({record.dataset.sha256 for record in known}) > 1:
        yield DifferenceResult(key="dataset.sha256", values=tuple(hashes))
    if len(known) < 2:
        return
    for difference in diff_configs([record.config for record in known]):
        values = iter(difference.values)
        yield DifferenceResult(
            key=difference.key,
            values=tuple(None if record is None else next(values) for record in records),
        )


def _test_pairs(
    examined: Sequence[_Examined], places: Sequence[tuple[int, int]]
) -> Iterator[PairResult]:
    """Test each pair, allowing for their number."""
    counts = [
        (
            int(np.count_nonzero(examined[i].is_right & ~examined[j].is_right)),
            int(np.count_nonzero(~examined[i].is_right & examined[j].is_right)),
        )
        for i, j in places
    ]
    p_values = [compute_mcnemar_p(first, second) for first, second in counts]
    adjusted = adjust_p_values(p_values)
    for (i, j), (first, second), p, fair_p in zip(places, counts, p_values, adjusted, strict=True):
        count = examined[i].result.count
        yield PairResult(
            first=i,
            second=j,
            count=count,
            only_first=first,
            only_second=second,
            difference=(second - first) / count,
            p_value=p,
            adjusted_p_value=fair_p,
            distinguishable=fair_p < 1 - CONFIDENCE,
        )


def _explain(first: ComparedResult, second: ComparedResult, split: str) -> str:
    """Say why two checkpoints are no pair."""
    if first.dataset != second.dataset:
        return f"different data ({first.dataset} and {second.dataset})"
    return f"other images of {first.dataset} {split}"
