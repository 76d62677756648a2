"""The training loop: callbacks, stopping and resuming."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from helpers.checkpoints import make_record
from helpers.tracing import count_traces
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.checkpoints.writer import create_checkpoint
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split, split_validation
from mnistcli.errors import DivergenceError
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.tensorflow_import import load_backend
from mnistcli.training.callbacks import BatchProgress, Callback

load_backend()

import keras  # noqa: E402

from mnistcli.training.trainer import Trainer  # noqa: E402

UNIT = Preprocessing(0.0, 255.0)


def make_config(**training: object) -> Config:
    return Config.model_validate(
        {
            "model": {"type": "mlp", "hidden": [16], "dropout": 0.2},
            "training": {"batch_size": 100, "optimizer": "adam", "epochs": 3, **training},
        }
    )


def make_training(
    config: Config, train: Split, validation: Split | None = None, chunk_duration_s: float = 1.0
) -> Trainer:
    architecture = plan_architecture(config.model, (28, 28), 10)
    return Trainer(config, architecture, train, validation, UNIT, chunk_duration_s=chunk_duration_s)


@dataclass
class RecordingCallback(Callback):
    """Records its calls, and stops the run after a number of chunks."""

    stop_after_chunks: int | None = None
    chunks: list[BatchProgress] = field(default_factory=list)
    epochs: list[Progress] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)
    best: RunState | None = None

    def on_batch_end(self, progress: BatchProgress) -> None:
        self.chunks.append(progress)

    def on_epoch_end(self, progress: Progress) -> None:
        self.epochs.append(progress)

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:
        self.states.append(state)
        self.best = best

    def should_stop(self) -> bool:
        return self.stop_after_chunks is not None and len(self.chunks) >= self.stop_after_chunks


def assert_same_run(first: RunState, second: RunState) -> None:
    for one, other in zip(first.network.weights, second.network.weights, strict=True):
        assert one.tobytes() == other.tobytes()
    for one, other in zip(first.network.optimizer, second.network.optimizer, strict=True):
        assert one.values.tobytes() == other.values.tobytes()
    assert first.callbacks.early_stopping == second.callbacks.early_stopping
    assert first.callbacks.reduce_on_plateau == second.callbacks.reduce_on_plateau
    for one, other in zip(first.callbacks.weights, second.callbacks.weights, strict=True):
        assert one.values.tobytes() == other.values.tobytes()
    assert first.progress.history == second.progress.history
    assert first.progress.epoch == second.progress.epoch


def test_hands_out_a_state_before_the_first_epoch_and_after_the_last(digits: Split) -> None:
    recorder = RecordingCallback()
    final = make_training(make_config(), digits).fit([recorder])
    assert recorder.states[0].progress == Progress()
    assert recorder.states[-1] is final
    assert final.progress.epoch == 3
    assert [chunk.step_count for chunk in recorder.chunks] == [11] * len(recorder.chunks)
    assert [progress.epoch for progress in recorder.epochs] == [1, 2, 3]
    assert set(final.progress.history) == {"loss", "accuracy"}
    assert len(final.progress.history["loss"]) == len(final.progress.epoch_durations_s) == 3


SLOW_STEPS = [pytest.param(n, marks=pytest.mark.slow) for n in (1, 7)]


@pytest.mark.parametrize("steps", [0, 10, 11, 25, *SLOW_STEPS])
def test_a_run_stopped_anywhere_and_resumed_ends_with_the_bits_of_one_that_was_not(
    digits: Split, steps: int
) -> None:
    config = make_config()
    whole = make_training(config, digits).fit()

    one_step_at_a_time = make_training(config, digits, chunk_duration_s=0.0)
    stopped = one_step_at_a_time.fit([RecordingCallback(stop_after_chunks=steps)])
    # An epoch whose last step was the last before the stop is completed by whoever resumes it.
    assert stopped.progress.epoch * 11 + stopped.progress.step == steps
    resumed = make_training(config, digits)
    resumed.restore(stopped)

    assert_same_run(resumed.fit(), whole)


def test_python_runs_a_step_once_for_each_program_and_never_again(
    digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = keras.Sequential.train_step, []
    monkeypatch.setattr(
        keras.Sequential, "train_step", lambda self, data: calls.append(1) or step(self, data)
    )
    training = make_training(make_config(epochs=4), digits)
    run, pieces = training._epoch.run, []
    monkeypatch.setattr(
        training._epoch, "run", lambda lo, hi: pieces.append((lo, hi)) or run(lo, hi)
    )
    recorder = RecordingCallback()
    training.fit([recorder])
    # Tracing calls it: for whole batches and for the smaller last one. 44 steps call nothing.
    assert len(calls) == count_traces(training._epoch) == 2
    assert len(pieces) == len(recorder.chunks)
    assert pieces[-1] == (0, 11)


def test_no_piece_takes_much_longer_than_a_second_however_slow_a_step_is(
    digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four steps, at the most.
    training = make_training(make_config(epochs=2), digits, chunk_duration_s=0.2)
    run, pieces = training._epoch.run, []

    def run_slowly(lo: int, hi: int) -> None:
        pieces.append(hi - lo)
        time.sleep(0.05 * (hi - lo))
        run(lo, hi)

    monkeypatch.setattr(training._epoch, "run", run_slowly)
    training.fit()
    assert sum(pieces) == 22
    assert pieces[0] == 1
    assert 1 < max(pieces) <= 4


def test_a_run_that_goes_on_hands_out_first_what_it_was_given(digits: Split) -> None:
    settings = RICH_RUNS["adam, stopped early"]
    ended = make_rich(digits, **settings).fit()
    recorder, again = RecordingCallback(), make_rich(digits, **settings)
    again.restore(ended)
    again.fit([recorder])
    assert recorder.states[0] is ended  # with its best weights, not with its last
    assert count_traces(again._epoch) == 0  # nothing is compiled for a run that has ended


STOPPING = {"patience": 1, "min_delta": 0.2}
PLATEAU = {"factor": 0.5, "patience": 1, "min_delta": 0.2, "cooldown": 1}
RICH_RUNS = {
    "sgd with a plateau": {
        "optimizer": {"name": "sgd", "momentum": 0.9, "learning_rate": 0.05},
        "reduce_on_plateau": PLATEAU,
        "clip": {"global_norm": 1.0},
    },
    "adam, stopped early": {
        "optimizer": {"name": "adam", "learning_rate": 0.005},
        "early_stopping": STOPPING,
        "label_smoothing": 0.1,
    },
    "adamw on a cosine": {
        "optimizer": {"name": "adamw", "learning_rate": 0.005},
        "schedule": {"name": "cosine", "epochs": 4.0, "warmup_epochs": 1.0},
        "early_stopping": {**STOPPING, "patience": 50},
        "class_weight": "balanced",
    },
    "rmsprop with a plateau, stopped early": {
        "optimizer": {"name": "rmsprop", "momentum": 0.5},
        "reduce_on_plateau": {**PLATEAU, "monitor": "val_accuracy", "min_delta": 0.1},
        "early_stopping": {**STOPPING, "monitor": "val_accuracy", "patience": 3},
    },
    "nadam in pieces": {
        "optimizer": {"name": "nadam", "learning_rate": 0.005},
        "schedule": {"name": "piecewise", "boundaries": [1, 3], "factors": [0.5, 0.1]},
        "early_stopping": {**STOPPING, "restore_best": False},
    },
}


def make_rich(
    digits: Split, epochs: int = 8, chunk_duration_s: float = 1.0, **training: object
) -> Trainer:
    config = make_config(epochs=epochs, **training).model_dump(mode="json")
    config["dataset"]["validation"] = 0.2
    config["model"] |= {"l1": 1e-5, "l2": 1e-4}
    train, validation = split_validation(digits, 0.2, seed=0)
    return make_training(Config.model_validate(config), train, validation, chunk_duration_s)


def through_a_file(path: Path, state: RunState, config: Config) -> RunState:
    path.unlink(missing_ok=True)
    record = make_record(state.network, state.progress, state.callbacks, config)
    create_checkpoint(path, state, record)
    back = read_checkpoint(path, "all").state
    assert back is not None
    return back


SLOW_RUNS = ("adamw on a cosine", "nadam in pieces", "sgd with a plateau")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW_RUNS else ()) for n in RICH_RUNS]
)
def test_a_run_with_callbacks_stopped_again_and_again_ends_with_the_same_bits(
    digits: Split, name: str, tmp_path: Path
) -> None:
    whole = make_rich(digits, **RICH_RUNS[name]).fit()
    if "stopped" in name:
        assert 3 < whole.progress.epoch < 8
        stopping = whole.callbacks.early_stopping
        assert stopping is not None
        assert stopping.is_stopped
        assert stopping.is_restored
        assert stopping.best_epoch + 1 < whole.progress.epoch

    one_step = {"chunk_duration_s": 0.0}  # of nine
    state, run = None, make_rich(digits, **RICH_RUNS[name], **one_step)
    for pieces in (4, 23, None):  # in an epoch, and after a later one
        if state is not None:
            run = make_rich(digits, **RICH_RUNS[name], **one_step)
            run.restore(through_a_file(tmp_path / "run.h5", state, run.config))
        state = run.fit([RecordingCallback(stop_after_chunks=pieces)])

    assert_same_run(state, whole)


def test_a_run_that_ended_with_its_best_weights_goes_on_from_its_last_ones(
    digits: Split, tmp_path: Path
) -> None:
    settings = {**RICH_RUNS["adam, stopped early"], "early_stopping": {"patience": 3}}
    settings["optimizer"] = {"name": "adam", "learning_rate": 0.03}  # so that it gets worse
    whole = make_rich(digits, epochs=6, **settings).fit()
    ended = make_rich(digits, epochs=4, **settings).fit()
    assert ended.callbacks.early_stopping is not None
    assert ended.callbacks.early_stopping.is_restored
    extended = make_rich(digits, epochs=6, **settings)
    extended.restore(through_a_file(tmp_path / "run.h5", ended, extended.config))
    assert_same_run(extended.fit(), whole)


def test_a_run_that_was_stopped_early_stays_so_until_it_is_asked_for_more(digits: Split) -> None:
    settings = RICH_RUNS["adam, stopped early"]
    ended = make_rich(digits, **settings).fit()
    again = make_rich(digits, **settings)
    again.restore(ended)
    assert_same_run(again.fit(), ended)

    more = make_rich(digits, epochs=ended.progress.epoch + 1, **settings)
    more.restore(ended.without_stop())
    assert more.fit().progress.epoch == ended.progress.epoch + 1


def test_weights_that_callbacks_kept_of_another_network_are_refused(digits: Split) -> None:
    ended = make_rich(digits, **RICH_RUNS["adam, stopped early"]).fit()
    wrong = replace(ended, callbacks=replace(ended.callbacks, weights=ended.callbacks.weights[1:]))
    with pytest.raises(ValueError, match="expected"):
        make_rich(digits, **RICH_RUNS["adam, stopped early"]).restore(wrong)


def test_seeds_decide_weights_and_orders(digits: Split) -> None:
    first, same, other = (make_training(make_config(seed=seed), digits).fit() for seed in (1, 1, 2))
    assert_same_run(first, same)
    assert not np.array_equal(first.network.weights[0], other.network.weights[0])


def test_without_shuffling_every_epoch_takes_the_order_of_the_file(digits: Split) -> None:
    config = make_config(shuffle=False, batch_size=1050, epochs=1)
    shuffled = make_config(shuffle=True, batch_size=1050, epochs=1)
    in_order = make_training(config, digits).fit()
    # In one batch of everything the order changes only how sums are rounded.
    in_any_order = make_training(shuffled, digits).fit()
    for one, other in zip(in_order.network.weights, in_any_order.network.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


def test_a_validation_set_is_monitored_and_chooses_the_best_epoch(digits: Split) -> None:
    config = Config.model_validate(
        {**make_config(epochs=4).model_dump(mode="json"), "dataset": {"validation": 0.2}}
    )
    train, validation = split_validation(digits, 0.2, seed=0)
    recorder = RecordingCallback()
    final = make_training(config, train, validation).fit([recorder])
    losses = final.progress.history["val_loss"]
    assert len(losses) == len(final.progress.history["val_accuracy"]) == 4
    assert recorder.best is not None
    assert recorder.best.progress.best_epoch == final.progress.best_epoch == np.argmin(losses) + 1


def test_the_test_set_is_monitored_and_never_chooses(digits: Split) -> None:
    config = Config.model_validate(
        {**make_config(epochs=2).model_dump(mode="json"), "dataset": {"validation": "test"}}
    )
    recorder = RecordingCallback()
    final = make_training(config, digits, digits).fit([recorder])
    assert len(final.progress.history["val_loss"]) == 2
    assert recorder.best is None
    assert final.progress.best_epoch == 0


def test_a_run_that_diverges_stops_and_leaves_a_finite_state(digits: Split) -> None:
    config = make_config(optimizer={"name": "sgd", "learning_rate": 1e6}, loss="mean_squared_error")
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"activation": "exponential"})}
    )
    recorder = RecordingCallback()
    with pytest.raises(DivergenceError, match=r"^epoch 1: .* no longer finite"):
        make_training(config, digits).fit([recorder])
    weights = [values for state in recorder.states for values in state.network.weights]
    assert all(np.isfinite(values).all() for values in weights)


def test_validation_splits_are_stratified_seeded_and_disjoint(digits: Split) -> None:
    train, validation = split_validation(digits, 0.2, seed=5)
    again, _ = split_validation(digits, 0.2, seed=5)
    other, _ = split_validation(digits, 0.2, seed=6)
    assert len(train) == 840
    assert np.bincount(validation.labels).tolist() == [21] * 10
    np.testing.assert_array_equal(train.images, again.images)
    assert not np.array_equal(train.images, other.images)
