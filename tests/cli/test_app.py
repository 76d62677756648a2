"""Wrong command lines: error messages, exit codes and JSON errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Run, Train
from helpers.checkpoints import write_dense
from mnistcli import __version__


def test_a_lone_program_name_shows_help_but_is_no_answer(run: Run) -> None:
    ended = run()
    assert ended.code == 2
    assert ended.out == ""
    assert "Usage: mnistcli [OPTIONS] COMMAND" in ended.err
    for command in ("train", "evaluate", "predict", "summary"):
        assert f" {command} " in ended.err


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_an_answer(run: Run, flag: str) -> None:
    ended = run(flag)
    assert (ended.code, ended.err) == (0, "")
    assert "Usage: mnistcli [OPTIONS] COMMAND" in ended.out
    for command in ("train", "evaluate", "predict", "summary"):
        ended = run(command, flag)
        assert (ended.code, ended.err) == (0, "")
        assert f"Usage: mnistcli {command}" in ended.out
        assert f"mnistcli {command} " in ended.out.split("Examples:")[1]


def test_version(run: Run) -> None:
    ended = run("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"mnistcli {__version__}\n", "")


def test_a_config_tells_all_its_problems_with_their_places(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("training:\n  epochs: no\n  optimzer: adam\n")
    ended = run("train", "my.yaml", "--seed", -1)
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "mnistcli: error: my.yaml:2:11: training.epochs: expected a whole number from 1 to"
        " 1000000, received 'no'",
        "mnistcli: error: my.yaml:3:3: training.optimzer: unknown key. Did you mean optimizer?",
        "mnistcli: error: --seed: training.seed: expected a whole number from 0 to 4294967295,"
        " received -1",
    ]
    problems = run("train", "my.yaml", "--seed", -1, "--json").json["error"]["problems"]
    assert [problem["where"] for problem in problems] == ["my.yaml:2:11", "my.yaml:3:3", "--seed"]


def test_a_damaged_checkpoint_is_named_and_kept(run: Run, train_once: Train) -> None:
    model = train_once("--epochs", 1)
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    for words in (["evaluate"], ["predict", "--first", 1], ["summary"], ["train", "--resume"]):
        ended = run(*words, model)
        assert ended.code == 5, words
        assert re.fullmatch(r"mnistcli: error: model\.h5: .*damaged.*\n", ended.err), ended.err
        assert ended.out == ""
    assert model.read_bytes() == data


def test_debug_shows_the_traceback_above_the_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNISTCLI_DEBUG", "0")
    ended = run("summary", "no.h5", "--debug")
    assert ended.code == 5
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert ended.err.endswith("mnistcli: error: no.h5: no such checkpoint"
                              f" in {Path.cwd()}."
                              " Give a .h5 file that mnistcli or Keras saved\n")  # fmt: skip


def test_a_bug_of_ours_is_owned_up_to(environment: dict[str, str]) -> None:
    program = (
        "from mnistcli.cli import app; from mnistcli.commands import summary;"
        "summary.summarize = lambda *_, **__: 1 / 0;"
        "app.main(['summary', 'xor', '--json'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == (
        "mnistcli: error: internal: ZeroDivisionError: division by zero."
        " This is a bug in mnistcli: --debug shows where\n"
    )
    assert ended.stdout == (
        '{"version":1,"error":{"code":1,"kind":"internal","where":"internal",'
        '"message":"ZeroDivisionError: division by zero",'
        '"hint":"this is a bug in mnistcli: --debug shows where"}}\n'
    )


def test_memory_that_runs_out_is_the_environments_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mnistcli.commands.summary.summarize", exhaust)
    ended = run("summary", "xor")
    assert (ended.code, ended.err) == (
        7,
        "mnistcli: error: memory: there is not enough of it."
        " Use a smaller network, batch or data set\n",
    )


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_computed(
    run: Run, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("nothing is closed to this user")
    ended = run("train", "-o", "closed/m.h5")
    assert (ended.code, ended.err) == (
        7,
        f"mnistcli: error: {closed}: this folder is not writable. Choose another place with -o\n",
    )


@pytest.mark.parametrize(
    ("words", "pipe"),
    [
        ("train xor -o m.h5", "m.h5"),
        ("train --validation 0.2 -o m.h5", "m.best.h5"),
        ("report m.h5 -o page.html", "page.html"),
        ("plot weights m.h5 -o weights.svg", "weights.svg"),
        ("recipes copy xor x.yaml", "x.yaml"),
    ],
)
def test_overwrite_replaces_nothing_but_regular_files(run: Run, words: str, pipe: str) -> None:
    if words.split(maxsplit=1)[0] in ("report", "plot"):
        write_dense(Path("m.h5"))
    os.mkfifo(pipe)
    for flags in ((), ("--overwrite",)):
        ended = run(*words.split(), *flags)
        assert ended.code == 2
        assert f"{pipe} is not a regular file, which alone is replaced. Choose" in ended.err
    assert Path(pipe).is_fifo()


def test_ten_thousand_mistakes_are_told_in_a_hundred_lines(run: Run) -> None:
    Path("many.yaml").write_text("".join(f"epochs{k}: 1\n" for k in range(9990)))
    before = time.process_time()
    ended = run("train", "many.yaml")
    assert time.process_time() - before < 3
    lines = ended.err.splitlines()
    assert (ended.code, len(lines)) == (2, 101)
    assert lines[0] == (
        "mnistcli: error: many.yaml:1:1: epochs0: unknown key. Did you mean training.epochs?"
    )
    assert lines[-1] == "mnistcli: error: 9,890 further problems. Mend these first"
    assert len(run("train", "many.yaml", "--json").json["error"]["problems"]) == 101


def test_ctrl_c_while_a_command_prepares_ends_it_by_the_signal(
    environment: dict[str, str],
) -> None:
    program = (
        "from mnistcli.cli import app\n"
        "from mnistcli.commands import summary\n"
        "def interrupt(*_, **__): raise KeyboardInterrupt\n"
        "summary.summarize = interrupt\n"
        "app.main(['summary', 'xor'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (-2, "", "")
