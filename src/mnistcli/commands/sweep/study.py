"""The study of a sweep: made once, found again, and never another sweep's.

Where a sweep's trials are written down: a journal beside the checkpoints, or a database.

How the values of a trial are chosen: Optuna's samplers, each trial with a seed of its own.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mnistcli.commands.sweep.definition import Dimension, NumericDimension, PrunerName, Sweep
from mnistcli.errors import DataError, ResourceError, UsageError
from mnistcli.tensorflow_import import is_debugging

JOURNAL = "sweep.journal"
HEARTBEAT_S = 10
GRACE_S = 60
"""A trial whose machine has been silent for so long is taken up by another one."""

_FLAG = "--storage"
_DRIVER = "postgresql+psycopg"  # SQLAlchemy 2.0 would look for another one
_CONNECT_TIMEOUT_S = 10
_ATTEMPTS = 5


def open_journal(directory: Path) -> BaseStorage:
    """Open the journal of a folder, or begin one.

    Raises:
        ResourceError: it cannot be written or read, or the file system has no locks.
    """
    _quieten()
    path = directory / JOURNAL
    try:
        with _KernelLock(path).held():
            pass
        lock: Any = _KernelLock(path)  # has what Optuna's base class of locks has
        return JournalStorage(JournalFileBackend(str(path), lock))
    except (OSError, NotImplementedError) as error:
        what = f"cannot be kept here: {getattr(error, 'strerror', None) or error}"
        raise ResourceError(str(path), what, "choose another folder with -o") from error
    except (ValueError, KeyError, AssertionError) as error:
        hint = "choose another folder with -o"
        raise ResourceError(str(path), "damaged: it is no journal of Optuna's", hint) from error


def open_database(url: str) -> BaseStorage:
    """Connect to a database, and make Optuna's tables where they are missing.

    Raises:
        UsageError: the URL names no database.
        ResourceError: it cannot be reached.
    """
    _quieten()
    address = _parse_url(url)
    is_postgresql = address.drivername == _DRIVER
    options = {"connect_timeout": _CONNECT_TIMEOUT_S} if is_postgresql else {}
    with explain_storage(name_storage(url)):
        for attempt in range(_ATTEMPTS):
            try:
                with hush():
                    return RDBStorage(
                        address.render_as_string(hide_password=False),
                        {"pool_pre_ping": True, "connect_args": options},
                        heartbeat_interval=HEARTBEAT_S,
                        grace_period=GRACE_S,
                    )
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * (attempt + 1))  # another process is making the tables
    raise AssertionError


def close_storage(storage: BaseStorage) -> None:
    """Let a database's connections go; a journal has none."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def name_storage(url: str) -> str:
    """Write a database's URL without its password; UsageError where it is none."""
    address = _parse_url(url)
    if address.drivername == _DRIVER:
        address = address.set(drivername=address.get_backend_name())  # as one writes it
    return address.render_as_string(hide_password=True)


def _parse_url(url: str) -> sqlalchemy.URL:
    """Name the driver that the extra brings."""
    hint = "write postgresql://USER@HOST/DATABASE"
    try:
        address = sqlalchemy.make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername=_DRIVER)
        address.get_dialect()
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UsageError(_FLAG, "no database's URL", hint) from None
    return address


@contextlib.contextmanager
def explain_storage(where: str) -> Iterator[None]:
    """Say of a database that it does not answer."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
        lines = str(cause or error).strip().splitlines()
        what = f"the database does not answer: {lines[0] if lines else type(error).__name__}"
        hint = "see that it runs and takes this user; the same command goes on with the sweep"
        raise ResourceError(where, what, hint) from error
    except ImportError as error:
        what = "there is no driver for it"
        raise ResourceError(where, what, "use PostgreSQL, or install the driver") from error


@contextlib.contextmanager
def hush() -> Iterator[None]:
    """Keep to ourselves what Optuna warns of: which of its parts may still change."""
    if is_debugging():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _quieten() -> None:
    """Results and failures are told in our words."""
    if not is_debugging():
        optuna.logging.set_verbosity(logging.ERROR)


class _KernelLock:
    """Keeps writers of a journal apart, and ends with its process.

    Optuna's own lock is a link that a killed process leaves behind, for which the others then
    wait half a minute. What such a process has written of a line is removed here: the line was
    not whole, and nobody has read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(
            path.with_name(f".{path.name}-lock"), fallback_to_soft=False, is_singleton=False
        )

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire(poll_interval=0.01)
        try:
            self._remove_torn_line()
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Let the next one write."""
        self._lock.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a while."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _remove_torn_line(self) -> None:
        """Cut off what stands behind the last line's end."""
        if not self._path.exists():
            return
        with self._path.open("rb+") as file:
            size = file.seek(0, 2)
            if size == 0:
                return
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


TRIAL = "trial"
"""The user attribute that holds a trial's number."""


def list_distributions(sweep: Sweep) -> dict[str, BaseDistribution]:
    """Return the search space as Optuna has it."""
    return {dimension.key: _make_distribution(dimension) for dimension in sweep.search}


def _make_distribution(dimension: Dimension) -> BaseDistribution:
    """Ranges end at the last number that a step leads to."""
    if not isinstance(dimension, NumericDimension):
        return CategoricalDistribution(dimension.choices)
    points = dimension.list_points() if dimension.step is not None else None
    high = dimension.high if points is None else points[-1]
    assert isinstance(high, int | float)
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, high, log=dimension.log, step=dimension.step)


def make_pruner(name: PrunerName) -> BasePruner:
    """Return Optuna's pruner of a name."""
    return MedianPruner() if name == "median" else NopPruner()


class TrialSampler(BaseSampler):
    """Chooses a trial's values by a sampler that is seeded by the sweep and the trial's number.

    A sampler with one seed for the whole sweep would begin anew in every process, and a sweep
    that goes on would suggest again what it has tried.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._kind, self._seed = sweep.sampler, sweep.seed
        self._sampler: BaseSampler = RandomSampler(self._seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the trial's own seed."""
        words = [self._seed, int(trial.user_attrs.get(TRIAL, trial.number))]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        tpe = self._kind == "tpe"
        self._sampler = TPESampler(seed=seed) if tpe else RandomSampler(seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is sampled together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample what is sampled together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one value by itself."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler write down what it needs."""
        self._sampler.after_trial(study, trial, state, values)


_IDENTITY = "mnistcli:sweep"
_DATA = "mnistcli:data"


def open_study(storage: BaseStorage, name: str, sweep: Sweep, where: str, way_out: str) -> Study:
    """Return the study of a sweep, a new one where there is none of that name.

    Args:
        storage: where it is written down.
        name: of the study.
        sweep: what it has to be the study of; the number of trials may be another one.
        where: what messages call the sweep.
        way_out: what to do where it is another sweep's.

    Raises:
        UsageError: it is another sweep's.
    """
    parts: dict[str, Any] = {
        "storage": storage,
        "study_name": name,
        "sampler": TrialSampler(sweep),
        "pruner": make_pruner(sweep.pruner),
    }
    with hush():
        try:
            study = optuna.create_study(**parts, direction=sweep.direction)
        except DuplicatedStudyError:
            study = optuna.load_study(**parts)
    identity = sweep.hash_parts()
    known = study.user_attrs.get(_IDENTITY)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_IDENTITY, identity)
        return study
    if not isinstance(known, dict):
        what = f"the study {name} was not made by mnistcli sweep"
        raise UsageError(where, what, way_out)
    changed = [part for part in {**known, **identity} if known.get(part) != identity.get(part)]
    if changed:
        what = f"not the sweep that began as {name}: {_name_parts(changed)} changed since"
        raise UsageError(where, what, way_out)
    return study


def _name_parts(changed: list[str]) -> str:
    """Say what is not the same; the list of keys only where no key itself tells it."""
    keys = [part.removeprefix("search ") for part in changed if part.startswith("search ")]
    others = [part for part in changed if not part.startswith("search")]
    names = {"base": "the config", "fixed": "set"}
    told = [*(names.get(part, part) for part in others), *keys]
    return ", ".join(told or ["the order of search"])


def check_data(study: Study, location: str, sha256: str | None) -> None:
    """Refuse other data than those that the sweep began with: results could not be compared.

    Raises:
        DataError: they are others.
    """
    known = study.user_attrs.get(_DATA)
    if known is None and sha256 is not None:
        study.set_user_attr(_DATA, sha256)
    elif known != sha256:
        what = f"not the data that the sweep {study.study_name} began with"
        raise DataError(location, what, "point --data-dir to those")
