"""Processes of `mnistcli sweep`, and the contents of their journals."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEAD = "config: {training: {batch_size: 100, epochs: 2}}\nset: {dataset.validation: 0.2}\n"
RATE = "training.optimizer.learning_rate"
LONG = HEAD.replace("epochs: 2", "epochs: 200")


def read_journal(directory: Path) -> list[dict[str, Any]]:
    journal = directory / "sweep.journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [json.loads(line) for line in lines]


def count_reports(directory: Path) -> dict[int, int]:
    """Return how many epochs each of Optuna's trials has reported."""
    reports: dict[int, int] = {}
    for line in read_journal(directory):
        if line["op_code"] == 7:
            reports[line["trial_id"]] = reports.get(line["trial_id"], 0) + 1
    return reports


def wait_until(condition: Callable[[], object], timeout_s: float = 90) -> None:
    """Poll a condition until it holds."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def start(environment: dict[str, str], *words: object) -> subprocess.Popen[str]:
    """Start `mnistcli sweep`."""
    return subprocess.Popen(
        [sys.executable, "-m", "mnistcli", "sweep", *map(str, words)],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
