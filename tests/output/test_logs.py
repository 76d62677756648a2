"""The log: its levels, its destinations, and that it never ends a run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import Run, Train
from mnistcli.output.logs import (
    announce,
    close_log,
    collect_warnings,
    note,
    open_log,
    suppress_notes,
    warn,
)

SMALL = ("--batch-size", 100, "--epochs", 2)
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} \[\d+\]"


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an import of TensorFlow in this process leaves behind is not for others."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def read_messages(path: str) -> list[str]:
    """A log's lines without their times and process ids: `LEVEL module: message`."""
    lines = Path(path).read_text().splitlines()
    assert [line for line in lines if not re.match(f"{STAMP} [A-Z]+ mnistcli", line)] == []
    return [re.sub(f"^{STAMP} ", "", line) for line in lines]


def find(pattern: str, lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(pattern, line)]


@pytest.mark.parametrize("before", [True, False])
def test_the_flags_stand_before_the_command_or_behind_it(run: Run, before: bool) -> None:
    flags, command = ("--log-level", "info"), ("summary", "xor")
    ended = run(*flags, *command) if before else run(*command, *flags)
    assert ended.code == 0
    assert re.fullmatch(r"mnistcli: info: mnistcli \S+: .*summary xor.*\n", ended.err)


def test_nothing_is_logged_unless_asked_for(run: Run) -> None:
    assert run("summary", "xor").err == ""
    assert run("summary", "xor", "--log-level", "warning").err == ""


def test_a_runs_log_tells_what_it_was_and_what_it_did(run: Run, digits_directory: Path) -> None:
    ended = run("train", *SMALL, "-o", "m.h5", "--log-file", "run.log")
    assert ended.code == 0
    assert "mnistcli: info" not in ended.err
    lines = read_messages("run.log")
    assert [line.split()[0] for line in lines].count("DEBUG") == 0
    for pattern in (
        r"^INFO .*: mnistcli \S+: train --batch-size 100 --epochs 2 -o m.h5 --log-file run.log$",
        rf"^INFO .*: data: MNIST, unknown contents, 1050 train and 200 test, from"
        rf" {digits_directory}/mnist\.npz, sha256 [0-9a-f]{{64}}$",
        r"^WARNING .*is not canonical MNIST",
        r'^INFO .*: config: \{"dataset":.*"batch_size":100,',
        r"^INFO .*: memory: needs about .*; available: ",
        r'^INFO .*: environment: \{"versions":\{.*"threads":\d+',
        r"^INFO .*: compiled the epoch in \d+\.\d\d s, for batches of \[100, 50\]$",
        r"^INFO .*: wrote m\.h5 after epoch 0 and 0 steps, in \d\.\d{3} s$",
        r"^INFO .*: epoch 1: loss \d\.\d{4}  accuracy \d\.\d{4}, \d+\.\d{3} s$",
        r"^INFO .*: saved m\.h5$",
    ):
        assert len(find(pattern, lines)) == 1, pattern


def test_a_resumed_run_says_where_it_goes_on(run: Run, train_once: Train) -> None:
    model = train_once(*SMALL)
    assert run("train", "--resume", model, "--more", 1, "-q", "--log-file", "run.log").code == 0
    lines = read_messages("run.log")
    assert find("resumes model.h5 after epoch 2 and 0 steps, up to epoch 3$", lines)
    assert find("differences to where it was made: none$", lines)


def test_debug_tells_where_data_were_looked_for_and_how_a_checkpoint_was_read(
    run: Run, train_once: Train, digits_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train_once(*SMALL)
    Path("empty").mkdir()
    monkeypatch.setenv("MNISTCLI_DATA_DIR", "empty")
    Path("keras").mkdir()
    Path("keras/datasets").symlink_to(digits_directory)
    monkeypatch.setenv("KERAS_HOME", "keras")
    words = ("evaluate", model, "-q")
    ended = run(*words, "--log-level", "debug")
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert "mnistcli: debug: MNIST: not in empty" in lines
    assert find(r"^mnistcli: debug: MNIST: found .*mnist\.npz$", lines)
    assert find(r"^mnistcli: debug: process \d+ read model\.h5 \(weights arrays\) and ended", lines)
    assert find(r"^mnistcli: debug: data: x_test has sha256 [0-9a-f]{64}$", lines)
    assert "debug" not in run(*words, "--log-level", "info").err


def test_a_refused_file_leaves_its_reason_and_a_traceback(run: Run) -> None:
    Path("no.h5").write_bytes(b"no checkpoint")
    ended = run("summary", "no.h5", "--log-file", "run.log", "--log-level", "debug")
    assert ended.code == 5
    assert len(ended.err.splitlines()) == 1
    text = Path("run.log").read_text()
    assert "INFO mnistcli.checkpoints.untrusted.sandbox: refused no.h5: " in text
    error = ended.err.removeprefix("mnistcli: error: ")
    assert f"ERROR mnistcli.output.logs: {error}" in text
    assert "\nTraceback (most recent call last):\n" in text


def test_what_tensorflow_prints_is_in_the_log_at_debug_only(spawn: Run, run: Run) -> None:
    words = ("train", "xor", "--epochs", 1, "-q", "--overwrite", "-o", "m.h5")
    ended = spawn(*words, "--log-level", "debug", "--log-file", "debug.log")
    assert (ended.code, ended.out, ended.err) == (0, "m.h5\n", "")
    assert "Compiled cluster using XLA" in Path("debug.log").read_text()
    ended = spawn(*words, "--log-level", "info", "--log-file", "info.log")
    assert (ended.code, ended.err) == (0, "")
    read_messages("info.log")  # which are all ours


def test_warnings_can_be_silenced_and_errors_cannot(run: Run) -> None:
    words = ("train", *SMALL, "-q", "-o", "m.h5", "--log-level", "error")
    ended = run(*words)
    assert (ended.code, ended.err) == (0, "")
    ended = run(*words)
    assert ended.code == 2
    assert ended.err.startswith("mnistcli: error: --output: m.h5 exists.")


def test_commands_append_to_the_same_file(run: Run) -> None:
    for _ in range(2):
        assert run("summary", "xor", "--log-file", "run.log").code == 0
    assert len(read_messages("run.log")) == 2


def test_a_message_is_one_line_whatever_a_file_is_called(run: Run) -> None:
    run("summary", "a\nb.h5", "--log-file", "run.log")
    command, error = read_messages("run.log")
    assert r"a\nb.h5" in command
    assert "a b.h5: no such checkpoint" in error


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("--log-file", "."), 7,
         "--log-file: . cannot be written: Is a directory. Name another file with --log-file"),
        (("--log-file", "no/run.log"), 7,
         "--log-file: no/run.log cannot be written: No such file or directory."
         " Name another file with --log-file"),
        (("--log-file", "data.bin"), 2,
         "--log-file: data.bin is no text that a log could go on with."
         " Name another file with --log-file"),
        (("--log-level", "inf"), 2, "--log-level: unknown name 'inf'. Did you mean info?"),
    ],
)  # fmt: skip
def test_a_log_that_cannot_be_is_refused_before_anything_else_happens(
    run: Run, words: tuple[str, ...], code: int, line: str
) -> None:
    Path("data.bin").write_bytes(b"\x89HDF\0")
    ended = run("train", "no such recipe", *words)
    assert (ended.code, ended.out, ended.err) == (code, "", f"mnistcli: error: {line}\n")
    assert run("train", *words, "--json").json["error"]["code"] == code
    assert Path("data.bin").read_bytes() == b"\x89HDF\0"


def test_the_same_flag_on_both_sides_of_the_command_is_refused(run: Run) -> None:
    ended = run("--log-level", "info", "summary", "xor", "--log-level", "debug")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --log-level: given before the command and behind it. Give it once\n",
    )


def test_a_misspelt_command_behind_them_is_still_explained(run: Run) -> None:
    ended = run("--log-level", "info", "--log-file=run.log", "summry", "xor")
    assert ended.err == "mnistcli: error: summry: no such command. Did you mean summary?\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_ends_the_log_and_not_the_command(run: Run) -> None:
    ended = run("summary", "xor", "--log-file", "/dev/full")
    assert ended.code == 0
    assert ended.err == (
        "mnistcli: warning: /dev/full: No space left on device: the log ends here\n"
    )


@contextmanager
def opened_log(
    level: str | None = None, path: Path | None = None, *, shows_notes: bool = True
) -> Iterator[None]:
    open_log(level, path, shows_notes=shows_notes)
    try:
        yield
    finally:
        close_log()


def test_notes_can_be_silenced_and_warnings_come_once(capsys: pytest.CaptureFixture[str]) -> None:
    with opened_log():
        note("a note")
        with suppress_notes():
            note("not said")
    with opened_log(shows_notes=False):
        note("nor this")
        announce("stopped")
        for _ in range(2):
            warn("look")
    with opened_log("error"):
        note("another")
        warn("hidden")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "a note\nstopped\nmnistcli: warning: look\nanother\n"


def test_a_file_has_notes_and_warnings_that_stderr_had(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "run.log"
    with opened_log(None, path):
        note("a note")
        warn("look\nhere")
        warn("look\nhere")
    assert capsys.readouterr().err == "a note\nmnistcli: warning: look\\nhere\n"
    assert read_messages(str(path)) == [
        "INFO mnistcli.output.logs: a note",
        "WARNING mnistcli.output.logs: look\\nhere",
    ]


def test_warnings_can_be_collected_while_they_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with opened_log(), collect_warnings() as collected:
        note("a note")
        warn("look")
        warn("look")
    assert collected == ["look"]
    assert capsys.readouterr().err == "a note\nmnistcli: warning: look\n"


def test_without_a_command_line_warnings_are_shown_and_notes_are_not() -> None:
    program = "from mnistcli.output.logs import note, warn; note('a note'); warn('look')"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (ended.stdout, ended.stderr) == ("", "look\n")
