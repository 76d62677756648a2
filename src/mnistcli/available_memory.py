"""How much memory this process may still take, on Linux."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def read_available_memory(root: Path = Path("/")) -> int | None:
    """Return the memory that this process may still take, in bytes; None where not on Linux.

    This is the kernel's estimate (MemAvailable), or what is left of the limit of a control group of
    this process (a container, a batch job), whichever is less.

    Args:
        root: of the file system that holds proc and sys.
    """
    found = [*_read_machine(root), *_read_groups(root)]
    return max(0, min(found)) if found else None


def _read_machine(root: Path) -> Iterator[int]:
    # MemAvailable includes the caches that the kernel would give up.
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    if match is not None:
        yield int(match[1]) * 1024


def _read_groups(root: Path) -> Iterator[int]:
    """Yield what is left in each control group of this process, from its own up to the root."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _read_upwards(root / "sys/fs/cgroup", path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _read_upwards(root / "sys/fs/cgroup/memory", path, names)


def _read_upwards(top: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    # In a container the path of the process' group may not be visible: its parents are tried.
    limit_name, usage_name, cache_name = names
    group = Path(path.lstrip("/"))
    for relative in (group, *group.parents):
        limit = _read(top / relative / limit_name).strip()
        usage = _read(top / relative / usage_name).strip()
        if limit.isdigit() and usage.isdigit():  # `max` is no limit
            statistics = _read(top / relative / "memory.stat")
            cache = re.search(rf"^{cache_name} (\d+)$", statistics, re.MULTILINE)
            yield int(limit) - int(usage) + (int(cache[1]) if cache else 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
