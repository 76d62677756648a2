"""Warm epochs: our loop, `model.fit`, PyTorch and bare matrix products, interleaved.

    python benchmarks/warm_epochs.py [--rounds 7] [--workload NAME …] [--precision] [--json FILE]

Every contender is a process that has trained two epochs before the first one counts. Then they
take turns, one epoch each, so that a machine that slows down slows all of them; ratios are taken
round by round, and their median is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from workloads import WORKLOADS

WARM_UP_EPOCHS = 2
SETTLING_S = 0.2  # idle threads of OpenBLAS and OpenMP keep a processor busy for a moment
STEPS_PER_EXECUTION = (10, 50, 200)


class Contender:
    """A process that trains one epoch when told to."""

    def __init__(self, name: str, workload: str, threads: int) -> None:
        limits = {k: str(threads) for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("contenders.py")), name, workload,
             str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **limits},
        )  # fmt: skip

    def run_epoch(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Row:
    """One workload's medians in seconds, and how many times as long as ours the others take."""

    workload: str
    seconds: dict[str, float]
    ratios: dict[str, float]
    steps_per_execution: int


def start(name: str, workload: str, threads: int) -> Contender:
    contender = Contender(name, workload, threads)
    for _ in range(WARM_UP_EPOCHS):
        contender.run_epoch()
    return contender


def find_best_fit(workload: str, threads: int) -> tuple[int, Contender]:
    """The steps_per_execution with the fastest epoch of a few."""
    best: tuple[float, int, Contender] | None = None
    for steps in STEPS_PER_EXECUTION:
        contender = start(f"fit-{steps}", workload, threads)
        seconds = min(contender.run_epoch() for _ in range(2))
        if best is None or seconds < best[0]:
            if best is not None:
                best[2].close()
            best = (seconds, steps, contender)
        else:
            contender.close()
    assert best is not None
    return best[1], best[2]


def measure(workload: str, rounds: int, threads: int, *, precision: bool) -> Row:
    names = ["mnistcli", "fit", "numpy", *(["torch"] if find_spec("torch") else [])]
    if precision:
        names = ["mnistcli", "mixed_bfloat16"]
    contenders = {name: start(name, workload, threads) for name in names}
    steps = 0
    if not precision:
        steps, contenders["fit, best steps"] = find_best_fit(workload, threads)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            time.sleep(SETTLING_S)
            times[name].append(contender.run_epoch())
    for contender in contenders.values():
        contender.close()
    return Row(
        workload=WORKLOADS[workload].title,
        seconds={name: statistics.median(values) for name, values in times.items()},
        ratios={
            name: statistics.median(
                theirs / ours for theirs, ours in zip(values, times["mnistcli"], strict=True)
            )
            for name, values in times.items()
        },
        steps_per_execution=steps,
    )


def format_table(rows: list[Row]) -> str:
    """A Markdown table: seconds, and in brackets how many times our time that is."""
    known = ("mnistcli", "mixed_bfloat16", "fit", "fit, best steps", "torch", "numpy")
    names = [n for n in known if n in rows[0].seconds]
    titles = {
        "mnistcli": "mnistcli", "mixed_bfloat16": "mixed_bfloat16",
        "fit": "model.fit", "fit, best steps": "model.fit, best steps",
        "torch": "PyTorch eager", "numpy": "matrix products alone (NumPy)",
    }  # fmt: skip
    lines = [
        "| workload | " + " | ".join(titles[name] for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for row in rows:
        cells = [
            f"{row.seconds[name]:.3f} s"
            + ("" if name == "mnistcli" else f" ({row.ratios[name]:.2f} ×)")
            for name in names
        ]
        lines.append(f"| {row.workload} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe_machine(threads: int) -> str:
    cpu = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            li.split(":")[1].strip() for li in info.read_text().splitlines() if "model name" in li
        ]
        cpu = names[0] if names else cpu
    return f"{cpu}, {threads} threads, {platform.system()}, {time.strftime('%Y-%m-%d')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workload", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--precision", action="store_true", help="ours in bfloat16 beside float32")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    rows = []
    for workload in options.workload:
        rows.append(measure(workload, options.rounds, threads, precision=options.precision))
        print(format_table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(f"{describe_machine(threads)}; medians of {options.rounds} rounds\n")
    print(format_table(rows))
    if find_spec("torch") is None and not options.precision:
        print("\nPyTorch is not installed: left out.")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
