"""Two processes on loopback train one run: equal weights, one voice, and what happens to losses."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Ended, Run
from mnistcli.checkpoints.reader import read_checkpoint

SMALL = (
    "--model", "mlp", "--hidden", 16, "--optimizer", "adam", "--batch-size", 99,
    "--validation", 0.1,
)  # fmt: skip
FOREVER = ("--epochs", 100_000)
WITHIN_S = 25.0  # checks of a worker's health come every 5 s, and the machine may be busy


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


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Starts a pair; nobody is left behind."""
    pairs: list[Pair] = []

    def start_pair(*words: object, others: object = None) -> Pair:
        pairs.append(Pair(environment, *words, others=others))
        return pairs[-1]

    yield start_pair
    for pair in pairs:
        for process in pair.processes:
            process.kill()
            process.communicate()


def read_hash(number: int) -> str:
    """The weights' sha256 that a worker logs at its end."""
    text = Path(f"w{number}", "run.log").read_text(encoding="utf-8")
    return re.findall(r"weights: sha256 ([0-9a-f]{64})$", text, re.MULTILINE)[-1]


def test_two_workers_have_the_losses_of_one_and_equal_weights(run: Run, start: Start) -> None:
    words = (*SMALL, "--epochs", 3, "--json", "-o", "m.h5")
    pair = start(*words)
    one = run("train", *words).json
    first, second = pair.wait()
    assert (first.code, second.code, second.out) == (0, 0, ""), first.err + second.err

    answer = json.loads(first.out)
    assert len(one["history"]) == 4  # of training and of validation, each loss and accuracy
    for name, values in one["history"].items():
        assert answer["history"][name] == pytest.approx(values, rel=1e-5), name
    assert answer["test"] == pytest.approx(one["test"], rel=1e-4)

    assert read_hash(0) == read_hash(1)
    assert sorted(path.name for path in Path("w0").iterdir()) == ["m.best.h5", "m.h5", "run.log"]
    assert [path.name for path in Path("w1").iterdir()] == ["run.log"]
    record = read_checkpoint(Path("w0/m.h5")).record
    assert record is not None
    assert (record.environment.devices, record.environment.workers) == (1, 2)
    assert "trained on     2 workers" in run("summary", "w0/m.h5").out
    assert run("reproduce", "w0/m.h5").err.splitlines()[-1] == (
        "mnistcli: error: w0/m.h5: its bits cannot be compared here: workers 2 -> 1."
        " Reproduce it with the versions, processor and settings that it was made with"
    )


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_says_so_and_the_run_goes_on(
    run: Run, start: Start, victim: int
) -> None:
    pair = start(*SMALL, *FOREVER, "-o", "m.h5")
    pair.wait_for_epoch(20)
    pair.processes[victim].kill()
    killed_s = time.monotonic()
    other = end(pair.processes[1 - victim])
    assert time.monotonic() - killed_s < WITHIN_S
    assert other.code == 7
    assert other.err.splitlines()[-1] == (
        f"mnistcli: error: workers: one of 127.0.0.1:{pair.ports[victim]} is gone, or out of reach."
        " See its own messages; then go on with the last checkpoint: train --resume"
    )
    assert other.out == ""

    file = Path("w0/m.h5")
    done = read_checkpoint(file).progress.epoch
    Path("w1/m.h5").write_bytes(file.read_bytes())  # a shared folder would do as well
    ended = start("--resume", "m.h5", "--epochs", done + 2, "--json").wait()
    assert [e.code for e in ended] == [0, 0], ended
    assert "cannot promise" not in ended[0].err
    assert json.loads(ended[0].out)["epochs"] == done + 2
    assert read_hash(0) == read_hash(1)

    alone = run("train", "--resume", file, "--epochs", done + 3, "--json")
    assert alone.json["epochs"] == done + 3
    assert "warning: cannot promise the same bits: workers 2 -> 1\n" in alone.err


@pytest.mark.slow
@pytest.mark.parametrize("receiver", [0, 1])
def test_a_signal_to_one_stops_both_and_they_go_on_to_the_same_bits(
    start: Start, receiver: int
) -> None:
    words = ("--model", "mlp", "--hidden", 16, "--dropout", 0.2, "--batch-size", 1)
    assert [e.code for e in start(*words, "--epochs", 3, "-o", "whole.h5").wait()] == [0, 0]
    whole = read_hash(0)

    pair = start(*words, *("--epochs", 3), "-o", "m.h5")
    pair.wait_for_epoch(1)
    time.sleep(0.5)  # into the second epoch
    pair.processes[receiver].send_signal(signal.SIGTERM)
    ended = pair.wait()
    assert [e.code for e in ended] == [-signal.SIGTERM] * 2
    assert "saved m.h5\nnext  mnistcli train --resume m.h5\n" in ended[0].err
    progress = read_checkpoint(Path("w0/m.h5")).progress
    assert (progress.epoch, progress.step > 0) == (1, True)

    Path("w1/m.h5").write_bytes(Path("w0/m.h5").read_bytes())
    assert [e.code for e in start("--resume", "m.h5").wait()] == [0, 0]
    assert read_hash(0) == read_hash(1) == whole


@pytest.mark.slow
def test_who_never_comes_is_named(run: Run, environment: dict[str, str]) -> None:
    ports = find_ports()
    begin_s = time.monotonic()
    hurried = {**environment, "MNISTCLI_WORKERS_TIMEOUT": "4"}
    for number in (0, 1):
        ended = end(start_worker(hurried, ports, number, "xor", "-o", "m.h5"))
        assert (ended.code, ended.out) == (7, "")
        assert ended.err.splitlines()[-1] == (
            f"mnistcli: error: workers: not all of 127.0.0.1:{ports[1 - number]} were there after"
            " 4 s. Start the same command on every worker, with addresses that reach each other"
        )
    assert time.monotonic() - begin_s < 60


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(run: Run, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = (taken.getsockname()[1], find_ports()[0])
        ended = end(start_worker(environment, ports, 0, "xor", "-o", "m.h5"))
    assert ended.code == 7
    assert ended.err.splitlines()[-1] == (
        f"mnistcli: error: workers: cannot begin at 127.0.0.1:{ports[0]}: Could not start gRPC"
        " server. See whether the port is in use, and the address this machine's"
    )


@pytest.mark.slow
def test_workers_that_mean_different_runs_do_not_train(start: Start) -> None:
    pair = start("xor", "-o", "m.h5", others=("xor", "--epochs", 7, "-o", "m.h5"))
    for ended in pair.wait():
        assert ended.code == 2
        assert ended.err.splitlines()[-1] == (
            f"mnistcli: error: workers: 127.0.0.1:{pair.ports[0]} and 127.0.0.1:{pair.ports[1]}"
            " were started with different configs. Start the same command on the same files"
            " everywhere"
        )
    assert not Path("w0/m.h5").exists()
