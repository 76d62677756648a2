"""Wrong command lines: error messages, exit codes and JSON errors."""

from __future__ import annotations

import os
import re
import shlex
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
        "mnistcli: error: my.yaml:3:3: training.optimzer: unknown key."
        " Did you mean training.optimizer?",
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


SET = "keys of the config are given with --set"
FLAGS = {
    "--lr 0.1": "Did you mean --learning-rate?",
    "-lr 0.1": "Did you mean --learning-rate?",
    "--learn 0.1": "Did you mean --learning-rate?",
    "--n_epochs 3": "Did you mean --epochs?",
    "--num-epochs=3": "Did you mean --epochs?",
    "-e 3": "Did you mean --epochs?",
    "--bs 32": "Did you mean --batch-size?",
    "--batch 32": "Did you mean --batch-size?",
    "--opt adam": "Did you mean --optimizer?",
    "--hidden-layers 64": "Did you mean --hidden?",
    "--layers 64": "Did you mean --hidden?",
    "--act relu": "Did you mean --activation?",
    "--random-seed 3": "Did you mean --seed?",
    "--val-split 0.1": "Did you mean --validation?",
    "--net mlp": "Did you mean --model?",
    "--out m.h5": "Did you mean --output?",
    "--save-dir runs": "Did you mean --output?",
    "--verbose": "Did you mean --log-level?",
    "--gpus 2": "Did you mean --devices?",
    "--ckpt m.h5": "Did you mean --resume?",
    "--exist-ok": "Did you mean --overwrite?",
    "--momentum 0.9": "Write --set training.optimizer.momentum=0.9",
    "--weight-decay=0.01": "Write --set training.optimizer.weight_decay=0.01",
    "--loss mse": "Write --set training.loss=mean_squared_error",
    "--l2 1e-4": "Write --set model.l2=1e-4",
    "--precision bf16": "Write --set training.precision=mixed_bfloat16",
    "--schedule cosine": "Write --set training.schedule=cosine",
    "--clip 1.0": "Write --set training.clip.norm=1.0",
    "--early-stopping": "Write --set training.early_stopping.monitor=val_loss",
    "--patience 3": "Write --set training.early_stopping.patience=3",
    "--no-shuffle": "Write --set training.shuffle=false",
    "--foo": "See mnistcli train --help",
    "--x 3": "See mnistcli train --help",
    "--cuda": "See mnistcli train --help",
}


@pytest.mark.parametrize("words", FLAGS)
def test_a_flag_of_another_tool_names_ours_and_what_is_written_works(run: Run, words: str) -> None:
    ended = run("train", *shlex.split(words))
    flag = re.split("[ =]", words)[0]
    assert ended.code == 2
    assert ended.err == f"mnistcli: error: {flag}: no such flag. {FLAGS[words]}\n"
    if FLAGS[words].startswith("Write "):
        suggested = shlex.split(FLAGS[words].removeprefix("Write "))
        assert run("train", *suggested, "--validation", 0.1, "--print-config").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export m.h5", "export: no such command. Choose one of train, evaluate, predict,"),
        ("fit", "fit: no such command. Did you mean train?"),
        ("test m.h5", "test: no such command. Did you mean evaluate?"),
        ("eval m.h5", "eval: no such command. Did you mean evaluate?"),
        ("infer m.h5", "infer: no such command. Did you mean predict?"),
        ("info m.h5", "info: no such command. Did you mean summary?"),
        ("list", "list: no such command. Did you mean ls?"),
        ("tune s.yaml", "tune: no such command. Did you mean sweep?"),
        ("evaluate m.h5 --lr 1", "--lr: no such flag. See mnistcli evaluate --help"),
        ("evaluate m.h5 --seed 8", "--seed: no such flag. See mnistcli evaluate --help"),
        ("predict m.h5 --topk 3", "--topk: no such flag. Did you mean --top?"),
        ("train epochs=3", f"epochs=3: {SET}. Write --set training.epochs=3"),
        (
            "train train.lr=0.1",
            f"train.lr=0.1: {SET}. Write --set training.optimizer.learning_rate=0.1",
        ),
        (
            "train xor 'model.hidden=[8, 8]'",
            "model.hidden=[8, 8]: unexpected argument: train takes one CONFIG."
            " Write --set 'model.hidden=[8, 8]'",
        ),
        ("-V", "-V: no such flag. Did you mean --version?"),
        ("version", "version: no such command. Did you mean --version?"),
        ("help", "help: no such command. Did you mean --help?"),
        ("plot loss m.h5 --show", "KIND: unknown name 'loss'. Did you mean curves?"),
        ("plot filters m.h5 --show", "KIND: unknown name 'filters'. Did you mean weights?"),
        ("predict m.h5 -n 5", "-n: no such flag. Did you mean --first?"),
        ("train --config 'a b.yaml'", "--config: no such flag. Give CONFIG without a flag: 'a b.yaml'"),
        ("evaluate -m m.h5", "-m: no such flag. Give MODEL.h5 without a flag: m.h5"),
        ("predict m.h5 --image a.png", "--image: no such flag. Give IMAGE without a flag: a.png"),
        ("train --resume --epochs 5", "--resume: requires an argument. Give it a value before --epochs"),
        ("train -o --overwrite", "--output: requires an argument. Give it a value before --overwrite"),
        ("train mnist-mlp --hidden 64,,32", "--hidden: not valid YAML: did not find expected node content. Separate numbers by commas: --hidden 64,32"),
        ("train --optimizer 'sgd(lr=0.1)'", "--optimizer: training.optimizer.name: expected one of sgd, rmsprop, adam, nadam, adamw, received 'sgd(lr=0.1)'. Did you mean sgd?"),
        ("train --data . --set dataset.size=28", "--set: dataset.size: expected a list of 2 to 3 entries, or null, received 28. Write --set 'dataset.size=[28, 28]'"),
        ("doctor a.h5 b.h5", "b.h5: unexpected argument: doctor takes one MODEL.h5"),
        ("ls --sort lr --json", "--sort: unknown column 'lr'."),
    ],
)  # fmt: skip
def test_a_word_of_another_tool_names_ours(run: Run, words: str, message: str) -> None:
    ended = run(*shlex.split(words))
    assert (ended.code, ended.out.partition("{")[0]) == (2, "")
    assert ended.err.startswith(f"mnistcli: error: {message}")


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        ("--validation 20%", "--validation 0.2"),
        ("--learning-rate 0,001", "--learning-rate 0.001"),
        ("--learning-rate 10^-3", "--learning-rate 0.001"),
        ("--epochs 1e2", "--epochs 100"),
        ("--epochs 1,000", "--epochs 1000"),
        ("--hidden 64x32", "--hidden 64,32"),
        ("--hidden '64 32'", "--hidden 64,32"),
        ("--set model.hidden=64,32", "--set 'model.hidden=[64, 32]'"),
        ("--set training.shuffle=0", "--set training.shuffle=false"),
        ("--set training.schedule=none", "--set training.schedule=null"),
        ("--set training.early_stopping=5", "--set 'training.early_stopping={patience: 5}'"),
        (
            "--data . --set 'dataset.classes=[0, a b]'",
            """--set 'dataset.classes=["0", "a b"]'""",
        ),
        ("--data . --set dataset.size=28x28", "--set 'dataset.size=[28, 28]'"),
    ],
)
def test_a_value_in_another_notation_is_suggested_as_it_is_typed(
    run: Run, words: str, suggested: str
) -> None:
    given = shlex.split(words)
    ended = run("train", "mnist-mlp", *given, "--print-config")
    assert ended.code == 2
    assert ended.err.endswith(f". Write {suggested}\n"), ended.err
    mended = [*given[:-2], *shlex.split(suggested)]
    validation = () if "--validation" in mended else ("--validation", 0.1)
    assert run("train", "mnist-mlp", *mended, *validation, "--print-config").code == 0


def test_a_path_that_is_given_as_a_data_set_is_named(run: Run) -> None:
    Path("my images").mkdir()
    path = "my images is a path, not the name of a data set. Give it as your own images:"
    for words, line in (
        (("data", "my images"), f"NAME: {path} mnistcli data files --data 'my images'"),
        (
            ("train", "--dataset", "my images"),
            "--dataset: dataset.name: expected one of mnist, fashion_mnist, cifar10, digits,"
            " synthetic, xor, auto, files, received 'my images'. Give --data 'my images'",
        ),
    ):
        ended = run(*words)
        assert (ended.code, ended.err) == (2, f"mnistcli: error: {line}\n")


def test_a_recipe_that_is_given_as_a_checkpoint_is_named(run: Run) -> None:
    ended = run("evaluate", "mnist-mlp")
    assert (ended.code, ended.err) == (
        5,
        "mnistcli: error: mnist-mlp: is a recipe, not a checkpoint."
        " Train it first: mnistcli train mnist-mlp\n",
    )


def test_hidden_layers_may_stand_in_brackets(run: Run) -> None:
    words = ("train", "mnist-mlp", "--print-config", "--json", "--hidden")
    assert run(*words, "[64, 32]").json["config"] == run(*words, "64,32").json["config"]
