"""Reading the available memory from the kernel's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnistcli.available_memory import read_available_memory

MEMINFO = "MemTotal:       24683520 kB\nMemFree:         1000000 kB\nMemAvailable:    4000000 kB\n"
MACHINE = 4_000_000 * 1024
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 1 kB\n"}, None),
        ({"proc/meminfo": MEMINFO}, MACHINE),
        (  # a container of version 2 sees its own group as the topmost; caches can be given up
            {
                "proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n",
                f"{V2}/memory.max": "1000000\n", f"{V2}/memory.current": "800000\n",
                f"{V2}/memory.stat": "anon 1\ninactive_file 300000\nactive_file 5\n",
            },
            500_000,
        ),
        (  # the parent of a batch job's group may be the one with the limit
            {
                "proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/jobs/17\n",
                f"{V2}/jobs/17/memory.max": "max\n", f"{V2}/jobs/17/memory.current": "10\n",
                f"{V2}/jobs/memory.max": "1000\n", f"{V2}/jobs/memory.current": "10\n",
            },
            990,
        ),
        (  # version 1; in a container the group's own path is not visible
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
                f"{V1}/memory.limit_in_bytes": "5000\n", f"{V1}/memory.usage_in_bytes": "4000\n",
                f"{V1}/memory.stat": "total_inactive_file 500\n",
            },
            1500,
        ),
        (  # more is used than the limit by now
            {
                "proc/self/cgroup": "0::/\n",
                f"{V2}/memory.max": "100\n", f"{V2}/memory.current": "130\n",
            },
            0,
        ),
        (  # the highest number there is stands for no limit
            {
                "proc/meminfo": MEMINFO, "proc/self/cgroup": "4:memory:/\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/memory.usage_in_bytes": "4000\n",
            },
            MACHINE,
        ),
    ],
    ids=["no proc", "old kernel", "machine", "v2", "v2 parent", "v1", "over", "unlimited"],
)  # fmt: skip
def test_the_least_of_machine_and_control_groups_counts(
    tmp_path: Path, files: dict[str, str], available: int | None
) -> None:
    assert read_available_memory(write(tmp_path, files)) == available


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="asks this machine's Linux")
def test_this_machine_has_some_memory() -> None:
    available = read_available_memory()
    assert available is not None
    assert 2**20 < available < 2**50
