"""What the system lets a process take: address space, threads, processes, open files.

Libraries written in C end the process where they get none, with words of their own or with a signal
that looks like Ctrl-C. So what they will ask for is asked for beforehand.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import sys
import threading
from collections.abc import Iterator

from mnistcli.errors import ResourceError

_NUMPY_BYTES = 160_000_000  # of address space, Python's and that of other packages included
_BLAS_THREAD_BYTES = 35_000_000  # its stack and its buffer
_THREAD_BYTES = 5_000_000  # of TensorFlow's, which are not all there at once
_OTHERS = 2  # threads and processes: one reads checkpoints
_TENSORFLOW_BYTES = 1_850_000_000  # beyond the memory that a run takes: mostly unused code
_TENSORFLOW_THREADS = 20  # and three a processor
_MAX_BLAS_THREADS = 64
_NO_MEMORY = re.compile(r"failed to map segment|cannot allocate memory", re.IGNORECASE)
_NO_FILES = re.compile(r"too many open files", re.IGNORECASE)


def check_start() -> None:
    """Check that NumPy can be imported, which starts a thread for each further processor.

    Raises:
        ResourceError: there is not enough address space, or there are not enough threads.
    """
    threads = _count_blas_threads()
    _check_address_space(_NUMPY_BYTES + threads * _BLAS_THREAD_BYTES)
    _check_threads(threads - 1 + _OTHERS)
    if _read_limit() is not None:
        _take_blas_buffers()


def start_no_threads() -> None:
    """Have NumPy start no threads if it is imported only now, to report that there are none."""
    if "numpy" not in sys.modules:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"


def check_tensorflow_start(memory_bytes: int) -> None:
    """Check that TensorFlow can be loaded and a run can be trained.

    Args:
        memory_bytes: that the run takes.

    Raises:
        ResourceError: there is not enough address space, or there are not enough threads.
    """
    threads = _TENSORFLOW_THREADS + 3 * (os.cpu_count() or 1)
    _check_address_space(memory_bytes + _TENSORFLOW_BYTES + threads * _THREAD_BYTES)
    _check_threads(threads)


@contextlib.contextmanager
def translate_shortages() -> Iterator[None]:
    """Raise ResourceError where this process got no memory, thread, process or file."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if (shortage := _explain_shortage(error)) is None:
            raise
        raise shortage from error


def _explain_shortage(error: Exception) -> ResourceError | None:
    """Return what was short; None where the error is another one."""
    number = error.errno if isinstance(error, OSError) else None
    is_import, text = isinstance(error, ImportError), str(error)
    if number == errno.EAGAIN or text == "can't start new thread":
        return _make_thread_error()
    if number in (errno.EMFILE, errno.ENFILE) or (is_import and _NO_FILES.search(text)):
        hint = "raise the limit: ulimit -n 1024"
        return ResourceError("open files", "no more can be open at a time", hint)
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        hint = "use a smaller network, batch or data set"
        return ResourceError("memory", f"there is not enough of it{_describe_limit()}", hint)
    if is_import and _NO_MEMORY.search(text):
        hint = "end other programs, or raise the limit"
        return ResourceError("memory", f"libraries do not fit into it{_describe_limit()}", hint)
    return None


def _check_address_space(needed: int) -> None:
    limit = _read_limit()
    if limit is not None and limit < needed:
        what = f"about {_format(needed)} are needed, and the limit is {_format(limit)}"
        raise ResourceError("address space", what, "raise the limit: ulimit -v unlimited")


def _check_threads(count: int) -> None:
    """Start threads that do nothing, and end them."""
    if _read_limit() is not None:  # which the C library's reserves for each of them would use up
        return
    ended, threads = threading.Event(), []
    try:
        for _ in range(count):
            threads.append(threading.Thread(target=ended.wait, daemon=True))
            threads[-1].start()
    except RuntimeError:
        threads.pop()
        raise _make_thread_error() from None
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _take_blas_buffers() -> None:
    """Have OpenBLAS take its buffers while they are to be had; later it would end the process."""
    import numpy as np

    np.dot(square := np.zeros((512, 512), np.float32), square)


def _make_thread_error() -> ResourceError:
    what = "the system starts no more of them for this user or container"
    hint = "end other programs, or raise the limit: ulimit -u, or pids.max of a control group"
    return ResourceError("threads and processes", what, hint)


def _count_blas_threads() -> int:
    """Return how many threads OpenBLAS uses, NumPy's library for products."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if (text := os.environ.get(name, "")).isdigit() and int(text) > 0:
            return min(int(text), os.cpu_count() or 1)
    return min(os.cpu_count() or 1, _MAX_BLAS_THREADS)


def _describe_limit() -> str:
    limit = _read_limit()
    return "" if limit is None else f" within the limit of {_format(limit)} (ulimit -v)"


def _read_limit() -> int | None:
    """Return the limit on address space; None without one."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _format(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
