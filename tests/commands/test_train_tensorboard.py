"""`train --tensorboard`: what TensorBoard's own reader finds there."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from helpers.commands import (
    LONG,
    MLP,
    SMALL,
    read_arrays,
    start,
    wait_for_epoch,
    write_command,
)
from mnistcli.checkpoints.reader import read_checkpoint

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BOARD = ("--tensorboard", "logs")


class EventFiles:
    """What TensorBoard makes of a directory."""

    def __init__(self, directory: str) -> None:
        everything = {"scalars": 0, "histograms": 0, "images": 0}
        self.events = EventAccumulator(directory, size_guidance=everything)
        self.events.Reload()

    def tags(self, kind: str) -> set[str]:
        return set(self.events.Tags()[kind])

    def scalars(self, tag: str) -> dict[int, float]:
        """Step to value; a step that is there twice is an error."""
        events = self.events.Scalars(tag)
        assert len({event.step for event in events}) == len(events)
        return {event.step: event.value for event in events}

    def histogram_steps(self, tag: str) -> list[int]:
        return [event.step for event in self.events.Histograms(tag)]


@pytest.fixture
def watched(run: Run) -> dict[str, Any]:
    """Three epochs with a validation set, written to logs/m; the answer."""
    words = ("train", *MLP, "--validation", 0.2, "--epochs", 3, "-o", "m.h5")
    answer: dict[str, Any] = run(*words, *BOARD, "--json").json
    return answer


def test_every_metric_of_every_epoch_is_there(watched: dict[str, Any]) -> None:
    train, validation, test = (
        EventFiles(f"logs/m/{name}") for name in ("train", "validation", "test")
    )
    history = watched["history"]
    for events, prefix in ((train, ""), (validation, "val_")):
        for metric in ("loss", "accuracy"):
            values = np.float32(history[f"{prefix}{metric}"])
            assert events.scalars(f"epoch_{metric}") == dict(zip((1, 2, 3), values, strict=True))
    assert train.scalars("epoch_learning_rate") == dict.fromkeys((1, 2, 3), np.float32(0.001))
    for metric in ("loss", "accuracy"):
        assert test.scalars(f"epoch_{metric}") == {3: np.float32(watched["test"][metric])}


def test_histograms_tell_where_the_weights_are_from_the_first_draw_on(
    watched: dict[str, Any],
) -> None:
    train, checkpoint = EventFiles("logs/m/train"), read_checkpoint(Path("m.h5"))
    tags = [f"{name}/histogram" for name in (
        "sequential/dense/kernel", "sequential/dense/bias",
        "sequential/dense_1/kernel", "sequential/dense_1/bias",
    )]  # fmt: skip
    assert train.tags("histograms") == set(tags)
    for tag, weights in zip(tags, checkpoint.weights, strict=True):
        assert train.histogram_steps(tag) == [0, 1, 2, 3]
        last = train.events.Histograms(tag)[-1].histogram_value
        assert (last.min, last.max, last.num) == (weights.min(), weights.max(), weights.size)
        inside = (weights >= last.bucket_limit[3]) & (weights < last.bucket_limit[4])
        assert last.bucket[4] == inside.sum()


def test_misclassified_images_are_shown(watched: dict[str, Any]) -> None:
    for name, steps in (("validation", [1, 2, 3]), ("test", [3])):
        pictures = EventFiles(f"logs/m/{name}").events.Images("misclassified")
        assert [picture.step for picture in pictures] == steps
        with Image.open(io.BytesIO(pictures[-1].encoded_image_string)) as image:
            assert image.size == (pictures[-1].width, pictures[-1].height)
            assert image.size[0] % 120 == 0
            assert len(image.getcolors(1 << 24) or ()) > 10


def test_training_gives_the_same_bits_with_and_without(run: Run) -> None:
    words = ("train", *MLP, "--dropout", 0.2, "--validation", 0.2, "--epochs", 2, "-q", "-o")
    assert run(*words, "without.h5").code == 0
    assert run(*words, "with.h5", *BOARD).code == 0
    assert read_arrays(Path("with.h5")) == read_arrays(Path("without.h5"))


def test_a_resumed_run_goes_on_without_gaps_and_duplicates(run: Run) -> None:
    words = ("train", *MLP, "--validation", 0.2, "--epochs", 2, "-q", "-o", "m.h5")
    assert run(*words, *BOARD).code == 0
    shutil.copy("m.h5", "kept.h5")
    assert run("train", "--resume", "m.h5", "--more", 3, "-q", *BOARD).code == 0
    assert list(EventFiles("logs/m/train").scalars("epoch_loss")) == [1, 2, 3, 4, 5]

    shutil.copy("kept.h5", "m.h5")  # as if that part had been killed before it was saved
    answer = run("train", "--resume", "m.h5", "--more", 2, "--json", *BOARD).json
    train, validation = EventFiles("logs/m/train"), EventFiles("logs/m/validation")
    assert list(validation.scalars("epoch_loss")) == [1, 2, 3, 4]
    assert train.histogram_steps("sequential/dense/kernel/histogram") == [0, 1, 2, 3, 4]
    losses = np.float32(answer["history"]["loss"])
    assert train.scalars("epoch_loss") == dict(zip((1, 2, 3, 4), losses, strict=True))
    assert run("train", "--resume", "m.h5", "-q", *BOARD).code == 0  # which has nothing to do
    assert list(EventFiles("logs/m/train").scalars("epoch_loss")) == [1, 2, 3, 4]
    assert list(EventFiles("logs/m/test").scalars("epoch_loss")) == [2, 4]


def test_an_overwritten_run_leaves_nothing_of_itself_to_see(run: Run) -> None:
    words = ("train", *MLP, "-q", "-o", "m.h5", "--overwrite", *BOARD)
    assert run(*words, "--validation", 0.2, "--epochs", 3).code == 0
    assert run(*words, "--epochs", 1).code == 0
    train = EventFiles("logs/m/train")
    assert list(train.scalars("epoch_loss")) == [1]
    assert train.histogram_steps("sequential/dense/kernel/histogram") == [0, 1]
    assert EventFiles("logs/m/validation").scalars("epoch_loss") == {}
    assert list(EventFiles("logs/m/test").scalars("epoch_loss")) == [1]


def test_runs_share_a_directory_under_their_checkpoints_names(run: Run) -> None:
    for name in ("a.h5", "b.h5"):
        ended = run("train", *SMALL, "--epochs", 1, "-o", name, *BOARD)
        assert "watch  tensorboard --logdir logs\n" in ended.err
    assert sorted(path.name for path in Path("logs").iterdir()) == ["a", "b"]


def test_rows_of_numbers_have_no_pictures(run: Run) -> None:
    assert run("train", "xor", "--epochs", 2, "-q", "-o", "m.h5", *BOARD).code == 0
    test = EventFiles("logs/m/test")
    assert (test.tags("scalars"), test.tags("images")) == ({"epoch_loss", "epoch_accuracy"}, set())


def test_an_interrupted_run_has_written_every_epoch(environment: dict[str, str]) -> None:
    words = ("train", *LONG, "--epochs", 100_000, "-o", "m.h5", *BOARD)
    with start(write_command(*words), environment) as process:
        wait_for_epoch(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    completed = read_checkpoint(Path("m.h5")).progress.epoch
    assert completed > 0
    steps = list(EventFiles("logs/m/train").scalars("epoch_loss"))
    assert steps == list(range(1, completed + 1))


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--json",)])
def test_without_the_package_the_way_to_it_is_named_before_anything_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    ended = run("train", "no such recipe", "-o", "m.h5", *BOARD, *words)
    assert (ended.code, ended.err) == (
        7,
        "mnistcli: error: tensorboard: the package is not installed."
        ' Install it: python -m pip install "mnistcli[tensorboard]"\n',
    )
    assert list(Path().iterdir()) == []


def test_a_directory_that_takes_no_files_is_exit_7_before_anything_begins(run: Run) -> None:
    Path("taken").write_text("a file")
    for directory in ("taken", "taken/logs"):
        ended = run("train", "-o", "m.h5", "--tensorboard", directory)
        assert (ended.code, ended.out) == (7, "")
        assert re.fullmatch(
            r"mnistcli: error: --tensorboard: .*taken is a file, not a directory\."
            r" Choose another directory with --tensorboard\n",
            ended.err,
        )
    assert not Path("m.h5").exists()


def test_a_run_goes_on_where_its_events_cannot_be_written(run: Run) -> None:
    Path("logs").mkdir()
    Path("logs/m").write_text("in the way")
    ended = run("train", *SMALL, "--epochs", 2, "-q", "-o", "m.h5", *BOARD)
    assert (ended.code, ended.out) == (0, "m.h5\n")
    assert len(re.findall("no more is written for TensorBoard", ended.err)) == 1
    assert read_checkpoint(Path("m.h5")).progress.epoch == 2


def test_nobody_else_pays_for_it(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import sys; from mnistcli.cli import app;"
        "code = app.run(['train', 'xor', '--epochs', '1', '-q']);"
        "sys.exit('imported' if 'tensorboard' in sys.modules else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
