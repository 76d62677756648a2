"""Imports Keras and TensorFlow once, quietly, and without what they drag in needlessly.

The one place that decides how the heavy libraries are loaded; modules that need them at top level
([keras] in the design: network, epoch, training) are imported after `load_backend`.
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

DEBUG_VARIABLE = "MNISTCLI_DEBUG"

# Where they are installed, Keras imports them for features that are not used here; that takes
# half a second (matplotlib, scikit-learn) to four seconds (PyTorch). A None in sys.modules makes
# such an import fail as if they were missing, which Keras is prepared for.
_NEEDLESS = ("IPython", "jax", "matplotlib", "pandas", "pydot", "sklearn", "torch")

_LOG = logging.getLogger(__name__)


def is_debugging() -> bool:
    """Tell whether tracebacks and TensorFlow's own words are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def start_loading() -> None:
    """Begin to import Keras in the background, while the caller reads its data.

    A process that has begun must end by `os._exit` when it ends before `load_backend` returned:
    the interpreter cannot be taken down under an import.
    """
    if "keras" not in sys.modules and not _loading:
        _loading.append(ThreadPoolExecutor(1, "load-backend").submit(_import_backend))


def load_backend() -> None:
    """Import Keras on TensorFlow, or wait for the import that `start_loading` began.

    What they print on the way is dropped unless debugging, or where the log is at `debug`.
    """
    if _loading:
        _loading[0].result()
    elif "keras" not in sys.modules:
        _import_backend()


def wait_for_loading() -> None:
    """Return once no import is under way that `start_loading` began; how it ended is not told."""
    wait(_loading)


_loading: list[Future[None]] = []


def _import_backend() -> None:
    """Import both, quietly, and as a checkpoint's record takes them to be."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if os.environ.get("KERAS_HOME") == "":
        del os.environ["KERAS_HOME"]  # Keras would write its settings into the working directory
    begin_s = time.perf_counter()
    if is_debugging():
        importlib.import_module("keras")
    else:
        _import_quietly()
    _ignore_settings()
    _LOG.info("imported TensorFlow and Keras in %.2f s", time.perf_counter() - begin_s)


def _ignore_settings() -> None:
    """Undo what ~/.keras/keras.json says: a file that nobody names must not change results."""
    settings = sys.modules["keras"].config
    settings.set_floatx("float32")
    settings.set_epsilon(1e-7)
    settings.set_image_data_format("channels_last")


def _import_quietly() -> None:
    """Import both; what they print is for the log only, where that is asked for."""
    is_logged = _LOG.isEnabledFor(logging.DEBUG)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if is_logged else "3")
    with contextlib.nullcontext() if is_logged else _drop_stderr(), hide_modules():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.DEBUG if is_logged else logging.ERROR)


@contextlib.contextmanager
def _drop_stderr() -> Iterator[None]:
    """Lead file descriptor 2 nowhere: TensorFlow's C++ side writes to it, not to sys.stderr.

    Python's own stream keeps a descriptor to where 2 led, for what other threads have to say.
    """
    stream = sys.stderr
    stream.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    if isinstance(stream, TextIOWrapper) and stream is sys.__stderr__:
        sys.stderr = os.fdopen(
            os.dup(kept), "w", 1, encoding=stream.encoding, errors=stream.errors
        )  # never closed: others may hold on to it
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = stream


@contextlib.contextmanager
def hide_modules() -> Iterator[None]:
    """Let imports of needless libraries fail, while Keras is imported for example."""
    hidden = [name for name in _NEEDLESS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
