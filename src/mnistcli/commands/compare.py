"""`compare`: accuracies of checkpoints with their confidence intervals, and tests of each pair.

A baseline is a classifier of scikit-learn with its default settings, apart from the constants
below, fitted to the training set of the first checkpoint.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.record import Record, count_processors
from mnistcli.commands.trained_model import CheckpointSource, LoadOptions, TrainedModel, load_model
from mnistcli.config.allowed_values import BASELINE_FLAG, BASELINES, BaselineName, check_choice
from mnistcli.config.serialization import diff_configs
from mnistcli.datasets.base import DatasetInfo, Split, unify_class_names
from mnistcli.errors import UsageError, pluralize
from mnistcli.metrics.significance import (
    CONFIDENCE,
    Interval,
    adjust_p_values,
    compute_mcnemar_p,
    compute_wilson_interval,
)
from mnistcli.models.input_scaling import fit_preprocessing
from mnistcli.optional_imports import import_scikit_learn, require_scikit_learn
from mnistcli.output.logs import note
from mnistcli.output.results import (
    ComparedResult,
    CompareResult,
    DatasetResult,
    DifferenceResult,
    PairResult,
    UnpairedResult,
)

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

RANDOM_STATE = 0
MAX_ITERATIONS = 100  # of logistic regression, as in scikit-learn; too few for MNIST to converge


@dataclass(frozen=True)
class FittedBaseline:
    """A fitted classifier's predictions for n examples.

    Attributes:
        classes: the predicted classes, int64 [n].
        loss: scikit-learn's log loss on the examples.
        fit_s: seconds that fitting took.
        has_converged: False where `MAX_ITERATIONS` stopped it.
    """

    classes: NDArray[np.int64]
    loss: float
    fit_s: float
    has_converged: bool


@dataclass(frozen=True)
class _Candidate:
    """One checkpoint or baseline, evaluated on its images.

    Attributes:
        images_digest: equal for equal images and labels.
        is_correct: bool [n], image by image.
    """

    result: ComparedResult
    record: Record | None
    images_digest: bytes
    is_correct: NDArray[np.bool_]


def compare(
    models: Sequence[CheckpointSource],
    *,
    baselines: Sequence[str] = (),
    split: str = "test",
    **options: Unpack[LoadOptions],
) -> CompareResult:
    """Compare checkpoints: accuracies, differences of their configs, and tests of each pair.

    Args:
        models: one checkpoint at least.
        baselines: `logistic-regression`, `random-forest`; fitted to the first checkpoint's data.
        split: `train`, `validation` or `test`.
        **options: as for `load_model`.

    Raises:
        CheckpointError, DataError, UsageError: one of them cannot be evaluated.
        ResourceError: a baseline was asked for, and scikit-learn is missing.
    """
    names = check_baselines(baselines, split)
    loaded = [
        load_model(source, **options) for source in models
    ]  # all of them first: a wrong name is reported before anything is computed
    candidates = [_evaluate_checkpoint(model, split) for model in loaded]
    candidates += [_evaluate_baseline(name, loaded[0], split) for name in names]
    pairs = list(combinations(range(len(candidates)), 2))
    digests = [candidate.images_digest for candidate in candidates]
    tested = [(i, j) for i, j in pairs if digests[i] == digests[j]]
    return CompareResult(
        split=split,
        confidence=CONFIDENCE,
        results=tuple(candidate.result for candidate in candidates),
        differences=tuple(_list_differences(candidates)),
        pairs=tuple(_test_pairs(candidates, tested)),
        unpaired=tuple(
            UnpairedResult(
                first=i,
                second=j,
                reason=_explain_unpaired(candidates[i].result, candidates[j].result, split),
            )
            for i, j in pairs
            if (i, j) not in tested
        ),
    )


def check_baselines(names: Sequence[str], split: str) -> tuple[BaselineName, ...]:
    """Return the names of baselines, each once.

    Raises:
        UsageError: a name is unknown, or the split is part of what they are fitted to.
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


def run_baseline(
    name: BaselineName, train: Split, examples: Split, info: DatasetInfo, threads: int
) -> FittedBaseline:
    """Fit a classifier and predict examples; deterministic.

    Args:
        name: of the classifier.
        train: what it is fitted to, scaled to 0 to 1.
        examples: what it predicts.
        info: of the data set of both.
        threads: for fitting a forest; its trees do not depend on their number.

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
    return FittedBaseline(
        classes=probabilities.argmax(axis=1),
        loss=float(
            import_scikit_learn("metrics").log_loss(examples.labels, probabilities, labels=every)
        ),
        fit_s=fit_s,
        has_converged=name == "random-forest" or bool(max(classifier.n_iter_) < MAX_ITERATIONS),
    )


def _evaluate_checkpoint(model: TrainedModel, split_name: str) -> _Candidate:
    split, checkpoint = model.read_split(split_name), model.checkpoint
    logits = model.compute_logits(split.images)
    score = model.score(split, logits)
    is_correct, record = model.classify(logits).classes == split.labels, checkpoint.record
    correct, interval = _count_correct(is_correct)
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
        loss_name=score.loss_name,
        loss_reason=score.loss_reason,
        fit_seconds=None if record is None else record.progress.elapsed_s,
    )
    return _Candidate(result, record, _hash_split(split, model.class_names), is_correct)


def _evaluate_baseline(name: BaselineName, model: TrainedModel, split_name: str) -> _Candidate:
    split, dataset = model.read_split(split_name), model.open_dataset(frozenset({"train", "test"}))
    title = f"{name} on {pluralize(len(dataset.train), 'image')} of {dataset.info.title}"
    note(f"fitting {title}")
    fitted = run_baseline(name, dataset.train, split, dataset.info, count_processors())
    if not fitted.has_converged:
        note(f"{name} was stopped after {MAX_ITERATIONS} iterations")
    is_correct = fitted.classes == split.labels
    correct, interval = _count_correct(is_correct)
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
        loss_name="categorical_crossentropy",
        fit_seconds=fitted.fit_s,
    )
    return _Candidate(result, None, _hash_split(split, model.class_names), is_correct)


def _make_classifier(
    name: BaselineName, threads: int
) -> LogisticRegression | RandomForestClassifier:
    if name == "logistic-regression":
        linear = import_scikit_learn("linear_model")
        return linear.LogisticRegression(max_iter=MAX_ITERATIONS, random_state=RANDOM_STATE)
    ensemble = import_scikit_learn("ensemble")
    return ensemble.RandomForestClassifier(random_state=RANDOM_STATE, n_jobs=threads)


def _flatten(split: Split, info: DatasetInfo) -> NDArray[np.float32]:
    """Return images as float32 [n, pixels] from 0 to 1."""
    unit = fit_preprocessing("unit", split.images, info.max_value)
    return unit.apply(split.images).reshape(len(split), -1)


def _count_correct(is_correct: NDArray[np.bool_]) -> tuple[int, Interval]:
    """Return the number of correct predictions, and the interval of the true accuracy."""
    correct = int(np.count_nonzero(is_correct))
    return correct, compute_wilson_interval(correct, len(is_correct))


def _hash_split(split: Split, class_names: Sequence[str]) -> bytes:
    # Not the file's hash: two files may hold the same images, and two seeds hold out others.
    # Labels count by name: networks may have the same classes in another order.
    names = unify_class_names(class_names)
    places = np.array([sorted(names).index(name) for name in names], np.uint8)
    digest = hashlib.sha256(np.ascontiguousarray(split.images).data)
    digest.update(places[split.labels].data)
    return digest.digest()


def _list_differences(candidates: Sequence[_Candidate]) -> Iterator[DifferenceResult]:
    """Yield the config keys that differ; None is the value of files without a config."""
    records = [candidate.record for candidate in candidates]
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
    candidates: Sequence[_Candidate], pairs: Sequence[tuple[int, int]]
) -> Iterator[PairResult]:
    """Test each pair, with p-values that are adjusted for their number."""
    counts = [
        (
            int(np.count_nonzero(candidates[i].is_correct & ~candidates[j].is_correct)),
            int(np.count_nonzero(~candidates[i].is_correct & candidates[j].is_correct)),
        )
        for i, j in pairs
    ]
    p_values = [compute_mcnemar_p(first, second) for first, second in counts]
    adjusted = adjust_p_values(p_values)
    for (i, j), (first, second), p, fair_p in zip(pairs, counts, p_values, adjusted, strict=True):
        count = candidates[i].result.count
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


def _explain_unpaired(first: ComparedResult, second: ComparedResult, split: str) -> str:
    if first.dataset != second.dataset:
        return f"different data ({first.dataset} and {second.dataset})"
    return f"other images of {first.dataset} {split}"
