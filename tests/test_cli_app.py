"""How a command line can be wrong, and what the user and the script behind it then see."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Run, Train
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


CONFIG_LIST = (
    "mnist-softmax, cifar10-mlp, mnist-gradient-tape, mnist-mlp, mnist-softmax-adam,"
    " mnist-softmax-b100, mnist-softmax-b2048, mnist-softmax-sgd5, xor"
)
AT_LEAST_1 = "input should be greater than or equal to 1. See mnistcli"
NO_CHECKPOINT = "no such checkpoint. Give a .h5 file that mnistcli or Keras saved"

# words, exit code, the line after `mnistcli: error: `
FAILURES = [
    # commands and flags
    ("trian", 2, "trian: no such command. Did you mean train?"),
    ("xyz", 2, "xyz: no such command. Choose one of train, evaluate, predict, summary"),
    ("--verson", 2, "--verson: no such flag. Did you mean --version?"),
    ("train --epohcs 3", 2, "--epohcs: no such flag. Did you mean --epochs?"),
    ("train --bogus", 2, "--bogus: no such flag. See mnistcli train --help"),
    ("train --epochs", 2, "--epochs: requires an argument. See mnistcli train --help"),
    (
        "train a b", 2,
        "mnistcli train: got unexpected extra argument(s) (b). See mnistcli train --help",
    ),
    ("evaluate", 2, "MODEL.h5…: missing. See mnistcli evaluate --help"),
    ("predict", 2, "MODEL.h5: missing. See mnistcli predict --help"),
    ("summary", 2, "MODEL.h5|CONFIG: missing. See mnistcli summary --help"),
    ("summary xor --weights=1", 2, "--weights: does not take a value. See mnistcli summary --help"),
    ("predict m.h5 --first 0", 2, f"--first: {AT_LEAST_1} predict --help"),
    ("predict m.h5 --top 0", 2, f"--top: {AT_LEAST_1} predict --help"),
    ("train --resume m.h5 --more 0", 2, f"--more: {AT_LEAST_1} train --help"),
    (
        "predict m.h5 --index x", 2,
        "--index: input should be a valid integer, unable to parse string as an integer."
        " See mnistcli predict --help",
    ),
    # configs
    (
        "train nope", 2,
        f"nope: no such file or recipe. Give a YAML file, or one of the recipes {CONFIG_LIST}",
    ),
    ("train mnist-softmx", 2, "mnist-softmx: no such file or recipe. Did you mean mnist-softmax?"),
    ("summary .", 2, ".: is a folder. Give the path of a YAML file in it"),
    (
        "train --epochs 0", 2,
        "--epochs: training.epochs: expected a whole number from 1 to 1000000, received 0",
    ),
    (
        "train --batch-size true", 2,
        "--batch-size: training.batch_size: expected a whole number from 1 to 1000000,"
        " received true",
    ),
    (
        "train --epochs 3 --set training.epochs=2", 2,
        "--set: training.epochs: already given by --epochs. Give it once",
    ),
    (
        "train --set epochs", 2,
        "--set: 'epochs' is no key=value. Write --set training.epochs=10 for example",
    ),
    # train
    (
        "train -o model", 2,
        "--output: model does not end in .h5. Write -o model.h5",
    ),
    ("train -o folder.h5", 2, "--output: folder.h5 is a folder. Write -o folder.h5/model.h5"),
    ("train -o taken.h5", 2, "--output: taken.h5 exists. Choose another name, or give --overwrite"),
    (
        "train -o run.h5 --validation 0.2", 2,
        "--output: run.best.h5 exists. Choose another name, or give --overwrite",
    ),
    ("train -o no/m.h5", 7, "no: this folder does not exist. Make it: mkdir -p no"),
    ("train -o a'&'b/m.h5", 7, "a&b: this folder does not exist. Make it: mkdir -p 'a&b'"),
    ("train --more 3", 2, "--more: it adds epochs to a run. Name the run: --resume FILE.h5"),
    ("train --resume no.h5", 5, f"no.h5: {NO_CHECKPOINT}"),
    ("train --init-from no.h5", 5, f"no.h5: {NO_CHECKPOINT}"),
    (
        "train --data-dir nowhere", 4,
        "--data-dir: nowhere does not exist. Correct the path, or create the folder with"
        " `mkdir -p nowhere`",
    ),
    # evaluate, predict, summary
    ("evaluate no.h5", 5, f"no.h5: {NO_CHECKPOINT}"),
    ("predict no.h5 a.png", 5, f"no.h5: {NO_CHECKPOINT}"),
    ("summary no.h5", 5, f"no.h5: {NO_CHECKPOINT}"),
    (
        "evaluate no.h5 --fail-under speed=1", 2,
        "--fail-under: unknown metric 'speed'. Write accuracy=0.9 or loss=0.5",
    ),
    (
        "evaluate no.h5 --fail-under accuracy=good", 2,
        "--fail-under: 'good' is not a number. Write accuracy=0.9 or loss=0.5",
    ),
    (
        "evaluate no.h5 --fail-under accuracy=90", 2,
        "--fail-under: 90 is out of range. An accuracy lies between 0 and 1",
    ),
    (
        "summary xor --weights", 2,
        "--weights: xor is a config and has no weights yet."
        " Give a checkpoint: mnistcli summary MODEL.h5 --weights",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "message"), FAILURES, ids=[row[0] for row in FAILURES])
def test_every_failure_is_one_line_and_writes_nothing(
    run: Run, tmp_path: Path, line: str, code: int, message: str
) -> None:
    (tmp_path / "folder.h5").mkdir()
    for name in ("taken.h5", "run.best.h5"):
        (tmp_path / name).write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))

    first, *others = shlex.split(line)
    ended = run(first, *others)
    assert (ended.code, ended.out, ended.err) == (code, "", f"mnistcli: error: {message}\n")

    flags = ["--json", *others] if first.isalpha() else [*others, "--json"]
    answered = run(first, *flags)
    error = answered.json["error"]
    assert answered.code == error["code"] == code
    assert set(answered.json) == {"version", "error"}
    assert set(error) == {"code", "kind", "where", "message", "hint"}
    assert message.startswith(f"{error['where']}: {error['message']}")

    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.h5").read_bytes() == b"precious"


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
    assert ended.err.endswith("mnistcli: error: no.h5: no such checkpoint."
                              " Give a .h5 file that mnistcli or Keras saved\n")  # fmt: skip


def test_a_bug_of_ours_is_owned_up_to(environment: dict[str, str]) -> None:
    program = (
        "from mnistcli.cli import app, summary;"
        "summary._summarize_config = lambda *_: 1 / 0;"
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
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mnistcli.cli.summary._summarize_config", exhaust)
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


def test_ctrl_c_while_a_command_prepares_ends_it_by_the_signal(
    environment: dict[str, str],
) -> None:
    program = (
        "from mnistcli.cli import app, summary\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "summary._summarize_config = interrupt\n"
        "app.main(['summary', 'xor'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (-2, "", "")
