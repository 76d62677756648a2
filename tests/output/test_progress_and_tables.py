"""Results on stdout and progress on stderr: bars on terminals, plain lines on pipes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import Ended, Run, Train
from mnistcli.errors import CheckFailedError, ConfigError, DataError, Problem, pluralize
from mnistcli.output.results import (
    ErrorResult,
    EvaluateResult,
    EvaluationResult,
    Prediction,
    PredictResult,
    describe_error,
    format_csv,
)
from mnistcli.output.tables import describe_progress
from mnistcli.output.terminal import Form, emit

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|38;|9[0-7])[0-9;]*m")
SHOW_EPOCHS = """
from mnistcli.output.progress import open_epoch_display
from mnistcli.output.terminal import choose_progress
display = open_epoch_display(3, 0, choose_progress("auto", silent=False))
for epoch in (1, 2, 3):
    display.show_batch(epoch, 0.5, {"loss": 1.0})
    display.show_epoch(epoch, {"loss": 1 / epoch, "accuracy": epoch / 4}, 0.5)
display.close()
"""

OnTerminal = Callable[..., Ended]


@pytest.fixture
def on_terminal(environment: dict[str, str]) -> OnTerminal:
    """Runs Python with the named stream on a real terminal and the other one on a pipe."""

    def run_process(*words: object, stream: str, **variables: str) -> Ended:
        ours, theirs = pty.openpty()
        ends: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = {**environment, "TERM": "xterm-256color", **variables}
        process = subprocess.Popen(
            [sys.executable, *map(str, words)], env=env, text=True, **{**ends, stream: theirs}
        )
        os.close(theirs)
        seen: list[bytes] = []
        reader = threading.Thread(target=_drain, args=(ours, seen))
        reader.start()
        out, err = process.communicate(timeout=120)
        reader.join(timeout=60)
        os.close(ours)
        terminal = b"".join(seen).decode().replace("\r\n", "\n")
        return Ended(
            process.returncode,
            terminal if stream == "stdout" else out,
            terminal if stream == "stderr" else err,
        )

    return run_process


def _drain(descriptor: int, seen: list[bytes]) -> None:
    """Read a terminal until its last process is gone; Linux reports that as an error."""
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            return
        if not data:
            return
        seen.append(data)


def test_off_a_terminal_every_epoch_is_one_plain_line(environment: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SHOW_EPOCHS],
        env={**environment, "FORCE_COLOR": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == ""
    assert ended.stderr == (
        "epoch 1/3  loss 1.0000  accuracy 0.2500  0.50 s\n"
        "epoch 2/3  loss 0.5000  accuracy 0.5000  0.50 s\n"
        "epoch 3/3  loss 0.3333  accuracy 0.7500  0.50 s\n"
    )


def test_a_terminal_gets_a_bar(on_terminal: OnTerminal) -> None:
    ended = on_terminal("-c", SHOW_EPOCHS, stream="stderr")
    assert ended.out == ""
    assert "━" in ended.err
    assert "3/3" in ended.err
    assert "loss 0.3333  accuracy 0.7500" in ended.err
    assert COLOUR.search(ended.err)


def test_a_run_on_a_terminal_shows_its_bar_there_and_answers_on_stdout(
    on_terminal: OnTerminal,
) -> None:
    words = ("train", "xor", "--epochs", 3, "-o", "a.h5")
    ended = on_terminal("-m", "mnistcli", *words, stream="stderr")
    assert ended.code == 0
    assert re.fullmatch(r"test accuracy \d\.\d{4}, loss \d\.\d{4}\n", ended.out)
    assert "━" in ended.err
    assert "3/3" in ended.err
    assert "epoch 1/3" not in ended.err
    assert ended.err.endswith("saved a.h5\nnext  mnistcli evaluate a.h5\n")


def test_no_color_takes_the_colours_off_the_bar(on_terminal: OnTerminal) -> None:
    ended = on_terminal("-c", SHOW_EPOCHS, stream="stderr", NO_COLOR="1")
    assert "━" in ended.err
    assert not COLOUR.search(ended.err)


def test_a_dumb_terminal_gets_plain_lines(on_terminal: OnTerminal) -> None:
    ended = on_terminal("-c", SHOW_EPOCHS, stream="stderr", TERM="dumb")
    assert ESCAPE not in ended.err
    assert ended.err.splitlines()[0] == "epoch 1/3  loss 1.0000  accuracy 0.2500  0.50 s"


def test_tables_are_styled_on_a_terminal_and_nowhere_else(
    on_terminal: OnTerminal, spawn: Run
) -> None:
    words = ("-m", "mnistcli", "summary", "cifar10-mlp")
    plain = spawn("summary", "cifar10-mlp", env={"FORCE_COLOR": "1"}).out
    styled = on_terminal(*words, stream="stdout").out
    dumb = on_terminal(*words, stream="stdout", TERM="dumb").out
    colourless = on_terminal(*words, stream="stdout", NO_COLOR="1").out

    assert ESCAPE not in plain
    assert ESCAPE in styled
    assert re.sub(r"\x1b\[[0-9;]*m", "", styled).split() == plain.split()
    assert dumb == plain
    assert not COLOUR.search(colourless)


def test_a_bar_that_is_stopped_or_killed_leaves_the_cursor_visible(
    environment: dict[str, str],
) -> None:
    """As Ctrl-Z and `kill -9` do, which a program can do nothing against or after."""
    program = SHOW_EPOCHS.replace("display.close()", "import time; time.sleep(60)")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**environment, "TERM": "xterm-256color"}, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"3/3" not in seen:
        seen += os.read(ours, 4096)
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
        process.send_signal(number)
        time.sleep(0.3)
        os.set_blocking(ours, False)
        with contextlib.suppress(BlockingIOError, OSError):
            seen += os.read(ours, 65536)
        assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h")
    process.wait()
    os.close(ours)


def test_numbers_are_never_cut_however_narrow_the_terminal(
    on_terminal: OnTerminal, train_once: Train
) -> None:
    model = train_once("--epochs", 1)
    words = ("-m", "mnistcli", "evaluate", model)
    narrow = on_terminal(*words, stream="stdout", COLUMNS="20").out
    wide = on_terminal(*words, stream="stdout", COLUMNS="300").out
    assert narrow == wide
    assert "warning" not in narrow
    assert "…" not in narrow


def test_long_paths_are_neither_wrapped_nor_cut(run: Run, train_once: Train) -> None:
    folder = Path("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    model = train_once("--epochs", 1).rename(folder / "model.h5")
    assert run("evaluate", model).out.splitlines()[0].startswith(f"{model} on mnist test (200 im")
    lines = run("evaluate", model, model).out.splitlines()
    assert sum(line.split()[:1] == [str(model)] for line in lines) == 2


def test_file_names_are_no_markup(run: Run, train_once: Train) -> None:
    model = train_once("--epochs", 1).rename("x[red]:dog:[bold].h5")
    lines = run("evaluate", model, model).out.splitlines()
    assert sum(line.split()[:1] == ["x[red]:dog:[bold].h5"] for line in lines) == 2


def test_a_closed_stdout_or_stderr_is_no_bug(environment: dict[str, str], tmp_path: Path) -> None:
    command = f"{sys.executable} -m mnistcli summary"
    for redirected, code in (
        (f"{command} xor >&-", 0),
        (f"{command} xor 2>&-", 0),
        (f"{command} xor <&- >&- 2>&-", 0),
        (f"{command} missing.h5 >&-", 5),
        (f"{command} missing.h5 2>&-", 5),
    ):
        ended = subprocess.run(
            ["bash", "-c", redirected], env=environment, cwd=tmp_path, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == code, redirected
        assert "internal" not in ended.stderr, redirected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_full_disk_behind_stdout_is_the_environments_fault(
    environment: dict[str, str], buffering: str
) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mnistcli", "summary", "xor", "--json"],
            env={**environment, "PYTHONUNBUFFERED": buffering},
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (
        7,
        "mnistcli: error: output: no space left on device. --debug shows where\n",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 7),
        ("evaluate missing.h5 --json", 5),
        ("train --no-such-flag --json", 2),
    ],
)
def test_what_failed_first_decides_where_stdout_takes_nothing(
    environment: dict[str, str], words: str, code: int
) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mnistcli", *words.split()],
            env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("mnistcli: error: output: no space left on dev")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_bar_on_a_stderr_that_takes_nothing_ends_no_command(environment: dict[str, str]) -> None:
    start = "from mnistcli.output.terminal import open_standard_streams as o; o()"
    program = start + SHOW_EPOCHS.replace('"auto"', '"bar"') + "print('went on')"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=environment, stderr=full, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    assert ended.stdout == "went on\n"


def test_an_answer_is_written_whole_or_the_command_fails(
    environment: dict[str, str], train_once: Train, tmp_path: Path
) -> None:
    """Python's own unbuffered streams drop what the system does not take at once."""
    predict = [sys.executable, "-m", "mnistcli", "predict", str(train_once("--epochs", 1)),
               "--split", "train", "--csv"]  # fmt: skip
    whole = subprocess.run(predict, env=environment, capture_output=True, check=True).stdout
    assert len(whole) > 150_000

    limit, unbuffered = 100_000, {**environment, "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "cut.csv").open("wb") as file:
        ended = subprocess.run(
            predict, env=unbuffered, stdout=file, stderr=subprocess.PIPE, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
    assert (ended.returncode, b"output: file too large" in ended.stderr) == (7, True)

    command = [predict[0], "-u", *predict[1:]]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(20) == whole[:20]
        process.stdout.close()
    assert process.returncode == -signal.SIGPIPE

    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)  # as programs that read it with an event loop leave it
    with os.fdopen(ours, "rb") as pipe:
        process = subprocess.Popen(predict, env=environment, stdout=theirs)
        os.close(theirs)
        time.sleep(0.2)
        assert (pipe.read(), process.wait()) == (whole, 0)


@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_closed_pipe_ends_a_command_by_its_signal_without_a_word(
    environment: dict[str, str], buffering: str
) -> None:
    for words in ("summary mnist-mlp", "summary mnist-mlp --json", "--help"):
        ended = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m mnistcli {words} | true; echo ${{PIPESTATUS[0]}}"],
            env={**environment, "PYTHONUNBUFFERED": buffering},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert (ended.stdout, ended.stderr) == ("141\n", ""), words


def test_a_closed_pipe_does_not_hide_an_error(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m mnistcli summary missing.h5 --json"
    ended = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == "5\n"
    assert ended.stderr.startswith("mnistcli: error: missing.h5: no such checkpoint in ")
    assert len(ended.stderr.splitlines()) == 1


def make_evaluation(loss: float) -> EvaluationResult:
    return EvaluationResult(
        checkpoint="a.h5", dataset="xor", split="test", count=4, loss=loss, accuracy=0.5,
        per_class=(), confusion=((1, 1), (1, 1)),
    )  # fmt: skip


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_is_null_in_json(
    loss: float, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(EvaluateResult(results=(make_evaluation(loss),)), "json")
    assert json.loads(capsys.readouterr().out)["results"][0]["loss"] is None


def test_an_error_is_the_last_key_of_its_result_and_raised_after_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = EvaluateResult(results=(make_evaluation(0.5),))
    error = CheckFailedError("m.h5", "accuracy 0.5 is below 0.9")
    forms: tuple[tuple[Form, str], ...] = (("quiet", "0.5000\n"), ("csv", "checkpoint,"))
    for form, printed in forms:
        with pytest.raises(CheckFailedError):
            emit(result, form, error)
        assert capsys.readouterr().out.startswith(printed)
    with pytest.raises(CheckFailedError):
        emit(result, "json", error)
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["version", "results", "error"]
    assert answer["error"]["code"] == 3
    emit(result, "jsonl")
    assert list(json.loads(capsys.readouterr().out)) == ["version", "results"]


def test_an_error_is_described_by_five_keys() -> None:
    answer = ErrorResult(error=describe_error(DataError("x.png", "no image", "see --help")))
    assert json.loads(answer.model_dump_json()) == {
        "version": 1,
        "error": {
            "code": 4,
            "kind": "data",
            "where": "x.png",
            "message": "no image",
            "hint": "see --help",
        },
    }


def test_several_problems_stand_in_one_error() -> None:
    error = ConfigError([Problem("a.yaml:1:1", "one", "fix it"), Problem("a.yaml:2:1", "two")])
    answer = json.loads(ErrorResult(error=describe_error(error)).model_dump_json())
    assert answer["error"]["message"] == "one"
    assert answer["error"]["problems"] == [
        {"where": "a.yaml:1:1", "message": "one", "hint": "fix it"},
        {"where": "a.yaml:2:1", "message": "two", "hint": ""},
    ]


def test_csv_quotes_what_needs_it() -> None:
    row = Prediction(
        source='a,"b".png', row=None, class_index=1, label="1", probability=0.75,
        probabilities=(0.25, 0.75), truth=None, true_label=None, preparation=None,
    )  # fmt: skip
    assert format_csv(
        PredictResult(predictions=(row,), class_names=("0", "1"), added_activation=None)
    ) == (
        "source,row,class,label,probability,truth,true_label,p_0,p_1,error\n"
        '"a,""b"".png",,1,1,0.75,,,0.25,0.75,'
    )


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(0, 1) | st.just(float("nan"))


@settings(deadline=None)
@given(
    sources=st.lists(names, max_size=4),
    labels=st.lists(names, min_size=1, max_size=3),
    row=st.none() | st.integers(0, 10**6),
    data=st.data(),
)
def test_csv_gives_back_what_went_in(
    sources: list[str], labels: list[str], row: int | None, data: st.DataObject
) -> None:
    count = len(labels)
    predictions = [
        Prediction(
            source=source,
            row=row,
            class_index=0,
            label=labels[0],
            probability=values[0],
            probabilities=tuple(values),
            truth=row,
            true_label=labels[-1],
            preparation=None,
        )
        for source in sources
        for values in [data.draw(st.lists(numbers, min_size=count, max_size=count))]
    ]
    result = PredictResult(
        predictions=tuple(predictions), class_names=tuple(labels), added_activation=None
    )
    header, *lines = csv.reader(io.StringIO(format_csv(result), newline=""))
    facts = ["source", "row", "class", "label", "probability", "truth", "true_label"]
    assert header == [*facts, *(f"p_{label}" for label in labels), "error"]
    place = "" if row is None else str(row)
    assert lines == [
        [
            p.source,
            place,
            "0",
            p.label,
            str(p.probability),
            place,
            labels[-1],
            *map(str, p.probabilities or ()),
            "",
        ]
        for p in predictions
    ]


@pytest.mark.parametrize(
    ("progress", "phrase"),
    [
        ((5, 1557, 600, 1875), "in epoch 6 of 600 (step 1,557 of 1,875)"),
        ((0, 1, 1, None), "in epoch 1 of 1 (step 1)"),
        ((4, 0, 9, 10), "after 4 of 9 epochs"),
        ((0, 0, 1, 10), "after 0 of 1 epoch"),
    ],
)
def test_how_far_a_run_has_come_is_said_in_plain_words(
    progress: tuple[int, int, int, int | None], phrase: str
) -> None:
    assert describe_progress(*progress) == phrase


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "image", "1 image"), (0, "image", "0 images"), (2000, "class", "2,000 classes"),
        (3, "entry", "3 entries"), (2, "array", "2 arrays"), (2, "box", "2 boxes"),
        (2, "batch", "2 batches"),
    ],
)  # fmt: skip
def test_one_thing_is_not_several(number: int, noun: str, text: str) -> None:
    assert pluralize(number, noun) == text


def test_one_image_is_not_several_wherever_it_is_counted(run: Run, tmp_path: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "train" / split / name
            folder.mkdir(parents=True)
            for number in range(count if name == "cat" else count + 1):
                Image.fromarray(np.full((8, 8), 9 * number, np.uint8)).save(
                    folder / f"{number}.png"
                )
    words = ("train", "mnist-mlp", "--data", "train", "--hidden", 4, "--epochs", 1, "-o", "m.h5")
    trained = run(*words, "--progress", "lines")
    assert trained.code == 0, trained.err
    assert "preparing train split of train\n" in trained.err
    predicted = run("predict", "m.h5", "--index", 3)
    assert predicted.err.endswith("beyond the last of 3 images. Give 0 to 2\n")
    planned = run(*words, "--overwrite", "--dry-run")
    assert "would train 1 epoch of 5 images in batches" in planned.err
    shutil.rmtree(tmp_path / "train/test/dog")
    shutil.rmtree(tmp_path / "train/train/dog")
    assert "train/train: 1 class, where 2 to 256 can be told apart" in run(*words[:-2]).err
