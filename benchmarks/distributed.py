"""One process, several devices, several workers: milliseconds a step on this machine's cores.

    python benchmarks/distributed.py [--rounds 3] [--json FILE]

Every round runs all ways of a workload in turn, each as a command of its own; ratios are taken
round by round, to the process on one core. Workers are pinned to one core each and talk over
loopback. Needs Linux (taskset) and two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from warm_epochs import describe_machine

ROWS = 10_000  # of the synthetic training set
TOOL = [sys.executable, "-m", "mnistcli", "train", "--dataset", "synthetic", "--json"]
ADAM = ["--optimizer", "adam", "--model", "mlp", "--hidden"]


@dataclass(frozen=True)
class Workload:
    """One command, and what it trains."""

    name: str
    words: list[str]
    batch_size: int
    parameters: int
    epochs: int

    @property
    def steps(self) -> int:
        return math.ceil(ROWS / self.batch_size)


WORKLOADS = [
    Workload("softmax, batch 1024", [], 1024, 7_850, 12),
    Workload("MLP 128, batch 128", [*ADAM, "128"], 128, 101_770, 6),
    Workload("MLP 128, batch 1024", [*ADAM, "128"], 1024, 101_770, 12),
    Workload("MLP 512-512, batch 1024", [*ADAM, "512,512"], 1024, 669_706, 5),
    Workload("MLP 1024-1024, batch 5000", [*ADAM, "1024,1024"], 5000, 1_863_690, 4),
]


@dataclass(frozen=True)
class Row:
    """One way of one workload: median milliseconds a step, and the median of ratios."""

    workload: str
    way: str
    step_ms: float
    times_as_fast: float


def start(cores: str, folder: Path, words: list[str], **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["taskset", "-c", cores, *TOOL, *words, "-o", str(folder / "m.h5"), "--overwrite"],
        env={**os.environ, **extra}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def read_epoch_s(process: subprocess.Popen[str]) -> float:
    out, _ = process.communicate()
    return float(json.loads(out)["seconds"]["per_epoch"])


def time_workers(folder: Path, words: list[str], cores: list[str]) -> float:
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b)]
    workers = []
    for index, core in enumerate(cores):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        workers.append(start(core, folder, words, TF_CONFIG=config))
    seconds = read_epoch_s(workers[0])
    workers[1].communicate()
    return seconds


def time_ways(workload: Workload, folder: Path, cores: list[str]) -> dict[str, float]:
    """Seconds an epoch each way."""
    words = [*workload.words, "--batch-size", str(workload.batch_size)]
    words += ["--epochs", str(workload.epochs)]
    both = ",".join(cores)
    return {
        "one process, one core": read_epoch_s(start(cores[0], folder, words)),
        "one process, two cores": read_epoch_s(start(both, folder, words)),
        "--devices 2, two cores": read_epoch_s(start(both, folder, [*words, "--devices", "2"])),
        "two workers, a core each": time_workers(folder, words, cores),
    }


def measure(rounds: int) -> list[Row]:
    cores = [str(number) for number in sorted(os.sched_getaffinity(0))[:2]]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for workload in WORKLOADS:
            found = [time_ways(workload, Path(name), cores) for _ in range(rounds)]
            base = [times["one process, one core"] for times in found]
            for way in found[0]:
                seconds = [times[way] for times in found]
                ratios = [b / s for b, s in zip(base, seconds, strict=True)]
                step_ms = 1000 * statistics.median(seconds) / workload.steps
                rows.append(Row(workload.name, way, step_ms, statistics.median(ratios)))
                print(
                    f"{workload.name:28} {way:26} {step_ms:8.2f} ms {rows[-1].times_as_fast:6.2f} x"
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(describe_machine(2))
    rows = measure(arguments.rounds)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
