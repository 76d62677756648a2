"""Workers that are killed, interrupted, missing or started differently."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from conftest import Run
from helpers.workers import SMALL, Start, end, find_ports, read_hash, start_pair, start_worker  # noqa: F401
from mnistcli.checkpoints.reader import read_checkpoint

pytestmark = pytest.mark.slow

FOREVER = ("--epochs", 100_000)
WITHIN_S = 25.0  # checks of a worker's health come every 5 s, and the machine may be busy


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


def test_a_port_that_is_taken_is_named(run: Run, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = (taken.getsockname()[1], find_ports()[0])
        ended = end(start_worker(environment, ports, 0, "xor", "-o", "m.h5"))
    assert ended.code == 7
    assert ended.err.splitlines()[-1] == (
        f"mnistcli: error: workers: cannot begin at 127.0.0.1:{ports[0]}: Could not start gRPC"
        " server. See whether the port is in use, and the address this machine's"
    )


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
