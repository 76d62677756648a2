"""Shell completion: candidates for a command line, and completion in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest
import typer.main

from conftest import Run
from mnistcli.cli.app import app
from mnistcli.cli.completion import complete_line
from mnistcli.config.allowed_values import get_tags
from mnistcli.config.field_info import list_keys
from mnistcli.config.recipes import list_recipes
from mnistcli.config.schema import CLASS_COUNTS, Activation, Optimizer

RECIPES = [recipe.name for recipe in list_recipes()]
DATA_SETS = list(CLASS_COUNTS)
ACTIVATIONS = typing.get_args(Activation)
OPTIMIZERS = get_tags(Optimizer, "name")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands, with files of every kind."""
    folder = tmp_path / "here"
    (folder / "runs").mkdir(parents=True)
    for name in ("mlp.h5", "my.yaml", "two.png", "notes.txt", ".hidden.h5", "runs/a b.h5"):
        (folder / name).touch()
    monkeypatch.chdir(folder)
    return folder


def complete(line: str) -> list[str]:
    return [word for word, _ in complete_line(typer.main.get_command(app), line)]


COMMANDS = list(typer.main.get_command(app).commands)
LINES: list[tuple[str, list[str]]] = [
    ("mnistcli ", COMMANDS),
    ("mnistcli re", ["report", "reproduce", "recipes"]),
    ("mnistcli sweep m", ["my.yaml"]),
    ("mnistcli recipes ", ["list", "show", "copy", "schema"]),
    ("mnistcli recipes show mnist-m", ["mnist-mlp"]),
    ("mnistcli recipes copy xor ", ["my.yaml", "runs/"]),
    ("mnistcli --show-completion ", ["bash", "zsh", "fish"]),
    # configs
    ("mnistcli train ", [*RECIPES, "my.yaml", "runs/"]),
    ("mnistcli train --epochs 3 m", [*(r for r in RECIPES if r[0] == "m"), "my.yaml"]),
    ("mnistcli train xor ", []),
    ("mnistcli summary ", [*RECIPES, "mlp.h5", "my.yaml", "runs/"]),
    # checkpoints and images
    ("mnistcli evaluate ", ["mlp.h5", "runs/"]),
    ("mnistcli evaluate mlp.h5 runs/", ["runs/a b.h5"]),
    ("mnistcli evaluate 'runs/a ", ["runs/a b.h5"]),
    ("mnistcli evaluate runs/a\\ b", ["runs/a b.h5"]),
    ("mnistcli evaluate .h", [".hidden.h5"]),
    ("mnistcli evaluate nowhere/", []),
    ("mnistcli ls ", ["mlp.h5", "runs/"]),
    ("mnistcli ls --sort test.", ["test.loss", "test.accuracy"]),
    ("mnistcli train --progress ", ["auto", "bar", "lines", "none"]),
    ("mnistcli reproduce m", [*(r for r in RECIPES if r[0] == "m"), "mlp.h5"]),
    ("mnistcli compare mlp.h5 ", ["mlp.h5", "runs/"]),
    ("mnistcli compare mlp.h5 --baseline ", ["logistic-regression", "random-forest"]),
    ("mnistcli doctor m", ["mlp.h5"]),
    ("mnistcli train --resume m", ["mlp.h5"]),
    ("mnistcli train --init-from m", ["mlp.h5"]),
    ("mnistcli train -o m", ["mlp.h5"]),
    ("mnistcli predict m", ["mlp.h5"]),
    ("mnistcli predict mlp.h5 ", ["runs/", "two.png"]),
    ("mnistcli doctor --data-dir ", ["runs/"]),
    ("mnistcli plot c", ["curves", "confusion", "calibration"]),
    ("mnistcli plot curves m", ["mlp.h5"]),
    ("mnistcli data c", ["cifar10"]),
    ("mnistcli data mnist --matrix ", ["raw", "normalized"]),
    # flags and their choices
    ("mnistcli train --se", ["--seed", "--set"]),
    ("mnistcli train --seed 1 --se", ["--set"]),
    ("mnistcli train --set a=b --set", ["--set"]),
    ("mnistcli evaluate mlp.h5 --j", ["--json"]),
    ("mnistcli train --epochs ", []),
    ("mnistcli train --optimizer ", [*OPTIMIZERS]),
    ("mnistcli train --optimizer=ad", ["--optimizer=adam", "--optimizer=adamw"]),
    ("mnistcli train --model ", ["softmax", "mlp"]),
    ("mnistcli train --activation ", [*ACTIVATIONS]),
    ("mnistcli train --dataset ", [*DATA_SETS, "auto", "files"]),
    ("mnistcli evaluate --dataset ", [*DATA_SETS, "files"]),
    ("mnistcli train --validation ", ["test"]),
    ("mnistcli evaluate mlp.h5 --normalization ", ["unit", "standard", "none"]),
    ("mnistcli predict mlp.h5 --split ", ["train", "validation", "test"]),
    ("mnistcli evaluate mlp.h5 --fail-under ", ["accuracy=", "loss="]),
    # dotted keys and their choices
    ("mnistcli train --set ", ["dataset.", "model.", "training."]),
    ("mnistcli train --set training.optim", ["training.optimizer.", "training.optimizer="]),
    ("mnistcli train --set training.optimizer.n", [
        "training.optimizer.name=", "training.optimizer.nesterov="]),
    ("mnistcli train --set training.optimizer=", [f"training.optimizer={n}" for n in OPTIMIZERS]),
    ("mnistcli train --set model.activation=", [f"model.activation={n}" for n in ACTIVATIONS]),
    ("mnistcli train --set model.activation=re", [
        "model.activation=relu", "model.activation=relu6"]),
    ("mnistcli train --set=model.activation=so", [
        "--set=model.activation=softplus", "--set=model.activation=softsign",
        "--set=model.activation=soft_shrink", "--set=model.activation=softmax"]),
    ("mnistcli train --set model.hidden.", ["model.hidden.0."]),
    ("mnistcli train --set model.hidden.1.a", ["model.hidden.1.activation="]),
    ("mnistcli train --set model.flatten=", ["model.flatten=true", "model.flatten=false"]),
    ("mnistcli train --set training.schedule=", [
        "training.schedule=cosine", "training.schedule=exponential", "training.schedule=null"]),
    ("mnistcli train --set dataset.validation=", ["dataset.validation=test"]),
    ("mnistcli train --set training.epochs=", []),
    ("mnistcli train --set no.such.", []),
    ("mnistcli train --set no.such=", []),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), LINES, ids=[line for line, _ in LINES])
def test_a_line_goes_on_with(folder: Path, line: str, words: list[str]) -> None:
    assert complete(line) == words


def test_every_key_of_the_config_can_be_reached_by_tab() -> None:
    reached: set[str] = set()
    asked = [""]
    while asked:
        words = complete(f"mnistcli train --set {asked.pop()}")
        asked += [word for word in words if word.endswith(".")]
        reached |= {word.rstrip(".=") for word in words}
    assert {".".join(key) for key in list_keys()} <= reached


@pytest.fixture
def shell_environment(environment: dict[str, str], folder: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which the shells find this program under its name."""
    program = tmp_path / "bin" / "mnistcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mnistcli "$@"\n')
    program.chmod(0o755)
    home = {"HOME": str(tmp_path / "home"), "TERM": "xterm", "PS1": "$ "}
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {**environment, **home, "PATH": path}


def require_shell(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


def test_the_rows_need_neither_tensorflow_nor_numpy(shell_environment: dict[str, str]) -> None:
    program = (
        "import sys; from mnistcli.cli import app; app.run([]);"
        "loaded = {'keras', 'tensorflow', 'numpy', 'h5py', 'yaml', 'rich.console'};"
        "sys.exit(str(loaded & set(sys.modules)) if loaded & set(sys.modules) else 0)"
    )
    for line in ("mnistcli train --set model.act", "mnistcli train ", "mnistcli evaluate "):
        asked = {"_MNISTCLI_COMPLETE": "fish", "_MNISTCLI_LINE": line}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**shell_environment, **asked}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, ""), line
        assert ended.stdout, line


BASH = r"""
eval "$(mnistcli --show-completion bash)"
compopt() { echo "option $2"; }
COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
_mnistcli_complete mnistcli
printf '%s\n' "${COMPREPLY[@]}"
complete -p mnistcli
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mnistcli recipes sh", ["show"]),
        ("mnistcli train --optimizer ad", ["adam", "adamw"]),
        # bash takes the words apart at =, and completes what is behind it
        ("mnistcli train --set model.activation=re", ["relu", "relu6"]),
        ("mnistcli train --set=dataset.normalization=u", ["unit"]),
        ("mnistcli train --optimizer=ad", ["adam", "adamw"]),
        ('mnistcli train --set "model.flatten=t', ["model.flatten=true"]),
        # where the word goes on, no space comes behind it
        ("mnistcli train --set training.see", ["option nospace", "training.seed="]),
        ("mnistcli evaluate runs/", ["option filenames", "runs/a b.h5"]),
        ("mnistcli train zzz", [""]),
    ],
)
def test_bash_completes(shell_environment: dict[str, str], line: str, expected: list[str]) -> None:
    ended = subprocess.run(
        [require_shell("bash"), "--norc", "-c", BASH, "bash", line],
        env=shell_environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [*expected, "complete -F _mnistcli_complete mnistcli"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mnistcli tr", ["train\tTrain a network and write its checkpoint."]),
        ("mnistcli train --set model.fl", [
            "model.flatten=\tThe network takes images and begins with a Flatten layer."]),
        ("mnistcli train --optimizer=ad", ["--optimizer=adam", "--optimizer=adamw"]),
        ("mnistcli evaluate runs/", ["runs/a b.h5"]),
    ],
)  # fmt: skip
def test_fish_completes(shell_environment: dict[str, str], line: str, expected: list[str]) -> None:
    script = f"mnistcli --show-completion fish | source; complete -C '{line}'"
    ended = subprocess.run(
        [require_shell("fish"), "--no-config", "-c", script],
        env=shell_environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.stdout.splitlines(), ended.stderr) == (expected, "")


def type_in(argv: list[str], environment: dict[str, str], steps: list[tuple[str, str]]) -> None:
    """Type into a shell on a terminal, and wait for what must come of it."""
    terminal, shells_end = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=shells_end, stdout=shells_end, stderr=shells_end,
        env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(shells_end)
    try:
        for typed, awaited in steps:
            os.write(terminal, typed.encode())
            wait_for(terminal, awaited)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def wait_for(terminal: int, awaited: str) -> None:
    """Read until the text is there, whatever its colours."""
    seen, deadline_s = "", time.monotonic() + 20
    while awaited not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen):
        assert time.monotonic() < deadline_s, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")


def test_zsh_completes(shell_environment: dict[str, str]) -> None:
    setup = 'autoload -Uz compinit; compinit -D; eval "$(mnistcli --show-completion zsh)"'
    steps = [
        (f"{setup}; echo rea''dy\n", "ready"),
        ("mnistcli recipes sho\t", "recipes show "),
        ("\x15mnistcli train --set training.see\t", "training.seed="),
        ("\x15mnistcli train --optimizer=nad\t", "--optimizer=nadam "),
        ("\x15mnistcli evaluate runs/\t", "runs/a\\ b.h5 "),
    ]
    type_in([require_shell("zsh"), "-f", "-i"], shell_environment, steps)


PLACES = {
    "bash": ".local/share/bash-completion/completions/mnistcli",
    "zsh": ".zfunc/_mnistcli",
    "fish": ".config/fish/completions/mnistcli.fish",
}


@pytest.mark.parametrize("shell", PLACES)
def test_a_script_is_installed_where_its_shell_looks(
    run: Run, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ended = run("--install-completion", shell)
    place = tmp_path / PLACES[shell]
    assert (ended.code, ended.out) == (0, f"{place}\n")
    assert ended.err.count("\n") == 1
    assert place.read_text() == run("--show-completion", shell).out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [place]


def test_a_shell_that_has_no_script_is_refused(run: Run) -> None:
    ended = run("--show-completion", "zhs")
    line = "mnistcli: error: --show-completion: unknown name 'zhs'. Did you mean zsh?\n"
    assert (ended.code, ended.out, ended.err) == (2, "", line)
