"""`mnistcli.train` from Python: results, errors, Ctrl-C, threads and side effects."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import mnistcli
from conftest import Run
from helpers.commands import read_arrays
from mnistcli.checkpoints.run_state import Progress
from mnistcli.config.schema import Config
from mnistcli.errors import ConfigError, ResourceError, UsageError

SMALL = {"batch_size": 100, "epochs": 2}


def test_it_trains_as_the_command_does(run: Run) -> None:
    flags = ("--batch-size", 100, "--epochs", 2, "--model", "mlp", "--hidden", "16,8")
    told = run("train", *flags, "--validation", 0.2, "-o", "m.h5", "--json").json
    result = mnistcli.train(
        **SMALL, model="mlp", hidden=[16, 8], validation=0.2, output=Path("again.h5")
    )
    assert result.history == {name: tuple(values) for name, values in told["history"].items()}
    assert (result.test.loss, result.test.accuracy) == tuple(told["test"].values())
    assert (result.checkpoint, result.best_checkpoint) == ("again.h5", "again.best.h5")
    assert read_arrays(Path("again.h5")) == read_arrays(Path("m.h5"))


@pytest.mark.parametrize("kind", ["dict", "config"])
def test_a_config_may_be_a_value(run: Run, kind: str) -> None:
    del run
    values = {"training": {"epochs": 1, "batch_size": 100, "seed": 3}}
    config = values if kind == "dict" else Config.model_validate(values)
    result = mnistcli.train(
        config, overrides={"training.optimizer": {"name": "adam"}}, output="m.h5"
    )
    trained = mnistcli.load("m.h5").config
    assert (result.epochs, trained.training.seed, trained.training.optimizer.name) == (1, 3, "adam")


def test_it_prints_nothing_and_leaves_signals_alone(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    del run
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for name in ("a.h5", "b.h5"):
        mnistcli.train("xor", epochs=2, output=name)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert read_arrays(Path("a.h5")) == read_arrays(Path("b.h5"))


def test_it_works_outside_the_main_thread_and_calls_callbacks(run: Run) -> None:
    del run
    epochs: list[int] = []

    class Counter(mnistcli.Callback):
        def on_epoch_end(self, progress: Progress) -> None:
            epochs.append(progress.epoch)

        def should_stop(self) -> bool:
            return len(epochs) == 3

    results: list[mnistcli.TrainResult] = []
    thread = threading.Thread(
        target=lambda: results.append(
            mnistcli.train("xor", epochs=50, output="m.h5", callbacks=[Counter()])
        )
    )
    thread.start()
    thread.join()
    assert epochs == [1, 2, 3]
    assert results[0].epochs == 3
    assert mnistcli.train(resume="m.h5", epochs=5).epochs == 5


def test_ctrl_c_saves_the_run_and_is_a_keyboard_interrupt(run: Run) -> None:
    del run

    class Interrupter(mnistcli.Callback):
        def on_epoch_end(self, progress: Progress) -> None:
            if progress.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        KeyboardInterrupt,
        match=r"^interrupted (after 2|in epoch 3) of 9 .*; saved m\.h5$",
    ):
        mnistcli.train("xor", epochs=9, output="m.h5", callbacks=[Interrupter()])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert mnistcli.load("m.h5").checkpoint.progress.epoch == 2
    assert mnistcli.train(resume="m.h5").epochs == 9


def test_tensorflow_has_one_number_of_threads_in_a_process(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    del run
    monkeypatch.setattr("mnistcli.commands.train.prepare.count_processors", lambda: 17)
    with pytest.raises(ResourceError, match="not with 17 threads"):
        mnistcli.train("xor", epochs=1, output="m.h5")


def test_errors_are_exceptions(run: Run) -> None:
    del run
    Path("m.h5").touch()
    with pytest.raises(UsageError, match=r"m\.h5 exists"):
        mnistcli.train("xor", output="m.h5")
    with pytest.raises(ConfigError) as raised:
        mnistcli.train({"training": {"epoch": 3}}, learning_rate=-1.0, output="n.h5")
    assert [problem.where for problem in raised.value.problems] == [
        "config:2:3",
        "--learning-rate",
    ]
