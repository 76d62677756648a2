"""Where a sweep's trials are written down: a journal beside the checkpoints, or a database."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from mnistcli.errors import ResourceError, UsageError
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
