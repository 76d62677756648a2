"""What the bits of a result depend on besides config, data and seed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mnistcli import __version__
from mnistcli.checkpoints.record import Environment

_LIBRARIES = ("keras", "tensorflow", "numpy")
_FEATURES = ("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_tile")


def count_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_version(library: str) -> str | None:
    """Return an installed library's version without importing it; null where it is missing."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def describe_environment(threads: int, devices: int = 1, workers: int = 1) -> Environment:
    """Return versions, processor, threads and devices as a checkpoint records them."""
    versions = {name: version(name) for name in _LIBRARIES}
    return Environment(
        versions={"mnistcli": __version__, **versions, "python": platform.python_version()},
        processor=platform.machine(),
        processor_features=read_processor_features(),
        threads=threads,
        onednn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
        devices=devices,
        workers=workers,
    )


def describe_devices(environment: Environment) -> str:
    """Say on how many devices a run trained; nothing where that was one."""
    devices, workers = environment.devices, environment.workers
    if workers > 1:
        return f"{workers} workers" + (f" with {devices} devices each" if devices > 1 else "")
    return f"{devices} devices" if devices > 1 else ""


def list_differences(recorded: Environment, present: Environment) -> tuple[str, ...]:
    """Say what may change the bits of a result: `keras 3.15.1 -> 3.16.0` for example.

    Python's own version does no arithmetic here, and threads are applied again as recorded.

    Args:
        recorded: where a run was made.
        present: where it goes on.
    """
    names = sorted((recorded.versions.keys() | present.versions.keys()) - {"python"})
    pairs = [
        (name, recorded.versions.get(name, "unknown"), present.versions.get(name, "unknown"))
        for name in names
    ]
    before, after = set(recorded.processor_features), set(present.processor_features)
    features = [f"-{name}" for name in sorted(before - after)]
    features += [f"+{name}" for name in sorted(after - before)]
    pairs.append(("processor", recorded.processor, present.processor))
    pairs.append(("devices", str(recorded.devices), str(present.devices)))
    pairs.append(("workers", str(recorded.workers), str(present.workers)))
    pairs.append(("TF_ENABLE_ONEDNN_OPTS", str(int(recorded.onednn)), str(int(present.onednn))))
    differences = [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]
    return (*differences, *([f"processor features {' '.join(features)}"] if features else []))


def read_processor_features() -> tuple[str, ...]:
    """Name the vector instructions that decide how products are summed, where Linux tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return tuple(name for name in _FEATURES if name in flags)
