"""A sweep's Optuna study: its storage (a journal or a database), sampler and pruner."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
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

from mnistcli.atomic_files import open_scratch_file
from mnistcli.commands.sweep.definition import Dimension, NumericDimension, PrunerName, Sweep
from mnistcli.errors import DataError, ResourceError, UsageError, redact
from mnistcli.output.logs import warn
from mnistcli.tensorflow_import import is_debugging

TRIAL = "trial"
"""The user attribute with a trial's number: its place in the sweep, from 0."""

JOURNAL = "sweep.journal"
HEARTBEAT_S = 10
GRACE_S = 60
"""A trial of another machine is retried after so many seconds without a heartbeat."""

_IDENTITY = "mnistcli:sweep"
_DATA = "mnistcli:data"
_FLAG = "--storage"
_DRIVER = "postgresql+psycopg"  # SQLAlchemy 2.0 defaults to psycopg2
_CONNECT_TIMEOUT_S = 10
_ATTEMPTS = 5
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)
"""What reading raises where a record is no JSON, or has other keys or types."""


def open_study(storage: BaseStorage, name: str, sweep: Sweep, where: str, hint: str) -> Study:
    """Create a sweep's study, or load it if the storage has one of that name.

    Args:
        storage: the study's storage.
        name: the study's name.
        sweep: has to be the study's, except for the number of trials.
        where: the sweep's name in errors.
        hint: what to do if the study is another sweep's.

    Raises:
        UsageError: the study is another sweep's.
    """
    parts: dict[str, Any] = {
        "storage": storage,
        "study_name": name,
        "sampler": TrialSampler(sweep),
        "pruner": _make_pruner(sweep.pruner),
    }
    with suppress_optuna_warnings(), refuse_damage(name):
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
        raise UsageError(where, what, hint)
    changed = [part for part in {**known, **identity} if known.get(part) != identity.get(part)]
    if changed:
        what = f"not the sweep that began as {name}: {_format_parts(changed)} changed since"
        raise UsageError(where, what, hint)
    return study


def check_data(study: Study, location: str, sha256: str | None) -> None:
    """Require the data set that the sweep began with, so that trials can be compared.

    Raises:
        DataError: the data set is another one.
    """
    known = study.user_attrs.get(_DATA)
    if known is None and sha256 is not None:
        study.set_user_attr(_DATA, sha256)
    elif known != sha256:
        what = f"not the data that the sweep {study.study_name} began with"
        raise DataError(location, what, "point --data-dir to those")


def list_distributions(sweep: Sweep) -> dict[str, BaseDistribution]:
    """Return the search space as Optuna's distributions by key."""
    return {dimension.key: _make_distribution(dimension) for dimension in sweep.search}


def open_journal(directory: Path) -> BaseStorage:
    """Open the journal of a folder, or create one.

    A damaged end, which a power cut leaves for example, is cut off with a warning.

    Raises:
        ResourceError: it cannot be written or read, or the file system does not support locks; or
            it is damaged in the middle.
    """
    _silence_optuna_log()
    path = directory / JOURNAL
    lock: Any = _JournalLock(path)  # has the methods of Optuna's base class
    try:
        with lock.held():
            os.close(open_scratch_file(path))
            file = _JournalFile(str(path), lock)
            try:
                storage = _Journal(file)  # Optuna passes over a last line that is no JSON
            except ResourceError:
                if not _cut_damaged_end(path, file.line):
                    raise
            else:
                if not _cut_damaged_end(path, file.line):
                    return storage
            return _Journal(_JournalFile(str(path), lock))
    except (OSError, NotImplementedError) as error:
        what = f"cannot be kept here: {getattr(error, 'strerror', None) or error}"
        raise ResourceError(str(path), what, "choose another folder with -o") from error


def open_database(url: str) -> BaseStorage:
    """Connect to a database and create Optuna's tables if they are missing.

    Raises:
        UsageError: the URL is invalid.
        ResourceError: the database cannot be reached.
    """
    _silence_optuna_log()
    address = _parse_url(url)
    is_postgresql = address.drivername == _DRIVER
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if is_postgresql:
        engine["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    elif address.database:  # a file is opened fast; no pool keeps it open when something fails
        engine["poolclass"] = sqlalchemy.pool.NullPool
    with translate_storage_errors(format_url(url)):
        for attempt in range(_ATTEMPTS):
            try:
                with suppress_optuna_warnings():
                    return RDBStorage(
                        address.render_as_string(hide_password=False),
                        engine,
                        heartbeat_interval=HEARTBEAT_S,
                        grace_period=GRACE_S,
                    )
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * (attempt + 1))  # another process is creating the tables
            except RuntimeError as error:
                what = "its tables are those of another version of Optuna"
                hint = "use that version, or another database"
                raise ResourceError(format_url(url), what, hint) from error
    raise AssertionError


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a database; a journal has none."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def format_url(url: str) -> str:
    """Format a database's URL without its passwords.

    Raises:
        UsageError: the URL is invalid.
    """
    address = _parse_url(url)
    if address.drivername == _DRIVER:
        address = address.set(drivername=address.get_backend_name())  # as users write it
    return redact(address.render_as_string(hide_password=True))


@contextlib.contextmanager
def translate_storage_errors(where: str) -> Iterator[None]:
    """Raise a database's errors as ResourceError.

    Args:
        where: the storage's name in errors.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause: BaseException = error.__cause__ or error  # Optuna's own says nothing
        cause = getattr(cause, "orig", None) or cause
        lines = str(cause).strip().splitlines()
        what = f"the database does not answer: {lines[0] if lines else type(cause).__name__}"
        hint = (
            "see that it runs and takes this user; the same command goes on with the sweep, and no"
            " trial that has ended is lost"
        )
        raise ResourceError(where, what, hint) from error
    except ImportError as error:
        what = "there is no driver for it"
        raise ResourceError(where, what, "use PostgreSQL, or install the driver") from error


@contextlib.contextmanager
def suppress_optuna_warnings() -> Iterator[None]:
    """Suppress Optuna's warnings of experimental features."""
    if is_debugging():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def refuse_damage(study: str) -> Iterator[None]:
    """Raise ResourceError where a study's records make no sense.

    Args:
        study: its name.
    """
    try:
        yield
    except _DAMAGE as error:
        why = " ".join(str(error.args[0] if error.args else error).split())[:100]
        what = f"its storage holds what mnistcli does not write: {why}"
        hint = "restore it from a copy, or begin another sweep with -o and --study"
        raise ResourceError(f"the study {study}", what, hint) from error


class TrialSampler(BaseSampler):
    """Sample each trial with a seed of its own, derived from the sweep's seed and its number.

    One seed for all trials would restart in every process: a resumed sweep would suggest the same
    values again.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._kind, self._seed = sweep.sampler, sweep.seed
        self._sampler: BaseSampler = RandomSampler(self._seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Create a sampler with the trial's seed."""
        words = [self._seed, int(trial.user_attrs.get(TRIAL, trial.number))]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        tpe = self._kind == "tpe"
        self._sampler = TPESampler(seed=seed) if tpe else RandomSampler(seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the keys that are sampled together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample the keys that are sampled together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one key independently of the others."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler store what it needs for later trials."""
        self._sampler.after_trial(study, trial, state, values)


def _format_parts(changed: list[str]) -> str:
    """Name changed parts; the order of the searched keys only if nothing else has changed."""
    keys = [part.removeprefix("search ") for part in changed if part.startswith("search ")]
    others = [part for part in changed if not part.startswith("search")]
    names = {"base": "the config", "fixed": "set"}
    changed = [*(names.get(part, part) for part in others), *keys]
    return ", ".join(changed or ["the order of search"])


def _make_pruner(name: PrunerName) -> BasePruner:
    return MedianPruner() if name == "median" else NopPruner()


def _make_distribution(dimension: Dimension) -> BaseDistribution:
    if not isinstance(dimension, NumericDimension):
        return CategoricalDistribution(dimension.choices)
    # Optuna warns of a range that does not end at one of its steps.
    points = dimension.list_points() if dimension.step is not None else None
    high = dimension.high if points is None else points[-1]
    assert isinstance(high, int | float)
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, high, log=dimension.log, step=dimension.step)


def _parse_url(url: str) -> sqlalchemy.URL:
    """Parse a URL and select the PostgreSQL driver that the extra `sweep` installs."""
    hint = "write postgresql://USER@HOST/DATABASE"
    try:
        address = sqlalchemy.make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername=_DRIVER)
        address.get_dialect()
        if "@" in (address.host or ""):
            hint = "write %40 for an @ in the password"
            raise UsageError(_FLAG, "the URL has two @", hint)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UsageError(_FLAG, "no database's URL", hint) from None
    return address


def _silence_optuna_log() -> None:
    # Optuna logs every trial; the sweep reports them itself.
    if not is_debugging():
        optuna.logging.set_verbosity(logging.ERROR)


class _JournalFile(JournalFileBackend):
    """A journal's file.

    Attributes:
        line: number of the line that is read next, from 1; where reading failed, of that line.
    """

    line = 1

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the records from a number on."""
        self.line = log_number_from + 1
        for record in super().read_logs(log_number_from):
            yield record
            self.line += 1  # only after the reader has made sense of it


class _Journal(JournalStorage):
    """A journal whose damage is reported with its line, whenever it is read."""

    def __init__(self, file: _JournalFile) -> None:
        self._file = file
        super().__init__(file)

    def _sync_with_backend(self) -> None:
        try:
            super()._sync_with_backend()
        except _DAMAGE as error:
            path, line = self._file._file_path, self._file.line
            if line == 1:
                hint = "choose another folder with -o"
                raise ResourceError(path, "damaged: it is no journal of Optuna's", hint) from error
            what = f"line {line} is damaged, in the middle of others"
            cut = f"sed -i.bak '{line},$d' {shlex.quote(path)}"
            hint = (
                f"{cut} keeps what stands above it, and a copy of the whole; trials below it go on"
                " from their files"
            )
            raise ResourceError(path, what, hint) from error


def _cut_damaged_end(path: Path, line: int) -> bool:
    """Cut a journal off at a damaged line, unless a record follows; return whether that was done.

    Args:
        path: of the journal, which is locked.
        line: number of the first line that is damaged or missing, from 1.
    """
    size = 0
    with path.open("rb+") as file:
        for number, content in enumerate(file, 1):
            if number < line:
                size += len(content)
            elif line == 1 or (number > line and _is_record(content)):
                return False
        if size == file.tell():
            return False
        file.truncate(size)
    warn(f"{path}: damaged from line {line} on, and cut off there: what it held is done again")
    return True


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "op_code" in record


class _JournalLock:
    """Lock a journal for one writer; the kernel releases the lock when its process ends.

    Optuna's own lock is a symbolic link. A killed process leaves it, and the others wait for half
    a minute until they remove it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(
            path.with_name(f".{path.name}-lock"), fallback_to_soft=False, is_singleton=False
        )

    def acquire(self) -> bool:
        """Wait for the lock and repair the journal's last line."""
        os.close(open_scratch_file(Path(self._lock.lock_file)))
        self._lock.acquire(poll_interval=0.01)
        try:
            self._remove_partial_line()
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock during a `with` block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _remove_partial_line(self) -> None:
        """Truncate a line that a killed process began; no other process has read it."""
        if not self._path.exists():
            return
        with os.fdopen(open_scratch_file(self._path), "rb+") as file:
            size = file.seek(0, 2)
            if size == 0:
                return
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
