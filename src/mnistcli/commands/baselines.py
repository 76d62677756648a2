"""scikit-learn's classifiers, fitted to the images that our networks are trained on.

What a network has to beat. They have scikit-learn's own defaults, but for what is said below.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import DatasetInfo, Split
from mnistcli.models.input_scaling import fit_preprocessing
from mnistcli.optional_imports import BaselineName, import_scikit_learn

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
