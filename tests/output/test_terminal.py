"""Every command on terminals and pipes: stdout holds the result and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Ended, Run, Train, make_digits
from helpers.checkpoints import make_run
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.output.progress import DownloadDisplay
from mnistcli.output.terminal import ProgressMode, choose_progress

TRAINED = r"test accuracy \d\.\d{4}, loss \d+\.\d{4}\n"
EPOCH_LINE = re.compile(r"^epoch \d+/2  loss ", re.MULTILINE)

Streams = Callable[..., Ended]


@contextmanager
def open_terminal(seen: list[bytes]) -> Iterator[int]:
    """A terminal that another process can write on, and what it wrote."""
    ours, theirs = pty.openpty()

    def drain() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux says that its last process is gone
                return
            if not data:
                return
            seen.append(data)

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        reader.join(timeout=60)
        os.close(ours)


@pytest.fixture
def streams(environment: dict[str, str]) -> Streams:
    """Runs a command with stdout on a pipe and stderr on a terminal, or both as they are named."""

    def run_process(
        *words: object, out: str = "pipe", err: str = "terminal", columns: int = 200
    ) -> Ended:
        seen: dict[str, list[bytes]] = {"out": [], "err": []}
        with open_terminal(seen["out"]) as out_end, open_terminal(seen["err"]) as err_end:
            ended = subprocess.run(
                [sys.executable, "-m", "mnistcli", *map(str, words)],
                env={**environment, "TERM": "xterm-256color", "COLUMNS": str(columns)},
                stdin=subprocess.DEVNULL,
                stdout=out_end if out == "terminal" else subprocess.PIPE,
                stderr=err_end if err == "terminal" else subprocess.PIPE,
                timeout=120,
                check=False,
            )
        texts: dict[str, Any] = {
            "out": b"".join(seen["out"]) or ended.stdout or b"",
            "err": b"".join(seen["err"]) or ended.stderr or b"",
        }
        return Ended(
            ended.returncode,
            *(texts[name].decode().replace("\r\n", "\n") for name in ("out", "err")),
        )

    return run_process


@pytest.fixture
def things(run: Run, train_once: Train) -> None:
    """What the commands below work on."""
    train_once("--epochs", 2, name="a.h5")
    Path("bad.h5").write_text("no checkpoint")
    paper = 255 - make_digits(10, seed=2).images[0]
    Image.fromarray(paper).save("paper.png")
    np.save("rows.npy", make_digits(10, seed=2).images)


def unstyle(text: str) -> str:
    """Without styles, and without what differs from one moment to the next."""
    return re.sub(r'\x1b\[[0-9;]*m|(?<="available_memory":)\d+', "", text)


QUICK = [
    "--version",
    "--help",
    "train --dry-run",
    "evaluate a.h5",
    "evaluate a.h5 a.h5",
    "evaluate a.h5 --json",
    "evaluate a.h5 --csv",
    "evaluate a.h5 --fail-under accuracy=1",
    "predict a.h5 paper.png --json",
    "predict a.h5 rows.npy --csv",
    "predict a.h5 --first 2 --jsonl",
    "summary a.h5",
    "ls",
    "ls --json",
    "ls --csv",
    "doctor a.h5 --json",
    "report a.h5 --overwrite",
    "report a.h5 --overwrite --json",
    "summary bad.h5 --json",
]


@pytest.mark.parametrize("words", QUICK)
@pytest.mark.usefixtures("things")
def test_terminals_change_nothing_of_the_answer(streams: Streams, words: str) -> None:
    piped = streams(*words.split())
    shown = streams(*words.split(), out="terminal", err="pipe")
    assert piped.code == shown.code
    assert not re.search(r"\x1b|warning: |error: ", piped.out)
    if words != "--help":  # whose boxes are as wide as the terminal
        padded = unstyle(shown.out).splitlines()
        assert [line.rstrip() for line in padded] == unstyle(piped.out).splitlines()
    if "json" in words:
        assert json.loads(piped.out.splitlines()[-1])["version"] == 1


@pytest.mark.parametrize(
    ("flags", "out", "has_lines", "has_bar"),
    [
        ("-q", r"a\.h5\n", False, False),
        ("--json", r"\{.*\}\n", False, True),
        ("--jsonl --progress lines", r"(\{.*\}\n){3}", True, False),
    ],
)
def test_progress_is_shown_as_asked_and_stdout_holds_the_answer(
    streams: Streams, flags: str, out: str, has_lines: bool, has_bar: bool
) -> None:
    ended = streams("train", "--epochs", 2, "-o", "a.h5", *flags.split())
    assert ended.code == 0
    assert re.fullmatch(out, ended.out)
    assert bool(EPOCH_LINE.search(ended.err)) == has_lines
    assert ("━" in ended.err) == has_bar
    if flags == "-q":
        assert [line for line in ended.err.splitlines() if "warning: " not in line] == []


def test_a_bar_can_be_had_where_there_is_no_terminal(streams: Streams) -> None:
    ended = streams("train", "--epochs", 2, "-o", "a.h5", "--progress", "bar", err="pipe")
    assert re.fullmatch(TRAINED, ended.out)
    assert "━" in ended.err


@pytest.mark.usefixtures("things")
def test_a_reproduction_keeps_its_progress_off_stdout(streams: Streams) -> None:
    ended = streams("reproduce", "a.h5", "--progress", "lines")
    assert re.fullmatch(r"a\.h5, 2 epochs: same bits in all \d+ arrays\n", ended.out)
    assert EPOCH_LINE.search(ended.err)


@pytest.mark.parametrize(
    ("asked", "silent", "dumb", "shown"),
    [
        ("auto", False, "0", "bar"),
        ("auto", False, "1", "lines"),
        ("auto", True, "0", "none"),
        ("lines", True, "0", "lines"),
        ("none", False, "0", "none"),
        ("bar", True, "1", "bar"),
    ],
)
def test_what_was_asked_for_wins(
    monkeypatch: pytest.MonkeyPatch, asked: ProgressMode, silent: bool, dumb: str, shown: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb" if dumb == "1" else "xterm")
    assert choose_progress(asked, silent=silent) == shown


def test_downloads_are_shown_like_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    for progress, expected in (("none", ""), ("lines", "downloading x.gz (5 MB)\n")):
        display = DownloadDisplay(progress)
        display.show("x.gz", 0, 5_000_000)
        display.show("x.gz", 9, 5_000_000)
        display.close()
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", expected)


BAD = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\x7f\nmnistcli: done"


@pytest.fixture
def hostile(run: Run, digits_directory: Path) -> str:
    """A checkpoint with a valid checksum whose name and record would control the terminal."""
    state, record = make_run()
    environment = record.environment.model_copy(
        update={"versions": {BAD: BAD, "keras": "9" * 300_000}, "processor": BAD}
    )
    dataset = dataclasses.replace(record.dataset, known_as=BAD, location=BAD)
    changed = {"environment": environment, "dataset": dataset}
    replace_checkpoint(Path(f"{BAD}.h5"), state, record.model_copy(update=changed))
    Path(BAD).mkdir()
    shutil.copy(digits_directory / "mnist.npz", BAD)
    Image.fromarray(255 - make_digits(10, seed=2).images[0]).save(f"{BAD}.png")
    Path(f"{BAD}.yaml").write_text("training:\n  epchs: 1\n")
    return f"{BAD}.h5"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("summary MODEL", 0),
        ("doctor MODEL", 0),
        ("ls", 0),
        ("evaluate MODEL", 0),
        ("evaluate MODEL MODEL --data-dir BAD", 0),
        ("compare MODEL MODEL", 0),
        ("predict MODEL BAD.png", 0),
        ("predict MODEL BAD.png --show", 0),
        ("plot curves MODEL --show", 0),
        ("plot confusion MODEL -o BAD.svg", 0),
        ("report MODEL -o BAD.html", 0),
        ("data mnist --data-dir BAD", 0),
        ("recipes copy xor BAD-copy.yaml", 0),
        ("train BAD.yaml", 2),
        ("evaluate no-BAD", 5),
        ("predict MODEL no-BAD.png", 4),
        ("train --dry-run --data-dir BAD -o no-BAD/x.h5", 7),
    ],
)
def test_no_text_of_a_file_controls_the_terminal_or_fills_it(
    run: Run, hostile: str, words: str, code: int
) -> None:
    typed = [w.replace("MODEL", hostile).replace("BAD", BAD) for w in words.split()]
    ended = run(*typed)
    text = ended.out + ended.err
    assert ended.code == code, ended.err
    assert [line for line in text.split("\n") if not line.isprintable()] == []
    assert [line for line in text.split("\n") if line.startswith("mnistcli: done")] == []
    assert "\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202e\\x7f" in text
    assert len(text) < 60_000


def test_json_keeps_a_name_exactly_and_the_terminal_in_order(run: Run, hostile: str) -> None:
    ended = run("evaluate", hostile, "--json")
    assert ended.json["results"][0]["checkpoint"] == hostile
    assert ended.out.removesuffix("\n").isprintable()
    assert run("evaluate", hostile, "--csv").out.count(BAD) == 1  # exact for scripts
    assert run("evaluate", "no-" + BAD, "--json").json["error"]["where"] == "no-" + BAD


def test_names_that_are_not_utf_8_end_no_command(
    run: Run, train_once: Train, digits_directory: Path
) -> None:
    folder = os.fsdecode(b"\xff")
    Path(folder).mkdir()
    model = train_once("--epochs", 1).rename(Path(folder) / "m.h5")
    Image.fromarray(255 - make_digits(10, seed=2).images[0]).save(Path(folder) / "digit.png")
    shutil.copy(digits_directory / "mnist.npz", folder)
    for words in (
        ("evaluate", model, "--data-dir", folder),
        ("evaluate", model, "--csv"),
        ("doctor", model, "--data-dir", folder, "--json"),
        ("predict", model, f"{folder}/digit.png", "--json"),
        ("report", model, "-o", f"{folder}/page.html"),
        ("data", "mnist", "--data-dir", folder, "--json"),
        ("recipes", "copy", "xor", f"{folder}/xor.yaml"),
    ):
        ended = run(*words)
        assert ended.code == 0, (words, ended.err)
        assert r"\udcff" in ended.out + ended.err, words
    ended = run("evaluate", model, "--data", folder)
    assert (ended.code, "its name is no UTF-8 text. Rename it" in ended.err) == (4, True)


def test_an_unknown_way_to_show_progress(run: Run) -> None:
    ended = run("train", "--progress", "line")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --progress: unknown name 'line'. Did you mean lines?\n",
    )


@pytest.mark.usefixtures("things")
def test_a_narrow_terminal_gets_fewer_columns_and_is_told(streams: Streams) -> None:
    wide = streams("ls", out="terminal", err="pipe")
    narrow = streams("ls", out="terminal", err="pipe", columns=62)
    tiny = streams("ls", out="terminal", err="pipe", columns=10)
    piped = streams("ls", err="pipe", columns=62)
    assert wide.err == ""
    assert piped.out == unstyle(wide.out)
    assert piped.err == ""
    assert narrow.out.splitlines()[0] == (
        "\x1b[1m checkpoint   model     epochs   last.accuracy   test.accuracy\x1b[0m"
    )
    assert max(len(unstyle(line)) for line in narrow.out.splitlines()[:3]) == 62
    assert narrow.err == (
        "no room for saved, seconds.total, best.accuracy, dataset: widen the terminal, or see"
        " --csv\n"
    )
    assert unstyle(tiny.out).splitlines()[0] == " checkpoint   test.accuracy"
    assert " bad.h5   is a text file, not an HDF5 file" in tiny.out


def test_a_command_may_go_on_without_a_reader_and_still_ends_as_one_that_lost_it() -> None:
    program = (
        "import sys; from mnistcli.output.terminal import ignore_broken_pipe, print_line\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    with ignore_broken_pipe():\n"
        "        print_line('one'); print_line('two'); sys.stderr.write('went on')\n"
        "except BrokenPipeError:\n"
        "    sys.exit(9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert (process.returncode, err) == (9, "went on")
