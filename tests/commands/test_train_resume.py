"""Resuming runs that were killed at the worst moments: results and messages."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Run
from helpers.kill_loop import read_facts
from mnistcli.checkpoints.reader import read_checkpoint

SMALL = ("--batch-size", 100)
CHOOSING = (
    "--batch-size", 50, "--model", "mlp", "--hidden", 16, "--epochs", 8, "--validation", 0.2,
    "--set", "training.optimizer={name: adam, learning_rate: 0.03}",
    "--set", "training.early_stopping={patience: 1, min_delta: 0.01}",
)  # fmt: skip

# The command itself, but that it saves after every epoch, and kills itself where it is told to.
PROGRAM = """
import functools, os, signal, sys
from mnistcli.cli import app
from mnistcli.commands.train import run as command
from mnistcli.commands.train.request import OutputFile

command.build_trainer = functools.partial(command.build_trainer, checkpoint_interval_s=0.0)
count = 0

def watch(name):
    write = getattr(OutputFile, name)
    def write_watched(self, *arguments):
        global count
        count += name == victim
        if (name, count, moment) == (victim, number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, *arguments)
        if (name, count, moment) == (victim, number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(OutputFile, name, write_watched)

victim, number, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
watch("write"), watch("write_best")
app.main(sys.argv[4:])
"""


def kill_at(environment: dict[str, str], victim: str, number: int, moment: str, *words: object):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, victim, str(number), moment, "train", *map(str, words)],
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("moment", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_the_best_model_survives_a_kill_before_and_after_it_is_written(
    run: Run, environment: dict[str, str], moment: str
) -> None:
    Path("whole").mkdir()
    assert run("train", *CHOOSING, "-q", "-o", "whole/m.h5").code == 0
    kill_at(environment, "write_best", 2, moment, *CHOOSING, "-o", "m.h5")
    assert run("train", "--resume", "m.h5", "-q").code == 0
    for name in ("m.h5", "m.best.h5"):
        mine, whole = read_facts(Path(name)), read_facts(Path("whole", name))
        assert compare(mine, whole) == []


def compare(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """List what differs, names apart: Keras counts what a process makes, and these are of two."""
    keys = [k for k in one.keys() | other.keys() if "optimizer" not in k and "l_config" not in k]
    return sorted(k for k in keys if k != "training_config" and one.get(k) != other.get(k))


@pytest.mark.slow
def test_a_finished_run_that_is_gone_on_with_stays_one_until_it_has_come_further(
    run: Run, environment: dict[str, str]
) -> None:
    answer = run("train", *CHOOSING, "--json", "-o", "m.h5").json
    finished = read_checkpoint(Path("m.h5"))
    assert finished.record is not None
    stopping = finished.record.early_stopping
    assert stopping is not None
    assert stopping.is_restored
    assert stopping.best_epoch + 1 < finished.progress.epoch < 8

    kill_at(environment, "write", 1, "after", "--resume", "m.h5", "--more", 3)
    killed = read_checkpoint(Path("m.h5"))
    assert [w.tobytes() for w in killed.weights] == [w.tobytes() for w in finished.weights]
    assert killed.record is not None
    assert killed.record.test == finished.record.test
    total = finished.progress.epoch + 3
    assert killed.record.config.training.epochs == total

    again = run("train", "--resume", "m.h5", "--json").json  # goes on as it was asked to
    assert finished.progress.epoch < again["epochs"] <= total
    assert again["history"]["loss"][: finished.progress.epoch] == answer["history"]["loss"]


def test_epochs_beyond_a_cosine_are_announced_with_their_learning_rate(run: Run) -> None:
    words = ("--set", "training.schedule={name: cosine, alpha: 0.1}", *SMALL, "--epochs", 2)
    assert run("train", *words, "-q", "-o", "m.h5").code == 0
    warning = (
        "mnistcli: warning: m.h5: its cosine schedule ends after 2 epochs:"
        " the rest train at its last learning rate, 0.001\n"
    )
    ended = run("train", "--resume", "m.h5", "--epochs", 3, "--json")
    assert warning in ended.err
    assert ended.json["history"]["learning_rate"][-2:] == pytest.approx([0.001, 0.001])
    assert warning not in run("train", "--resume", "m.h5").err  # nobody asks for more
