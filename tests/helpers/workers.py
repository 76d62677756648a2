"""Pairs of `mnistcli train` processes on loopback, which train together."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Ended

SMALL = (
    "--model", "mlp", "--hidden", 16, "--optimizer", "adam", "--batch-size", 99,
    "--validation", 0.1,
)  # fmt: skip


class Pair:
    """The same command line as worker 0 and as worker 1, each in a folder of its own."""

    def __init__(self, environment: dict[str, str], *words: object, others: object = None) -> None:
        self.ports = find_ports()
        commands = (words, words if others is None else others)
        self.processes = [
            start_worker(environment, self.ports, number, *command)
            for number, command in enumerate(commands)
        ]

    def wait(self) -> list[Ended]:
        """Wait for both."""
        return [end(process) for process in self.processes]

    def wait_for_epoch(self, number: int) -> None:
        """Wait until worker 0 tells of an epoch."""
        stream = self.processes[0].stderr
        assert stream is not None
        for line in stream:
            if line.startswith(f"epoch {number}/"):
                return
        raise AssertionError(f"worker 0 never came to epoch {number}")


def find_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as b:
        return one.getsockname()[1], b.getsockname()[1]


def start_worker(
    environment: dict[str, str], ports: tuple[int, int], number: int, *words: object
) -> subprocess.Popen[str]:
    folder = Path(f"w{number}")
    folder.mkdir(exist_ok=True)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
    return subprocess.Popen(
        [sys.executable, "-m", "mnistcli", "train", *map(str, words), "--log-file", "run.log"],
        env={"MNISTCLI_WORKERS_TIMEOUT": "90", **environment, "TF_CONFIG": config},
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


Start = Callable[..., Pair]


@pytest.fixture(name="start")
def start_pair(environment: dict[str, str]) -> Iterator[Start]:
    """Starts a pair of workers, and ends both after the test."""
    pairs: list[Pair] = []

    def begin(*words: object, others: object = None) -> Pair:
        pairs.append(Pair(environment, *words, others=others))
        return pairs[-1]

    yield begin
    for pair in pairs:
        for process in pair.processes:
            process.kill()
            process.communicate()


def read_hash(number: int) -> str:
    """The weights' sha256 that a worker logs at its end."""
    text = Path(f"w{number}", "run.log").read_text(encoding="utf-8")
    return re.findall(r"weights: sha256 ([0-9a-f]{64})$", text, re.MULTILINE)[-1]
