"""Kills trainings at random moments, resumes them, and compares their results.

`python tests/helpers/kill_loop.py 200` kills 200 times and prints what it counted; a slow test
does the same. A run is trained once from end to end; then again, killed by SIGKILL while it
starts, compiles, trains, saves or scores, and resumed, until it ends. Its file must then be
bit-identical. Every file that a kill leaves behind must be readable.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SOURCE = Path(__file__).parents[2] / "src"
sys.path.insert(0, str(SOURCE))  # as a script it needs no installation of this checkout

from mnistcli.checkpoints.reader import read_checkpoint  # noqa: E402
from mnistcli.checkpoints.untrusted.protocol import DURATIONS  # noqa: E402
from mnistcli.datasets.synthetic import draw_digits  # noqa: E402
from mnistcli.errors import CheckpointError  # noqa: E402

# The command itself, but it saves after every epoch rather than every few seconds, and checks for
# signals after every step rather than every second: so kills hit saving, and interrupts the
# middle of epochs.
PROGRAM = """
import functools
from mnistcli.cli import app
from mnistcli.commands.train import run

run.build_trainer = functools.partial(
    run.build_trainer, checkpoint_interval_s=0.0, chunk_duration_s=0.0
)
app.main()
"""

NETWORK = ("--model", "mlp", "--hidden", "16", "--dropout", "0.2", "--batch-size", "100")
RUNS = {
    "adam, stopped early": (
        *NETWORK, "--validation", "0.2", "--epochs", "300",
        "--set", "training.optimizer={name: adam, learning_rate: 0.02}",
        "--set", "training.early_stopping={patience: 8, min_delta: 0.02}",
    ),
    "sgd with momentum and a plateau": (
        *NETWORK, "--validation", "0.1", "--epochs", "40", "--seed", "3",
        "--set", "training.optimizer={name: sgd, momentum: 0.9, nesterov: true}",
        "--set", "training.reduce_on_plateau={patience: 1, min_delta: 0.05, cooldown: 1}",
    ),
    "nadam on a cosine": (
        *NETWORK, "--validation", "test", "--epochs", "30", "--seed", "7",
        "--optimizer", "nadam", "--set", "training.schedule={name: cosine, warmup_epochs: 3}",
        "--set", "training.clip={global_norm: 1.0}", "--set", "model.l2=0.0001",
    ),
}  # fmt: skip


@dataclass
class Report:
    """What the loop counted."""

    kills: Counter[str] = field(default_factory=Counter)
    interrupts: int = 0
    before_the_first_file: int = 0
    files_read: int = 0
    unreadable: list[str] = field(default_factory=list)
    finished: int = 0
    different: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Return whether nothing was lost."""
        return not (self.unreadable or self.different or self.failed or self.left_behind)

    def describe(self) -> Iterator[str]:
        """Yield the lines of the report."""
        moments = ", ".join(f"{count} {moment}" for moment, count in sorted(self.kills.items()))
        yield f"kills                   {self.kills.total()} ({moments})"
        yield f"killed before any file  {self.before_the_first_file}"
        yield f"interrupts besides      {self.interrupts}"
        yield f"files read afterwards   {self.files_read}, unreadable {len(self.unreadable)}"
        yield f"runs finished           {self.finished}, different {len(self.different)}"
        yield f"commands that failed    {len(self.failed)}"
        yield f"files left behind       {len(self.left_behind)}"
        yield f"time                    {self.duration_s:.0f} s"
        for problem in (*self.unreadable, *self.different, *self.failed, *self.left_behind):
            yield f"  {problem}"


def write_digits(directory: Path) -> Path:
    """Write drawn digits in MNIST's layout, few enough for epochs of some milliseconds."""
    directory.mkdir(parents=True)
    arrays = {}
    for seed, (name, count) in enumerate((("train", 1050), ("test", 200))):
        generator = np.random.default_rng(seed)
        labels = generator.permutation(np.arange(count) % 10).astype(np.uint8)
        arrays |= {f"x_{name}": draw_digits(labels, generator), f"y_{name}": labels}
    np.savez(directory / "mnist.npz", **arrays)
    return directory


def read_facts(path: Path) -> dict[str, Any]:
    """Read everything in a checkpoint but durations."""
    facts: dict[str, Any] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith(DURATIONS):
            facts[name] = (item.dtype.str, item.shape, item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
        facts |= {name: json.loads(text) for name, text in file["mnistcli"].attrs.items()}
        facts |= {name: str(file.attrs[name]) for name in ("model_config", "training_config")}
    del facts["progress"]["elapsed_s"]
    return facts


class TrainProcess:
    """One process of a run, until it ends or is killed."""

    def __init__(self, directory: Path, data: Path, words: tuple[str, ...]) -> None:
        self.lines: list[str] = []
        self._path = directory / "m.h5"
        self._before = self._find_file()
        environment = {
            **os.environ, "PYTHONPATH": str(SOURCE), "MNISTCLI_DATA_DIR": str(data),
            "MNISTCLI_OFFLINE": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "train", *words],
            cwd=directory, env=environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _find_file(self) -> int:
        """Return a number that differs after every save."""
        return self._path.stat().st_mtime_ns if self._path.exists() else 0

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_for_line(self, beginning: str) -> None:
        """Wait for a line, or for the end."""
        while self.process.poll() is None:
            if any(line.startswith(beginning) for line in list(self.lines)):
                return
            time.sleep(0.001)

    def wait_for_save(self) -> None:
        """Wait for the first save, or for the end."""
        while self.process.poll() is None and self._find_file() == self._before:
            time.sleep(0.001)

    def sleep(self, duration_s: float) -> None:
        """Wait, or for the end if that is sooner."""
        end_s = time.monotonic() + duration_s
        while self.process.poll() is None and time.monotonic() < end_s:
            time.sleep(0.001)

    def end(self, number: signal.Signals | None) -> int:
        """Send a signal, if any, and return how the process ended."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(120)
        self._reader.join()
        return code


class KillLoop:
    """Trains, kills and resumes until it has killed often enough."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.report = Report()
        self._directory = directory
        self._data = write_digits(directory / "data")
        self._random = random.Random(seed)
        self._wholes = {name: self._train_whole(name) for name in RUNS}

    def _train_whole(self, name: str) -> tuple[Path, int]:
        """Train a run without kills; return its folder and the number of its epochs."""
        directory = self._directory / f"{name}, whole"
        directory.mkdir()
        run = TrainProcess(directory, self._data, (*RUNS[name], "-o", "m.h5"))
        assert run.end(None) == 0, run.lines
        epoch = read_checkpoint(directory / "m.h5").progress.epoch
        if "stopped" in name:
            assert epoch < 300
        return directory, epoch

    def kill(self, count: int) -> Report:
        """Kill this many times, and let the last run finish."""
        begin_s, number = time.monotonic(), 0
        while self.report.kills.total() < count:
            self._run_once(list(RUNS)[number % len(RUNS)], number, count)
            number += 1
        self.report.duration_s = time.monotonic() - begin_s
        return self.report

    def _run_once(self, name: str, number: int, count: int) -> None:
        """Train one run, killed and resumed until it ends."""
        directory = self._directory / f"{number}"
        directory.mkdir()
        path = directory / "m.h5"
        while True:
            words = ("--resume", "m.h5") if path.exists() else (*RUNS[name], "-o", "m.h5")
            run = TrainProcess(directory, self._data, words)
            moment = self._choose_moment() if self.report.kills.total() < count else "never"
            code = self._run_until(run, moment, self._wholes[name][1])
            if code == 0:
                break
            if code == -signal.SIGKILL:
                self.report.kills[moment] += 1
            elif code == -signal.SIGTERM:
                self.report.interrupts += 1
            else:
                self.report.failed.append(f"{directory}: {code}: {run.lines[-1:]}")
                return
            self._check_files(directory)
        self._compare(name, directory)

    def _choose_moment(self) -> str:
        """Choose when the next process is killed."""
        moments = {"starting": 30, "compiling": 15, "training": 30, "ending": 20, "interrupted": 5}
        return self._random.choices(list(moments), list(moments.values()))[0]

    def _run_until(self, run: TrainProcess, moment: str, epochs: int) -> int:
        """Let a process run until a moment, kill it, and return its exit code."""
        share = self._random.random()
        match moment:
            case "starting":  # imports, data, TensorFlow, building, the first save
                run.sleep(4 * share)
            case "compiling":
                run.wait_for_save()
                run.sleep(1.0 * share)
            case "training" | "interrupted":  # steps, validation, saves, one after the other
                run.wait_for_line("epoch ")
                run.sleep(1.0 * share)
            case "ending":  # the last save, the score, the save with the score
                run.wait_for_line(f"epoch {epochs}/")
                run.sleep(0.12 * share)
            case _:
                return run.end(None)
        if run.process.poll() is not None:
            return run.end(None)
        # Not SIGINT: where this program runs in the background, shells have it ignored.
        return run.end(signal.SIGTERM if moment == "interrupted" else signal.SIGKILL)

    def _check_files(self, directory: Path) -> None:
        """Check that every checkpoint in a folder can be read."""
        if not (directory / "m.h5").exists():
            self.report.before_the_first_file += 1
        for path in directory.glob("*.h5"):
            self.report.files_read += 1
            try:
                state = read_checkpoint(path, "all").state
            except CheckpointError as error:
                self.report.unreadable.append(str(error))
            else:
                assert state is not None

    def _compare(self, name: str, directory: Path) -> None:
        """Check that a finished run's files are bit-identical to those of the run without kills."""
        self.report.finished += 1
        whole = self._wholes[name][0]
        expected = sorted(path.name for path in whole.iterdir())
        found = sorted(path.name for path in directory.iterdir())
        if extra := set(found) - set(expected):
            self.report.left_behind.append(f"{directory}: {sorted(extra)}")
        for file in expected:
            if not (directory / file).exists():
                self.report.different.append(f"{directory}: {file} is missing")
                continue
            mine, theirs = read_facts(directory / file), read_facts(whole / file)
            keys = sorted(mine.keys() | theirs.keys())
            if others := [key for key in keys if mine.get(key) != theirs.get(key)]:
                self.report.different.append(f"{directory}/{file}: {others}")


def main() -> None:
    """Run the loop as the command line says, and print its report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=200, help="kills (200)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (0)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = KillLoop(Path(directory), arguments.seed).kill(arguments.count)
    for line in report.describe():
        sys.stdout.write(line + "\n")
    sys.exit(0 if report.is_clean else 1)


if __name__ == "__main__":
    main()
