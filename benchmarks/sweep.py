"""Trials per minute: `mnistcli sweep` with one and two workers, and one `train` per trial.

    python benchmarks/sweep.py --data-dir DIR [--rounds 2] [--json FILE]

The same twelve trials each time: mnist-mlp for two epochs, four learning rates by three networks,
a tenth of the training set held out. Every round runs all contenders in turn, from process start
to exit; ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from warm_epochs import describe_machine

from mnistcli.checkpoints.record import count_processors

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
HIDDEN = (64, 128, 256)
COUNT = len(RATES) * len(HIDDEN)
SWEEP = f"""
config: mnist-mlp
set: {{dataset.validation: 0.1, training.epochs: 2}}
search:
  training.optimizer.learning_rate: {list(RATES)}
  model.hidden: {[[units] for units in HIDDEN]}
sampler: grid
pruner: none
"""
TOOL = [sys.executable, "-m", "mnistcli"]


def train_each(folder: Path, data: str) -> None:
    for rate, units in itertools.product(RATES, HIDDEN):
        flags = ["--epochs", "2", "--validation", "0.1", "--learning-rate", str(rate)]
        output = folder / f"{rate}-{units}.h5"
        words = [*TOOL, "train", "mnist-mlp", *flags, "--hidden", str(units), "-o", str(output)]
        subprocess.run([*words, "-q", "--data-dir", data], check=True, stdout=subprocess.DEVNULL)


def sweep(folder: Path, data: str, jobs: int) -> None:
    file = folder / "sweep.yaml"
    file.write_text(SWEEP)
    words = [*TOOL, "sweep", str(file), "--jobs", str(jobs), "-o", str(folder / "trials"), "--json"]
    ended = subprocess.run([*words, "--data-dir", data], check=True, capture_output=True, text=True)
    assert json.loads(ended.stdout)["complete"] == COUNT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    contenders: dict[str, Callable[[Path], None]] = {
        "one train per trial": lambda folder: train_each(folder, arguments.data_dir),
        "sweep": lambda folder: sweep(folder, arguments.data_dir, 1),
        "sweep --jobs 2": lambda folder: sweep(folder, arguments.data_dir, 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, run in contenders.items():
            with tempfile.TemporaryDirectory() as folder:
                began_s = time.perf_counter()
                run(Path(folder))
                seconds[name].append(time.perf_counter() - began_s)
    yardstick = seconds["one train per trial"]
    rows = []
    for name, times in seconds.items():
        ratio = statistics.median(one / own for one, own in zip(yardstick, times, strict=True))
        per_minute = 60 * COUNT / statistics.median(times)
        rows.append({"contender": name, "trials_per_minute": per_minute, "times_as_many": ratio})
        print(f"{name:<22}{per_minute:6.1f} trials a minute  {ratio:5.2f} x")
    if arguments.json:
        answer = {
            "machine": describe_machine(count_processors()),
            "trials": COUNT,
            "rows": rows,
            "seconds": seconds,
        }
        arguments.json.write_text(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
