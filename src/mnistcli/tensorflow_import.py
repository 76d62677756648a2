"""Imports Keras on TensorFlow: quietly, in the background, and without packages it does not need.

Modules of `training` import both libraries at module level; call `load_backend` before importing
them.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from io import TextIOWrapper

from mnistcli.user_folders import find_home

DEBUG_VARIABLE = "MNISTCLI_DEBUG"
NO_KERAS_HOME = os.devnull  # nothing can be read or made below it

# Keras imports these where they are installed, for features that are not used here. That takes
# half a second (matplotlib, scikit-learn) to four seconds (PyTorch). A None in sys.modules makes
# the import fail as if the package were missing, which Keras expects.
_UNUSED = ("IPython", "jax", "matplotlib", "pandas", "pydot", "sklearn", "torch")

_LOG = logging.getLogger(__name__)


def is_debugging() -> bool:
    """Return whether MNISTCLI_DEBUG asks for tracebacks and TensorFlow's own messages."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def start_loading() -> None:
    """Start to import Keras in a thread, while the caller reads its data.

    A process that ends before `load_backend` has returned must do so by `os._exit`: the
    interpreter cannot be shut down during an import.
    """
    if "keras" not in sys.modules and not _loading:
        _loading.append(ThreadPoolExecutor(1, "load-backend").submit(_import_backend))


def load_backend() -> None:
    """Import Keras on TensorFlow, or wait for the import that `start_loading` started.

    What the two print to stderr meanwhile is dropped, unless MNISTCLI_DEBUG is set or the log
    level is `debug`.
    """
    if _loading:
        _loading[0].result()
    elif "keras" not in sys.modules:
        _import_backend()


def wait_for_loading() -> None:
    """Wait for the import that `start_loading` started, if any; its errors are not raised here."""
    wait(_loading)


def clear_session() -> None:
    """Reset Keras after a run, once nothing refers to that run any more.

    Keras numbers names within a process (adam, adam_1) and keeps compiled functions. Without
    them the next run is as in a process of its own.
    """
    load_backend()
    sys.modules["keras"].utils.clear_session()


_loading: list[Future[None]] = []


def _import_backend() -> None:
    """Import both libraries, with the settings that a checkpoint's record assumes."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    begin_s = time.perf_counter()
    _choose_keras_home()
    if is_debugging():
        importlib.import_module("keras")
    else:
        _import_quietly()
    _ignore_settings()
    _LOG.info("imported TensorFlow and Keras in %.2f s", time.perf_counter() - begin_s)


def _choose_keras_home() -> None:
    """Keep Keras from making a folder where nobody expects one, or reading other users' settings.

    Without a home that it can write to, it would take `~` in the working directory, or /tmp. An
    empty variable would be the working directory too.
    """
    if not os.environ.get("KERAS_HOME"):
        os.environ.pop("KERAS_HOME", None)
        home = find_home()
        if home is None or not os.access(home, os.W_OK):
            os.environ["KERAS_HOME"] = NO_KERAS_HOME


def _ignore_settings() -> None:
    """Undo the settings of ~/.keras/keras.json, which must not change results."""
    settings = sys.modules["keras"].config
    settings.set_floatx("float32")
    settings.set_epsilon(1e-7)
    settings.set_image_data_format("channels_last")


def _import_quietly() -> None:
    """Import both libraries; what they print is dropped unless the log level is `debug`."""
    is_logged = _LOG.isEnabledFor(logging.DEBUG)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if is_logged else "3")
    with contextlib.nullcontext() if is_logged else redirect_native_stderr(), hide_modules():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.DEBUG if is_logged else logging.ERROR)


@contextlib.contextmanager
def hide_modules() -> Iterator[None]:
    """Make imports of packages that are not used here fail, for example while Keras is imported."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def redirect_native_stderr(path: str = os.devnull) -> Iterator[None]:
    """Redirect what native code writes to stderr, and keep Python's `sys.stderr` as it is.

    Args:
        path: an existing file, which is appended to.
    """
    stream = sys.stderr
    stream.flush()
    writes_to_2 = isinstance(stream, TextIOWrapper) and _find_descriptor(stream) == 2
    if writes_to_2:  # the copy is never closed: other threads may hold on to it
        sys.stderr = os.fdopen(os.dup(2), "w", 1, encoding=stream.encoding, errors=stream.errors)
    try:
        with redirect_descriptor_2(path):
            yield
    finally:
        if writes_to_2:
            sys.stderr = stream


def _find_descriptor(stream: TextIOWrapper) -> int | None:
    """Return what a stream writes to; None where that is memory."""
    try:
        return stream.fileno()
    except OSError:
        return None


@contextlib.contextmanager
def redirect_descriptor_2(path: str = os.devnull) -> Iterator[None]:
    """Redirect file descriptor 2, and with it whatever writes to it, `sys.stderr` included.

    Args:
        path: an existing file, which is appended to.
    """
    kept, target = os.dup(2), os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
