"""Signals end a run soon, by the signal, at every stage, or have it saved; no result is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from conftest import Run, Train
from helpers.commands import read_arrays
from mnistcli.checkpoints.reader import read_checkpoint

SMALL = ("--batch-size", 100)
WORDS = ("train", *SMALL, "--epochs", 4, "-o", "m.h5")
LOCK = Path(".m.h5.mnistcli-lock")
PATIENCE_S = 10  # the promise is two seconds on a machine that does nothing else

# The command itself, with something else done first.
PROGRAM = """
import os, signal, sys, time
from mnistcli.cli import app
{patch}
app.main(sys.argv[1:])
"""


@contextlib.contextmanager
def start(
    environment: dict[str, str], *words: object, patch: str = "", prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which does not outlive the test."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", PROGRAM.format(patch=patch), *map(str, words)],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.002)


def end(process: subprocess.Popen[str], *numbers: signal.Signals) -> tuple[str, str]:
    """Send signals, a moment apart, and see that the last of them was the process' end."""
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -numbers[-1]
    return out, "".join(x for x in err.splitlines(True) if "not canonical MNIST" not in x)


def list_names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU]


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_a_run_that_has_only_just_begun_leaves_nothing(
    environment: dict[str, str], number: signal.Signals
) -> None:
    with start(environment, *WORDS) as process:
        wait_until(LOCK.exists)  # TensorFlow's import comes next: seconds
        assert end(process, number) == ("", "")
    assert list_names() == []


CHUNKS_OF_A_STEP = """
import functools
from mnistcli.commands.train import run
run.build_trainer = functools.partial(run.build_trainer, chunk_duration_s=0.0)
from mnistcli.tensorflow_import import load_backend
load_backend()
from mnistcli.training.compiled_epoch import TrainingEpoch
compute = TrainingEpoch.run
TrainingEpoch.run = lambda *steps: (time.sleep(0.3), compute(*steps))
"""
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def find_process_1(process: subprocess.Popen[str]) -> int:
    """Return the process id out here of the only child of `unshare`."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: path.read_text().split())
    return int(path.read_text())


@pytest.mark.parametrize(
    ("prefix", "numbers", "code"),
    [
        pytest.param((), (signal.SIGXCPU, signal.SIGXCPU), -signal.SIGXCPU, id="XCPU"),
        pytest.param(AS_PROCESS_1, (signal.SIGHUP, signal.SIGHUP), 129, id="HUP to process 1"),
        *(
            pytest.param(AS_PROCESS_1, (number,), 128 + number, marks=pytest.mark.slow)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU)
        ),
        pytest.param((), (signal.SIGHUP,), -signal.SIGHUP, id="HUP", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_saved_and_goes_on_saved_and_ends_and_is_resumed_to_the_same_bits(
    run: Run,
    environment: dict[str, str],
    train_once: Train,
    prefix: Sequence[str],
    numbers: Sequence[signal.Signals],
    code: int,
) -> None:
    if prefix and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare may not make a process 1 here")
    buffering = {**environment, "PYTHONUNBUFFERED": "1"}
    with start(buffering, *WORDS, patch=CHUNKS_OF_A_STEP, prefix=prefix) as process:
        assert process.stderr is not None
        wait_until(Path("m.h5").exists)
        target = find_process_1(process) if prefix else process.pid
        first = Path("m.h5").stat().st_ino
        os.kill(target, signal.SIGUSR1)
        wait_until(lambda: Path("m.h5").stat().st_ino != first)
        saved = read_checkpoint(Path("m.h5")).progress
        for number in numbers:
            os.kill(target, number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (code, "")
    assert re.search(r"^saved m\.h5 after epoch \d of 4.*, as SIGUSR1 asks; goes on$", err, re.M)
    assert list_names() == ["m.h5"]
    stopped = read_checkpoint(Path("m.h5")).progress
    assert (0, 0) < (saved.epoch, saved.step) <= (stopped.epoch, stopped.step) < (4, 0)
    assert run("train", "--resume", "m.h5", "-q").code == 0
    whole = train_once(*SMALL, "--epochs", 4)
    assert read_arrays(Path("m.h5")) == read_arrays(whole)


SLOW_COMPILER = """
from mnistcli.tensorflow_import import load_backend
load_backend()
from mnistcli.training.compiled_epoch import TrainingEpoch
TrainingEpoch._call = lambda *_: time.sleep(60)
"""


def test_nobody_waits_for_the_compiler(environment: dict[str, str]) -> None:
    with start(environment, *WORDS, patch=SLOW_COMPILER) as process:
        wait_until(Path("m.h5").exists)
        time.sleep(0.2)
        assert end(process, signal.SIGINT) == (
            "",
            "interrupted after 0 of 4 epochs; saved m.h5\nnext  mnistcli train --resume m.h5\n",
        )
    assert list_names() == ["m.h5"]
    assert read_checkpoint(Path("m.h5")).progress.epoch == 0


INTERRUPTED_SCORING = """
from mnistcli.commands.train import run
score = run.run_network
def interrupt(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return score(*arguments)
run.run_network = interrupt
"""


def test_a_run_that_is_not_scored_yet_is_whole_and_says_how_to_go_on(
    run: Run, environment: dict[str, str]
) -> None:
    with start(environment, *WORDS, patch=INTERRUPTED_SCORING) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (-signal.SIGTERM, "")
    assert err.endswith(
        "interrupted after 4 of 4 epochs; saved m.h5\nnext  mnistcli train --resume m.h5\n"
    )
    assert list_names() == ["m.h5"]
    answer = run("train", "--resume", "m.h5", "--json").json
    assert answer["epochs"] == 4
    assert answer["test"] == run("summary", "m.h5", "--json").json["training"]["test"]


SLOW_STEPS = """
from mnistcli.tensorflow_import import load_backend
load_backend()
from mnistcli.training.compiled_epoch import TrainingEpoch
TrainingEpoch.run = lambda *_: (open("stepping", "w").close(), time.sleep(60))
"""


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param((signal.SIGINT, signal.SIGINT), id="INT INT"),
        pytest.param((signal.SIGINT, signal.SIGTERM), id="INT TERM", marks=pytest.mark.slow),
    ],
)
def test_a_second_signal_ends_at_once_and_leaves_the_last_good_file(
    environment: dict[str, str], train_once: Train, numbers: tuple[signal.Signals, ...]
) -> None:
    model = train_once(*SMALL, "--epochs", 1)
    before = read_checkpoint(model)
    words = ("train", "--resume", model, "--more", 1_000)
    with start(environment, *words, patch=SLOW_STEPS) as process:
        wait_until(Path("stepping").exists)
        assert end(process, *numbers) == ("", "")
    after = read_checkpoint(model)
    assert after.progress == before.progress
    assert [w.tobytes() for w in after.weights] == [w.tobytes() for w in before.weights]


def test_what_was_to_be_ignored_is_ignored(environment: dict[str, str]) -> None:
    """As a shell arranges for jobs that a script starts in the background."""
    script = 'trap "" INT HUP; exec "$0" "$@"'
    command = ["bash", "-c", script, sys.executable, "-m", "mnistcli", *map(str, WORDS)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        wait_until(LOCK.exists)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        lines = [line for line in process.stderr if line.startswith("epoch ")]
        process.send_signal(signal.SIGINT)
    assert (process.returncode, len(lines)) == (0, 4)


WHILE_IMPORTING = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, *_):
        if name == "mnistcli.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
from mnistcli.__main__ import main
main()
"""


def test_ctrl_c_shows_no_traceback_of_a_program_that_is_still_loading(
    environment: dict[str, str],
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WHILE_IMPORTING],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_a_run_whose_epoch_is_diverging_keeps_its_last_finite_state_on_ctrl_c(
    environment: dict[str, str],
) -> None:
    patch = """
from mnistcli.tensorflow_import import load_backend
load_backend()
import functools, math
from mnistcli.commands.train import run as command
from mnistcli.training import trainer
command.build_trainer = functools.partial(command.build_trainer, chunk_duration_s=0.0)
run = trainer.Trainer._run_chunk
def run_chunk(self, callbacks):
    run(self, callbacks)
    if not all(map(math.isfinite, trainer._read_metrics(self._network).values())):
        os.kill(os.getpid(), signal.SIGINT)
trainer.Trainer._run_chunk = run_chunk
"""
    words = ("--model", "mlp", "--activation", "exponential", "--learning-rate", "1e6",
             "--set", "training.loss=mean_squared_error")  # fmt: skip
    with start(environment, *WORDS, *words, patch=patch) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert re.search(r"^mnistcli: error: epoch 1: .* no longer finite", err, re.MULTILINE)
    assert read_checkpoint(Path("m.h5")).progress.epoch == 0
    assert list_names() == ["m.h5"]
