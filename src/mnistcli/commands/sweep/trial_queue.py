"""Lease a sweep's trials to workers; the trials of dead workers are leased again.

A worker holds the lock of its trial's checkpoint, which the kernel releases when the process ends.
So a running trial of this folder without a lock has lost its worker, whatever the storage is. For
the trials of other machines there are only the heartbeats in the database.

A trial has a number, its place in the sweep. Optuna's trials are attempts at such a number: one
that was lost or stopped fails, and the number is attempted again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from mnistcli.atomic_files import open_scratch_file
from mnistcli.checkpoints.lock import LockedError, RunLock, is_locked
from mnistcli.checkpoints.record import TestScore
from mnistcli.commands.sweep.definition import MAX_TRIALS, Sweep
from mnistcli.commands.sweep.study import (
    TRIAL,
    close_storage,
    list_distributions,
    refuse_damage,
    suppress_optuna_warnings,
)
from mnistcli.errors import ResourceError
from mnistcli.output.results import SweepResult, SweepTrialState, TrialResult
from mnistcli.tensorflow_import import hide_modules

# User attributes of an attempt
HOST = "host"
DIRECTORY = "directory"
REASON = "reason"  # of a failure that another attempt would repeat
TEST = "test"  # [loss, accuracy] on the test set; never used to choose
STOPPED = "stopped"  # its worker was stopped, or another worker has the trial

MAX_WORKER_DEATHS = 3  # in a row, without an epoch in between
_UNSEEN = timedelta(hours=1)  # after which an attempt without a host counts as never begun
MIN_TRIALS = 10  # complete ones, for importances
ENDED: tuple[SweepTrialState, ...] = ("complete", "pruned", "failed")

_STATES: dict[TrialState, SweepTrialState] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class TrialLease:
    """A trial that belongs to this worker until it is completed, pruned, failed or released.

    Attributes:
        number: the trial's place in the sweep, from 0.
        path: of its checkpoint.
        trial: Optuna's.
        lock: of the checkpoint; the worker has to release it.
    """

    number: int
    path: Path
    trial: Trial
    lock: RunLock


@dataclass(frozen=True)
class TrialQueue:
    """Lease trials to the workers of one folder and store their results.

    Attributes:
        study: the sweep's, in `storage`.
        sweep: defines the trials.
        directory: of this machine's checkpoints.
        host: this machine's name.
    """

    study: Study
    storage: BaseStorage
    sweep: Sweep
    directory: Path
    host: str = field(default_factory=socket.gethostname)

    @cached_property
    def _distributions(self) -> dict[str, BaseDistribution]:
        return list_distributions(self.sweep)

    @cached_property
    def _grid(self) -> Sequence[dict[str, Any]]:
        """Return a grid's params by trial number; empty for other samplers."""
        return tuple(self.sweep.list_points()) if self.sweep.sampler == "grid" else ()

    def acquire(self) -> TrialLease | None:
        """Lease a trial that no worker has; None if there is none at the moment.

        Raises:
            ResourceError: the folder is not writable, or its file system does not support locks.
        """
        with self._locked(), suppress_optuna_warnings():
            while True:
                self._fail_lost_attempts()
                if not self._enqueue():
                    return None
                lease = self._lease(self.study.ask(self._distributions))
                if lease is not None:
                    return lease

    def has_trials(self) -> bool:
        """Return whether any trial was ever begun."""
        return bool(group_attempts(self.study))

    def is_finished(self) -> bool:
        """Return whether every trial is complete, pruned or failed for good."""
        groups = group_attempts(self.study)
        return all(
            any(not needs_retry(one) and one.state.is_finished() for one in groups.get(n, ()))
            for n in range(self.sweep.trials)
        )

    def complete(self, lease: TrialLease, value: float, test: tuple[float, float]) -> bool:
        """Store a trial's result.

        Args:
            lease: the trial.
            value: of the objective.
            test: loss and accuracy on the test set.

        Returns:
            False if another worker has got the trial meanwhile.
        """
        with contextlib.suppress(UpdateFinishedTrialError):
            lease.trial.set_user_attr(TEST, test)
        return self._tell(lease.trial.number, TrialState.COMPLETE, value)

    def prune(self, lease: TrialLease) -> bool:
        """Store that a trial was pruned; False if another worker has got it meanwhile."""
        return self._tell(lease.trial.number, TrialState.PRUNED)

    def fail(self, lease: TrialLease, reason: str) -> bool:
        """Fail a trial for good; False if another worker has got it meanwhile."""
        with contextlib.suppress(UpdateFinishedTrialError):
            lease.trial.set_user_attr(REASON, reason)
        return self._tell(lease.trial.number, TrialState.FAIL)

    def release(self, lease: TrialLease) -> None:
        """Let another worker, or a later command, continue a trial."""
        with contextlib.suppress(UpdateFinishedTrialError):
            lease.trial.set_user_attr(STOPPED, True)
        self._tell(lease.trial.number, TrialState.FAIL)

    def heartbeat(self, lease: TrialLease) -> None:
        """Record for other machines that this trial's worker is alive."""
        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(lease.trial._trial_id)

    def close(self) -> None:
        """Close the storage's connections."""
        close_storage(self.storage)

    def is_local(self, host: str, directory: Path) -> bool:
        """Return whether a folder of a machine is this queue's."""
        return (host, str(directory)) == self._location

    @property
    def _location(self) -> tuple[str, str]:
        """Return this machine and its folder as the attributes of attempts have them."""
        return self.host, str(self.directory.resolve())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude this folder's other workers, so that leasing and locking is one step."""
        path = self.directory / ".sweep-claim"
        lock = FileLock(path, fallback_to_soft=False, is_singleton=False)
        try:
            os.close(open_scratch_file(path))
            lock.acquire(poll_interval=0.02)
        except (OSError, NotImplementedError) as error:
            what = f"workers cannot lock files here: {getattr(error, 'strerror', '') or error}"
            hint = "choose another folder with -o"
            raise ResourceError(str(self.directory), what, hint) from error
        try:
            yield
        finally:
            lock.release()

    def _fail_lost_attempts(self) -> None:
        """Fail running attempts whose workers are dead, so that they are retried."""
        if isinstance(self.storage, RDBStorage):
            optuna.storages.fail_stale_trials(self.study)
        groups = group_attempts(self.study)
        for number, attempts in groups.items():
            for attempt in attempts:
                if attempt.state != TrialState.RUNNING or not self._is_lost(attempt, number):
                    continue
                if reason := _explain_deaths(attempt, attempts):
                    with contextlib.suppress(UpdateFinishedTrialError):
                        self.storage.set_trial_user_attr(attempt._trial_id, REASON, reason)
                self._tell(attempt.number, TrialState.FAIL)

    def _is_lost(self, attempt: FrozenTrial, number: int) -> bool:
        """Return whether the worker of a running attempt is known to be dead."""
        host, home = (attempt.user_attrs.get(name) for name in (HOST, DIRECTORY))
        if isinstance(self.storage, JournalStorage) or (host, home) == self._location:
            return not is_locked(name_checkpoint(self.directory, number))
        if host is not None or attempt.datetime_start is None:
            return False
        return datetime.now() - attempt.datetime_start > _UNSEEN

    def _enqueue(self) -> bool:
        """Enqueue the next trial in Optuna unless one is waiting; False if none is left."""
        groups = group_attempts(self.study)
        if any(a.state == TrialState.WAITING for a in itertools.chain(*groups.values())):
            return True
        for number in range(self.sweep.trials):
            attempts = groups.get(number, [])
            if not all(map(needs_retry, attempts)):
                continue
            if is_locked(name_checkpoint(self.directory, number)):
                continue  # `train --resume` is running on it
            self.study.enqueue_trial(self._choose_params(number, attempts), {TRIAL: number})
            return True
        return False

    def _choose_params(self, number: int, attempts: Sequence[FrozenTrial]) -> dict[str, Any]:
        """Return a grid's point, or the params of an earlier attempt; {} leaves them to Optuna."""
        if self._grid:
            return self._grid[number]
        full = [one.params for one in attempts if len(one.params) == len(self.sweep.search)]
        return full[-1] if full else {}

    def _lease(self, trial: Trial) -> TrialLease | None:
        """Lock a trial that Optuna has handed out; None if another worker was faster."""
        number = int(trial.user_attrs.get(TRIAL, -1))
        attempts = group_attempts(self.study).get(number)
        path, lock = name_checkpoint(self.directory, number), RunLock()
        is_ours = attempts is not None and all(
            needs_retry(attempt) for attempt in attempts if attempt.number < trial.number
        )
        with contextlib.suppress(LockedError):
            if is_ours:
                lock.acquire(path)
        if not lock.holds(path):
            trial.set_user_attr(STOPPED, True)
            self._tell(trial.number, TrialState.FAIL)
            return None
        host, home = self._location
        trial.set_user_attr(HOST, host)
        trial.set_user_attr(DIRECTORY, home)
        lease = TrialLease(number, path, trial, lock)
        self.heartbeat(lease)
        return lease

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> bool:
        """Store an attempt's end; False if another worker has."""
        try:
            with suppress_optuna_warnings():
                self.study.tell(number, value, state)
        except (UpdateFinishedTrialError, ValueError):  # Optuna raises either
            return False
        return True


def name_checkpoint(directory: Path, number: int) -> Path:
    """Return the path of a trial's checkpoint."""
    return directory / f"trial-{number:04d}.h5"


def needs_retry(attempt: FrozenTrial) -> bool:
    """Return whether an attempt was lost or stopped, so that its number is attempted again."""
    return attempt.state == TrialState.FAIL and REASON not in attempt.user_attrs


def group_attempts(study: Study) -> dict[int, list[FrozenTrial]]:
    """Return all attempts by trial number, in Optuna's order."""
    groups: dict[int, list[FrozenTrial]] = {}
    with refuse_damage(study.study_name):
        for trial in study.get_trials(deepcopy=False):
            # One without a number is to be ignored: Optuna creates a new trial if another machine
            # takes the enqueued one first, and `_lease` drops it.
            if TRIAL in trial.user_attrs:
                number = int(trial.user_attrs[TRIAL])
                if not 0 <= number < MAX_TRIALS:
                    raise ValueError(f"a trial with the number {number}")
                groups.setdefault(number, []).append(trial)
    return groups


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
    with refuse_damage(queue.study.study_name):
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


def _explain_deaths(lost: FrozenTrial, attempts: Sequence[FrozenTrial]) -> str:
    """Return why a lost attempt is not retried; an empty string if it is."""
    deaths = 1
    for earlier in reversed([attempt for attempt in attempts if attempt.number < lost.number]):
        if STOPPED in earlier.user_attrs or earlier.last_step != lost.last_step:
            break
        deaths += 1
    if deaths < MAX_WORKER_DEATHS:
        return ""
    return f"its worker died {deaths} times after epoch {lost.last_step or 0}"


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


def _find_test(number: int, study: Study) -> TestScore | None:
    """Return a trial's score on the test set."""
    for attempt in group_attempts(study).get(number, ()):
        if not needs_retry(attempt) and TEST in attempt.user_attrs:
            with refuse_damage(study.study_name):
                loss, accuracy = attempt.user_attrs[TEST]
                return TestScore(loss=loss, accuracy=accuracy)
    return None
