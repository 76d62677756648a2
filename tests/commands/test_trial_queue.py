"""Workers share the trials of a sweep: none is lost and none runs twice when a worker dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from conftest import SOURCE
from mnistcli.checkpoints.lock import RunLock
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.study import (
    JOURNAL,
    check_data,
    open_database,
    open_journal,
    open_study,
)
from mnistcli.commands.sweep.sweep_yaml import load_sweep
from mnistcli.commands.sweep.trial_queue import (
    TrialLease,
    TrialQueue,
    compute_importances,
    list_trials,
)
from mnistcli.errors import DataError, ResourceError, UsageError

pytest_plugins = ("helpers.postgresql",)

SEARCH = """
config: mnist-softmax
set: {dataset.validation: 0.1}
search:
  training.optimizer.learning_rate: {low: 1e-4, high: 1, log: true}
  training.batch_size: [32, 64, 128]
trials: 4
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()


def load(text: str = SEARCH) -> Sweep:
    Path("s.yaml").write_text(text)
    return load_sweep("s.yaml")


def open_queue(sweep: Sweep, directory: str = "d") -> TrialQueue:
    storage = open_journal(Path(directory))
    study = open_study(storage, "s", sweep, "s.yaml", "choose another")
    return TrialQueue(study, storage, sweep, Path(directory))


@contextlib.contextmanager
def open_shared(url: str, sweep: Sweep, directory: str) -> Iterator[TrialQueue]:
    storage = open_database(url)
    study = open_study(storage, "s", sweep, "s.yaml", "choose another")
    with contextlib.closing(TrialQueue(study, storage, sweep, Path(directory))) as queue:
        yield queue


def finish(queue: TrialQueue, lease: TrialLease, value: float = 0.5) -> None:
    with lease.lock:
        assert queue.complete(lease, value, (1.0, 0.5))


def take(queue: TrialQueue) -> TrialLease:
    lease = queue.acquire()
    assert lease is not None
    return lease


def list_states(queue: TrialQueue) -> list[str]:
    return [one.state for one in list_trials(queue)]


def test_two_workers_have_every_trial_once() -> None:
    one, other = open_queue(load()), open_queue(load())
    first, second = take(one), take(other)
    assert (first.number, second.number) == (0, 1)
    assert first.path == Path("d/trial-0000.h5")
    finish(other, second)
    third = take(other)
    finish(one, first)
    fourth = take(one)
    assert (third.number, fourth.number) == (2, 3)
    assert one.acquire() is other.acquire() is None
    assert not one.is_finished()
    finish(one, fourth)
    with third.lock:
        assert other.prune(third)
    assert list_states(one) == ["complete", "complete", "pruned", "complete"]
    assert one.is_finished()
    assert other.acquire() is None


HOLDER = """
import sys
from pathlib import Path
from mnistcli.commands.sweep.sweep_yaml import load_sweep
from mnistcli.commands.sweep.trial_queue import TrialQueue
from mnistcli.commands.sweep.study import open_database, open_journal
from mnistcli.commands.sweep.study import open_study

sweep, directory = load_sweep("s.yaml"), Path(sys.argv[1])
storage = open_database(sys.argv[2]) if len(sys.argv) > 2 else open_journal(directory)
queue = TrialQueue(open_study(storage, "s", sweep, "s.yaml", ""), storage, sweep, directory)
"""
HOLDS = """
lease = queue.acquire()
lease.trial.report(0.1, 1)
print(lease.number, flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def start(program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, which does not outlive the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER + program, *words],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_a_killed_worker_had_is_taken_up_at_once() -> None:
    queue = open_queue(load())
    with start(HOLDS, "d") as worker:
        assert read_line(worker) == "0"
        alive = take(queue)
        assert alive.number == 1
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        again = take(queue)
    assert again.number == 0
    dead, *_ = queue.study.get_trials()
    assert (dead.state, dead.params) == (TrialState.FAIL, again.trial.params)
    assert list_states(queue) == ["running", "running", "waiting", "waiting"]
    finish(queue, again)
    finish(queue, alive)
    assert list_states(queue) == ["complete", "complete", "waiting", "waiting"]


def lose_trial(queue: TrialQueue, *reports: float) -> int:
    """Lose a trial as a dead process does: its lock is gone, nothing is told."""
    lease = take(queue)
    with lease.lock:
        for epoch, value in enumerate(reports, 1):
            lease.trial.report(value, epoch)
    return lease.number


def test_a_trial_that_its_workers_die_of_fails_in_the_end() -> None:
    queue = open_queue(load())
    assert [lose_trial(queue, 0.1), lose_trial(queue, 0.1), lose_trial(queue, 0.1, 0.2)] == [
        0,
        0,
        0,
    ]  # it gets further
    assert [lose_trial(queue, 0.1, 0.2), lose_trial(queue, 0.1, 0.2)] == [0, 0]
    assert take(queue).number == 1
    failed, *_ = list_trials(queue)
    assert (failed.state, failed.reason) == ("failed", "its worker died 3 times after epoch 2")


def test_a_stopped_trial_is_taken_up_as_often_as_it_is_stopped() -> None:
    queue = open_queue(load())
    for _ in range(4):
        lease = take(queue)
        with lease.lock:
            queue.release(lease)
        assert lease.number == 0
    assert take(queue).number == 0


def test_a_checkpoint_that_a_run_goes_on_with_is_let_alone() -> None:
    queue = open_queue(load())
    with RunLock() as lock:
        lock.acquire(Path("d/trial-0000.h5"))
        assert take(queue).number == 1
    assert take(queue).number == 0


def finish_sweep(queue: TrialQueue, dies_at: int | None = None) -> list[dict[str, Any]]:
    """Finish a sweep whose objective is made up, and return what was tried."""
    tried = []
    while (lease := queue.acquire()) is not None:
        if lease.number == dies_at:
            dies_at = None
            with lease.lock:
                continue
        tried.append(lease.trial.params)
        rate = lease.trial.params["training.optimizer.learning_rate"]
        finish(queue, lease, -abs(rate - 0.01))
    return tried


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sweep_that_was_killed_tries_what_it_would_have_tried(sampler: str) -> None:
    text = SEARCH.replace("trials: 4", f"trials: 16\nsampler: {sampler}")
    whole = finish_sweep(open_queue(load(text)))
    for name in ("e", "f"):
        Path(name).mkdir()
    begun = open_queue(load(text), "e")
    first = take(begun)
    finish(begun, first, -abs(first.trial.params["training.optimizer.learning_rate"] - 0.01))
    assert [first.trial.params, *finish_sweep(open_queue(load(text), "e"), dies_at=13)] == whole
    other_seed = finish_sweep(open_queue(load(f"{text}seed: 1\n"), "f"))
    assert other_seed != whole
    assert len({params["training.optimizer.learning_rate"] for params in whole}) == 16


def test_a_grid_is_tried_once_by_any_number_of_workers() -> None:
    text = SEARCH.replace("{low: 1e-4, high: 1, log: true}", "[0.1, 0.2]")
    sweep = load(text.replace("trials: 4", "sampler: grid"))
    one, other = open_queue(sweep), open_queue(sweep)
    leases = [take((one, other)[number % 2]) for number in range(6)]
    tried = [tuple(lease.trial.params.values()) for lease in leases]
    assert tried == [(0.1, 32), (0.1, 64), (0.1, 128), (0.2, 32), (0.2, 64), (0.2, 128)]
    assert one.acquire() is None


def test_another_sweep_is_refused_and_more_trials_are_not() -> None:
    finish_sweep(open_queue(load()))
    assert list_states(open_queue(load(SEARCH.replace("trials: 4", "trials: 5")))) == [
        *["complete"] * 4, "waiting",
    ]  # fmt: skip
    changed = SEARCH.replace("high: 1", "high: 2").replace("0.1", "0.2") + "seed: 3\n"
    with pytest.raises(UsageError) as caught:
        open_queue(load(changed))
    assert str(caught.value) == (
        "s.yaml: not the sweep that began as s: set, seed, training.optimizer.learning_rate"
        " changed since. Choose another"
    )


def test_other_data_are_refused() -> None:
    study = open_queue(load()).study
    check_data(study, "here/mnist.npz", "abc")
    check_data(study, "here/mnist.npz", "abc")
    with pytest.raises(DataError, match=r"there: not the data that the sweep s began with\. Point"):
        check_data(study, "there", "def")


def test_a_line_that_a_killed_worker_did_not_finish_is_removed() -> None:
    queue = open_queue(load())
    finish(queue, take(queue))
    with Path("d", JOURNAL).open("a") as file:
        file.write('{"op_code": 4, "study_')
    again = open_queue(load())
    finish(again, take(again))
    assert list_states(open_queue(load())) == ["complete", "complete", "waiting", "waiting"]


def test_what_is_no_journal_is_not_written_into() -> None:
    Path("d", JOURNAL).write_text("my notes\nof today\n")
    with pytest.raises(ResourceError, match=r"d/sweep\.journal: damaged: it is no journal"):
        open_journal(Path("d"))
    assert Path("d", JOURNAL).read_text() == "my notes\nof today\n"


def test_importances_name_the_key_that_decides() -> None:
    queue = open_queue(load(SEARCH.replace("trials: 4", "trials: 40")))
    assert compute_importances(queue.study) == {}
    finish_sweep(queue)
    shares = compute_importances(queue.study)
    assert list(shares) == ["training.optimizer.learning_rate", "training.batch_size"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["training.optimizer.learning_rate"] > 0.8


RACES = """
while (lease := queue.acquire()) is not None:
    with lease.lock:
        queue.complete(lease, 0.5, (1.0, 0.5))
"""


def test_machines_share_a_database(postgresql: str) -> None:
    """Two folders are two machines: neither sees the other's locks."""
    load(SEARCH.replace("trials: 4", "trials: 12\nsampler: random"))
    Path("e").mkdir()
    with start(RACES, "d", postgresql) as one, start(RACES, "e", postgresql) as other:
        assert (one.wait(60), other.wait(60)) == (0, 0)
    with open_shared(postgresql, load_sweep("s.yaml"), "d") as queue:
        assert queue.is_finished()
        complete = [t for t in queue.study.get_trials() if t.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["trial"] for trial in complete) == list(range(12))
    homes = {Path(trial.user_attrs["directory"]).name for trial in complete}
    assert homes == {"d", "e"}


def test_heartbeats_tell_of_another_machines_death(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.commands.sweep.study.HEARTBEAT_S", 1)
    monkeypatch.setattr("mnistcli.commands.sweep.study.GRACE_S", 2)
    Path("e").mkdir()
    sweep = load(SEARCH.replace("trials: 4", "trials: 1"))
    with (
        open_shared(postgresql, sweep, "d") as there,
        open_shared(postgresql, sweep, "e") as here,
    ):
        lost = take(there)
        assert here.acquire() is None  # it may be alive
        end_s = time.monotonic() + 30
        while (again := here.acquire()) is None:
            assert time.monotonic() < end_s
            time.sleep(0.2)
        assert again.trial.params == lost.trial.params
        assert not there.complete(lost, 0.9, (1.0, 0.5))  # too late: it is somebody else's
        finish(here, again, 0.8)
        (trial,) = list_trials(here)
        assert (trial.state, trial.value) == ("complete", 0.8)


def test_a_killed_worker_of_this_machine_needs_no_heartbeats(postgresql: str) -> None:
    sweep = load()
    with start(HOLDS, "d", postgresql) as worker:
        assert read_line(worker) == "0"
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    with open_shared(postgresql, sweep, "d") as queue:
        assert take(queue).number == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/sweeps", r"postgresql://me:\*\*\*@127.0.0.1:1/sweeps:"
         r" the database does not answer: .*[Cc]onnection refused.*; the same command goes on"),
        ("sweeps", r"--storage: no database's URL\. Write postgresql://USER@HOST/DATABASE"),
        ("oracle://me@db/x", "there is no driver for it"),
    ],
)  # fmt: skip
def test_a_database_that_is_not_there(url: str, message: str) -> None:
    with pytest.raises((ResourceError, UsageError), match=message):
        open_database(url)
