"""Killed sweeps: after workers, command or machine die, results are those of other sweeps."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from helpers.commands import read_arrays
from helpers.sweeps import LONG, RATE, count_reports, start, wait_until

pytest_plugins = ("helpers.postgresql",)
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_that_was_killed_ends_as_one_that_was_not(
    environment: dict[str, str], jobs: int
) -> None:
    """The same trials, the same values, the same bits, whatever was killed."""
    text = LONG.replace("epochs: 200", "epochs: 150")
    search = f"search: {{{RATE}: {{low: 1e-3, high: 1, log: true}}}}\ntrials: 7\nsampler: SAMPLER\n"
    Path("s.yaml").write_text(text + search.replace("SAMPLER", "tpe" if jobs == 1 else "random"))
    flags = ("--jobs", jobs, "--json")
    with start(environment, "s.yaml", "-o", "whole", *flags) as command:
        whole, _ = command.communicate(timeout=300)
    for kill_after in (30, 250, 700):
        with start(environment, "s.yaml", "-o", "killed", *flags) as command:
            wait_until(lambda: sum(count_reports(Path("killed")).values()) > kill_after)  # noqa: B023
            command.kill()
            command.communicate()
    with start(environment, "s.yaml", "-o", "killed", *flags) as command:
        killed, _ = command.communicate(timeout=300)
    first, second = json.loads(whole), json.loads(killed)
    keys = ("trial", "value", "parameters", "epochs")
    compared = [
        [{key: trial[key] for key in keys} for trial in answer["ranking"]]
        for answer in (first, second)
    ]
    if jobs == 1:
        assert compared[0] == compared[1]
    tried = [{t["trial"]: t["parameters"] for t in answer["ranking"]} for answer in (first, second)]
    assert tried[0] == tried[1]
    complete = [
        {t["trial"] for t in answer["ranking"] if t["state"] == "complete"}
        for answer in (first, second)
    ]
    assert len(complete[0] & complete[1]) >= 5
    for number in complete[0] & complete[1]:
        name = f"trial-{number:04d}.h5"
        assert read_arrays(Path("whole", name)) == read_arrays(Path("killed", name))


def test_a_sweep_saves_on_usr1_replaces_a_worker_that_is_ended_and_stops_on_hup(
    environment: dict[str, str],
) -> None:
    text = LONG.replace("epochs: 200", "epochs: 100000")
    Path("s.yaml").write_text(f"{text}search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n")

    def wait_for_reports() -> None:
        before = sum(count_reports(Path("d")).values())
        wait_until(lambda: sum(count_reports(Path("d")).values()) > before + 20, 300)

    with start(environment, "s.yaml", "-o", "d", "--jobs", 2, "--progress", "none") as command:
        wait_until(lambda: len(count_reports(Path("d"))) == 2, 300)
        command.send_signal(signal.SIGUSR1)
        wait_for_reports()
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        wait_for_reports()
        command.send_signal(signal.SIGHUP)
        _, err = command.communicate(timeout=60)
    assert command.returncode == -signal.SIGHUP
    for line in (
        "the trials that run are saved, as SIGUSR1 asks; the sweep goes on",
        "a worker was ended by SIGTERM: another one goes on with its trial",
        "interrupted after 0 of 2 trials; none of them is lost",
    ):
        assert err.count(f"{line}\n") == 1, err
    assert not list(Path("d").glob(".*.mnistcli-lock"))


def test_two_machines_share_a_postgresql_and_one_dies(
    environment: dict[str, str], postgresql: str
) -> None:
    """Two commands in two folders; one of them is killed, the other does its trial too."""
    Path("s.yaml").write_text(f"{LONG}search: {{{RATE}: [0.1, 0.2, 0.3, 0.4]}}\nsampler: grid\n")
    words = ("s.yaml", "--storage", postgresql, "--json")
    with (
        start(environment, *words, "-o", "d") as dying,
        start(environment, *words, "-o", "e") as one,
    ):
        wait_until(lambda: Path("d/trial-0000.h5").exists() or Path("d/trial-0001.h5").exists())
        wait_until(lambda: list(Path("e").glob("trial-*.h5")))
        dying.kill()
        out, err = one.communicate(timeout=240)
    assert (one.returncode, "Traceback" in err) == (0, False)
    answer = json.loads(out)
    assert (answer["complete"], answer["failed"]) == (4, 0)
    assert [trial["epochs"] for trial in answer["ranking"]] == [200] * 4
    assert {trial["host"] for trial in answer["ranking"]} <= {None, os.uname().nodename}
