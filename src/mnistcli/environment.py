"""What the bits of a result depend on besides config, data and seed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from mnistcli import __version__
from mnistcli.checkpoint.record import Environment

_LIBRARIES = ("keras", "tensorflow", "numpy")
_FEATURES = ("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_tile")


def count_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_environment(threads: int) -> Environment:
    """Return versions, processor and threads as a checkpoint records them."""
    versions = {name: version(name) for name in _LIBRARIES}
    return Environment(
        versions={"mnistcli": __version__, **versions, "python": platform.python_version()},
        processor=platform.machine(),
        processor_features=_read_processor_features(),
        threads=threads,
        onednn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
    )


def _read_processor_features() -> tuple[str, ...]:
    """Name the vector instructions that decide how products are summed, where Linux tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return tuple(name for name in _FEATURES if name in flags)
