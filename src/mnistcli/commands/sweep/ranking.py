"""Rank a sweep's trials and summarise what it has found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.study import suppress_optuna_warnings
from mnistcli.commands.sweep.trial_queue import (
    DIRECTORY,
    HOST,
    REASON,
    TEST,
    TrialQueue,
    group_attempts,
    name_checkpoint,
    needs_retry,
)
from mnistcli.output.results import SweepResult, SweepTrialState, TestResult, TrialResult
from mnistcli.tensorflow_import import hide_modules

MIN_TRIALS = 10  # complete ones, for importances
ENDED: tuple[SweepTrialState, ...] = ("complete", "pruned", "failed")

_STATES: dict[TrialState, SweepTrialState] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def summarize_sweep(queue: TrialQueue) -> SweepResult:
    """Return the result of a sweep, or of what has ended of it."""
    ranking = rank_trials(list_trials(queue), queue.sweep)
    complete, pruned, failed = (sum(t.state == state for t in ranking) for state in ENDED)
    best = ranking[0] if complete else None
    return SweepResult(
        study=queue.study.study_name,
        objective=queue.sweep.objective,
        direction=queue.sweep.direction,
        trials=queue.sweep.trials,
        complete=complete,
        pruned=pruned,
        failed=failed,
        best=best,
        test=None if best is None else _find_test(best.trial, queue.study),
        importances=compute_importances(queue.study),
        ranking=tuple(ranking),
    )


def list_trials(queue: TrialQueue) -> list[TrialResult]:
    """Return all trials of a sweep by number; one that was lost or stopped is waiting again."""
    groups = group_attempts(queue.study)
    numbers = range(max([queue.sweep.trials - 1, *groups], default=0) + 1)
    return [_describe_trial(number, groups.get(number, ()), queue) for number in numbers]


def rank_trials(trials: Iterable[TrialResult], sweep: Sweep) -> list[TrialResult]:
    """Sort ended trials: complete ones from the best on, then pruned ones, then failed ones."""
    sign = -1 if sweep.direction == "maximize" else 1

    def make_key(trial: TrialResult) -> tuple[int, float, int]:
        value = float("inf") if trial.value is None else sign * trial.value
        return ENDED.index(trial.state), value, trial.trial

    return sorted((trial for trial in trials if trial.has_ended), key=make_key)


def compute_importances(study: Study) -> dict[str, float]:
    """Return each key's share of what distinguishes the best tenth of the complete trials.

    The shares add up to 1, the largest comes first; there are none below `MIN_TRIALS`, where
    chance decides.
    """
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < MIN_TRIALS:
        return {}
    # scikit-learn takes seconds to import; PED-ANOVA is the one evaluator that does without.
    with suppress_optuna_warnings(), hide_modules():
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    with suppress_optuna_warnings():
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _describe_trial(number: int, attempts: Sequence[FrozenTrial], queue: TrialQueue) -> TrialResult:
    """Describe a trial by its first attempt that was neither lost nor stopped."""
    attempt = next((one for one in attempts if not needs_retry(one)), None)
    if attempt is None:
        return TrialResult(
            trial=number,
            state="waiting",
            value=None,
            parameters={},
            epochs=0,
            checkpoint=None,
            host=None,
            reason=None,
            seconds=None,
        )
    attributes, reported = attempt.user_attrs, attempt.intermediate_values
    value = attempt.value if attempt.state.is_finished() else None
    if value is None and reported:
        value = reported[max(reported)]
    host = str(attributes.get(HOST, ""))
    home = Path(attributes.get(DIRECTORY, queue.directory))
    is_local = queue.is_local(host, home)
    path = name_checkpoint(queue.directory if is_local else home, number)
    return TrialResult(
        trial=number,
        state=_STATES[attempt.state],
        value=value,
        parameters=queue.sweep.decode_params(attempt.params),
        epochs=max(reported, default=0),
        checkpoint=str(path) if host else None,
        host=None if is_local or not host else host,
        reason=str(attributes.get(REASON, "")) or None,
        seconds=None if attempt.duration is None else attempt.duration.total_seconds(),
    )


def _find_test(number: int, study: Study) -> TestResult | None:
    """Return a trial's score on the test set."""
    for attempt in group_attempts(study).get(number, ()):
        if not needs_retry(attempt) and TEST in attempt.user_attrs:
            loss, accuracy = attempt.user_attrs[TEST]
            return TestResult(loss=loss, accuracy=accuracy)
    return None
