"""How workers share trials: each is somebody's or nobody's, and what the dead had is taken up.

A worker holds the lock of its trial's checkpoint, which the system drops when the process ends,
however it ends. So whoever sees a running trial of this folder without its lock knows at once that
its worker is dead, on a journal as on a database. Of other machines' trials only their heartbeats
in the database tell.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator, Sequence
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

from mnistcli.checkpoints.lock import LockedError, RunLock, is_locked
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.ranking import (
    DIRECTORY,
    HOST,
    REASON,
    STOPPED,
    TEST,
    find_reason,
    group_trials,
    is_settled,
    name_checkpoint,
)
from mnistcli.commands.sweep.study import TRIAL, close_storage, hush, list_distributions
from mnistcli.errors import ResourceError

_UNSEEN = timedelta(hours=1)  # after which a trial without a worker's name was never begun


@dataclass(frozen=True)
class Claim:
    """A trial that is this worker's until it is told.

    Attributes:
        number: its place in the sweep.
        path: of its checkpoint.
        lock: of the checkpoint; to be opened by whoever has the claim.
    """

    number: int
    path: Path
    trial: Trial
    lock: RunLock


@dataclass(frozen=True)
class Desk:
    """Where a worker gets trials and hands them back.

    Attributes:
        study: the sweep's, in `storage`.
        sweep: says how many trials there are, and of what.
        directory: of this machine's checkpoints.
    """

    study: Study
    storage: BaseStorage
    sweep: Sweep
    directory: Path
    host: str = field(default_factory=socket.gethostname)

    @cached_property
    def _distributions(self) -> dict[str, BaseDistribution]:
        """Made once."""
        return list_distributions(self.sweep)

    @cached_property
    def _points(self) -> Sequence[dict[str, Any]]:
        """A grid's combinations, by the trials' numbers; none for other samplers."""
        return tuple(self.sweep.list_points()) if self.sweep.sampler == "grid" else ()

    def claim(self) -> Claim | None:
        """Take a trial that nobody has; null where there is none just now.

        Raises:
            ResourceError: the folder takes no files, or its file system has no locks.
        """
        with self._alone(), hush():
            while True:
                self._fail_lost()
                if not self._enqueue():
                    return None
                trial = self.study.ask(self._distributions)
                claim = self._begin(trial)
                if claim is not None:
                    return claim

    def is_finished(self) -> bool:
        """Tell whether every trial has come to an end."""
        groups = group_trials(self.study)
        return all(
            any(is_settled(trial) and trial.state.is_finished() for trial in groups.get(n, ()))
            for n in range(self.sweep.trials)
        )

    def complete(self, claim: Claim, value: float, test: tuple[float, float]) -> bool:
        """Hand in a result; false where the trial was another worker's meanwhile.

        Args:
            claim: the trial.
            value: of the objective.
            test: loss and accuracy on the test set.
        """
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.set_user_attr(TEST, test)
        return self._tell(claim.trial.number, TrialState.COMPLETE, value)

    def prune(self, claim: Claim) -> bool:
        """Hand in a trial that was not worth going on with."""
        return self._tell(claim.trial.number, TrialState.PRUNED)

    def fail(self, claim: Claim, reason: str) -> bool:
        """Hand in a trial that would fail again."""
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.set_user_attr(REASON, reason)
        return self._tell(claim.trial.number, TrialState.FAIL)

    def give_back(self, claim: Claim) -> None:
        """Leave a trial to whoever takes it up next."""
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.set_user_attr(STOPPED, True)
        self._tell(claim.trial.number, TrialState.FAIL)

    def beat(self, claim: Claim) -> None:
        """Tell other machines that this trial's worker is alive."""
        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(claim.trial._trial_id)

    def close(self) -> None:
        """Let go of the storage."""
        close_storage(self.storage)

    def is_here(self, host: str, directory: Path) -> bool:
        """Tell whether checkpoints of a machine and a folder are this desk's."""
        return (host, str(directory)) == self._address

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Of this folder's workers one at a time: a trial is claimed and locked in one go."""
        lock = FileLock(self.directory / ".sweep-claim", fallback_to_soft=False, is_singleton=False)
        try:
            lock.acquire(poll_interval=0.02)
        except (OSError, NotImplementedError) as error:
            what = f"workers cannot lock files here: {getattr(error, 'strerror', '') or error}"
            hint = "choose another folder with -o"
            raise ResourceError(str(self.directory), what, hint) from error
        try:
            yield
        finally:
            lock.release()

    def _fail_lost(self) -> None:
        """Find the trials whose workers are dead, and let them be taken up again."""
        if isinstance(self.storage, RDBStorage):
            optuna.storages.fail_stale_trials(self.study)
        groups = group_trials(self.study)
        for number, attempts in groups.items():
            for trial in attempts:
                if trial.state != TrialState.RUNNING or not self._is_lost(trial, number):
                    continue
                if reason := find_reason(trial, attempts):
                    with contextlib.suppress(UpdateFinishedTrialError):
                        self.storage.set_trial_user_attr(trial._trial_id, REASON, reason)
                self._tell(trial.number, TrialState.FAIL)

    def _is_lost(self, trial: FrozenTrial, number: int) -> bool:
        """Tell whether the worker of a running trial is known to be dead."""
        host, home = (trial.user_attrs.get(name) for name in (HOST, DIRECTORY))
        if isinstance(self.storage, JournalStorage) or (host, home) == self._address:
            return not is_locked(name_checkpoint(self.directory, number))
        if host is not None or trial.datetime_start is None:
            return False
        return datetime.now() - trial.datetime_start > _UNSEEN

    @property
    def _address(self) -> tuple[str, str]:
        """Where this machine's checkpoints are, as trials remember it."""
        return self.host, str(self.directory.resolve())

    def _enqueue(self) -> bool:
        """See that there is a trial to ask for; false where there is none to be had."""
        groups = group_trials(self.study)
        if any(t.state == TrialState.WAITING for t in itertools.chain(*groups.values())):
            return True
        for number in range(self.sweep.trials):
            attempts = groups.get(number, [])
            if any(map(is_settled, attempts)):
                continue
            if is_locked(name_checkpoint(self.directory, number)):
                continue  # somebody goes on with it by `train --resume`
            self.study.enqueue_trial(self._find_values(number, attempts), {TRIAL: number})
            return True
        return False

    def _find_values(self, number: int, attempts: Sequence[FrozenTrial]) -> dict[str, Any]:
        """A grid's point, or what a lost trial had; nothing leaves it to the sampler."""
        if self._points:
            return self._points[number]
        whole = [trial.params for trial in attempts if len(trial.params) == len(self.sweep.search)]
        return whole[-1] if whole else {}

    def _begin(self, trial: Trial) -> Claim | None:
        """Lock a trial that was asked for; null where somebody else was faster with it."""
        number = int(trial.user_attrs.get(TRIAL, -1))
        attempts = group_trials(self.study).get(number)
        path, lock = name_checkpoint(self.directory, number), RunLock()
        is_ours = attempts is not None and not any(
            is_settled(attempt) and attempt.number < trial.number for attempt in attempts
        )
        with contextlib.suppress(LockedError):
            if is_ours:
                lock.take(path)
        if not lock.holds(path):
            trial.set_user_attr(STOPPED, True)
            self._tell(trial.number, TrialState.FAIL)
            return None
        host, home = self._address
        trial.set_user_attr(HOST, host)
        trial.set_user_attr(DIRECTORY, home)
        claim = Claim(number, path, trial, lock)
        self.beat(claim)
        return claim

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> bool:
        """Write a trial's end down, unless somebody else has."""
        try:
            with hush():
                self.study.tell(number, value, state)
        except (UpdateFinishedTrialError, ValueError):  # Optuna raises either
            return False
        return True
