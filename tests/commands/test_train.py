"""`mnistcli train`: the result, the checkpoint, resuming, and every way in which a run ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import mnistcli
from conftest import Run, Train, save_with_keras
from helpers.commands import (
    HARD,
    LONG,
    MLP,
    SMALL,
    drop_data_warning,
    list_files,
    read_arrays,
    start,
    wait_for_epoch,
    write_command,
)
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import Progress
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.errors import ResourceError

# The answer


def test_the_result_is_on_stdout_and_all_other_talk_on_stderr(run: Run) -> None:
    ended = run("train", *SMALL, "--epochs", 2, "-o", "a b.h5")
    assert ended.code == 0
    assert re.fullmatch(r"test accuracy 0\.\d{4}, loss \d\.\d{4}\n", ended.out)
    warning, first, second, *hints = ended.err.splitlines()
    assert warning.startswith("mnistcli: warning: ")
    assert warning.endswith("is not canonical MNIST: figures may differ from published ones")
    metrics = r"loss \d+\.\d{4}  accuracy 0\.\d{4}  \d+\.\d\d s"
    assert re.fullmatch(f"epoch 1/2  {metrics}", first)
    assert re.fullmatch(f"epoch 2/2  {metrics}", second)
    assert hints == ["saved a b.h5", "next  mnistcli evaluate 'a b.h5'"]
    assert list_files() == ["a b.h5"]


def test_the_next_command_works_as_it_stands(
    run: Run, digits_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(digits_directory, "my data")
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    ended = run("train", *SMALL, "--epochs", 1, "-o", "-x.h5".replace("-", "x;"),
                "--data-dir", "my data")  # fmt: skip
    line = ended.err.splitlines()[-1]
    assert line == "next  mnistcli evaluate 'x;x.h5' --data-dir 'my data'"
    evaluated = run(*shlex.split(line)[2:], "-q")
    assert evaluated.code == 0
    assert ended.out.startswith(f"test accuracy {evaluated.out.strip()}, ")


def test_quiet_prints_the_path_alone(run: Run) -> None:
    ended = run("train", *SMALL, "--epochs", 1, "-q", "-o", "m.h5")
    assert (ended.code, ended.out, drop_data_warning(ended.err)) == (0, "m.h5\n", "")


def test_json_holds_the_promised_keys(run: Run) -> None:
    ended = run("train", *SMALL, "--validation", 0.2, "--epochs", 2, "--json", "-o", "m.h5")
    lines = drop_data_warning(ended.err).splitlines()
    assert (ended.code, [line[:9] for line in lines]) == (0, ["epoch 1/2", "epoch 2/2"])
    assert len(ended.out.splitlines()) == 1
    answer = ended.json
    assert set(answer) == {
        "version", "checkpoint", "dataset", "epochs", "history", "test", "seconds",
        "metrics", "stopped_early", "weights_epoch",
    }  # fmt: skip
    assert (answer["version"], answer["checkpoint"], answer["epochs"]) == (1, "m.h5", 2)
    assert set(answer["dataset"]) == {"name", "sha256"}
    assert answer["dataset"]["name"] == "mnist"
    assert re.fullmatch("[0-9a-f]{64}", answer["dataset"]["sha256"])
    assert {name: len(values) for name, values in answer["history"].items()} == {
        "loss": 2, "accuracy": 2, "val_loss": 2, "val_accuracy": 2,
    }  # fmt: skip
    assert set(answer["test"]) == {"loss", "accuracy"}
    assert set(answer["seconds"]) == {"total", "per_epoch"}
    assert 0 < answer["seconds"]["per_epoch"] < answer["seconds"]["total"]


def test_jsonl_is_one_object_an_epoch_then_the_answer(run: Run) -> None:
    ended = run("train", *SMALL, "--epochs", 3, "--jsonl", "-o", "m.h5")
    assert (ended.code, drop_data_warning(ended.err)) == (0, "")
    *epochs, answer = map(json.loads, ended.out.splitlines())
    assert [set(line) for line in epochs] == [
        {"version", "epoch", "epochs", "metrics", "seconds"}
    ] * 3
    assert [(line["epoch"], line["epochs"]) for line in epochs] == [(1, 3), (2, 3), (3, 3)]
    assert [line["metrics"]["loss"] for line in epochs] == answer["history"]["loss"]
    assert answer["epochs"] == 3


@pytest.mark.parametrize("words", [HARD, ("xor",), ("--set", "dataset.normalization=standard")])
def test_the_test_score_is_exactly_that_of_evaluate(run: Run, words: tuple[Any, ...]) -> None:
    trained = run("train", *words, "--epochs", 2, "--json", "-o", "m.h5").json
    [evaluated] = run("evaluate", "m.h5", "--json").json["results"]
    assert trained["test"] == {key: evaluated[key] for key in ("loss", "accuracy")}
    assert run("summary", "m.h5", "--json").json["training"]["test"] == trained["test"]


def test_the_checkpoint_is_a_whole_keras_model(run: Run, digits_directory: Path) -> None:
    trained = run("train", *SMALL, "--epochs", 2, "--json", "-o", "m.h5").json
    network = keras.saving.load_model("m.h5")
    with np.load(digits_directory / "mnist.npz") as data:
        inputs, labels = data["x_test"].reshape(-1, 784) / 255, np.eye(10)[data["y_test"]]
    loss, accuracy = network.evaluate(inputs, labels, verbose=0)
    assert trained["test"]["loss"] == pytest.approx(loss, rel=1e-5)
    assert trained["test"]["accuracy"] == pytest.approx(accuracy)


# The config


def test_flags_win_over_the_file_and_the_file_over_defaults(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("training: {epochs: 9, batch_size: 200, seed: 4}\n")
    words = ("--epochs", 1, "--set", "training.batch_size=300", "--set", "training.shuffle=false")
    assert run("train", "my.yaml", *words, "-q", "-o", "m.h5").code == 0
    config = run("summary", "m.h5", "--json").json["training"]["config"]
    assert config["training"] == {
        "epochs": 1,
        "batch_size": 300,
        "optimizer": {
            "name": "sgd", "learning_rate": 0.01, "momentum": 0.0, "nesterov": False,
            "weight_decay": None,
        },
        "loss": "categorical_crossentropy",
        "shuffle": False,
        "seed": 4,
        "precision": "float32",
        "checkpoint_every": 1,
        "schedule": None,
        "reduce_on_plateau": None,
        "early_stopping": None,
        "clip": None,
        "label_smoothing": 0.0,
        "class_weight": None,
    }  # fmt: skip


def test_a_new_optimizer_brings_its_learning_rate_and_says_so(run: Run) -> None:
    ended = run("train", "--optimizer", "adam", "--dry-run")
    assert "optimizer adam takes its default learning rate 0.001\n" in ended.err
    ended = run("train", "--optimizer", "adam", "--learning-rate", 0.5, "--dry-run")
    assert "takes its default" not in ended.err


def test_a_dry_run_shows_the_network_and_writes_nothing(run: Run) -> None:
    ended = run("train", *HARD, "--dry-run", "-o", "m.h5")
    assert (ended.code, list_files()) == (0, [])
    assert "Total params: 12,730\n" in ended.out
    *_, needs, takes, would = ended.err.splitlines()
    assert needs.startswith("needs about ")
    duration = r"\d[\d.]* (s|min|h)"
    assert re.fullmatch(
        rf"takes about {duration} an epoch, {duration} in all \(measured over [\d,]+ steps\)", takes
    )
    assert would == "would train 100 epochs of 840 images in batches of 100 and write m.h5"
    for flag in ("--json", "--jsonl"):
        answer = run("train", *HARD, "--dry-run", flag).json
        assert (answer["total_parameters"], answer["training"]) == (12_730, None)
        assert set(answer["seconds"]) == {"total", "startup", "per_epoch", "measured_steps"}
        rest = 100 * answer["seconds"]["per_epoch"]
        assert answer["seconds"]["total"] == pytest.approx(answer["seconds"]["startup"] + rest)
        assert answer["seconds"]["measured_steps"] >= 1
    assert list_files() == []


@pytest.mark.slow
def test_a_dry_run_of_a_resumed_run_counts_what_is_left(run: Run, train_once: Train) -> None:
    model = train_once(*HARD, "--epochs", 2)
    before = model.read_bytes()
    seconds = run("train", "--resume", model, "--more", 3, "--dry-run", "--json").json["seconds"]
    rest = 3 * seconds["per_epoch"]
    assert seconds["total"] == pytest.approx(seconds["startup"] + rest)
    assert model.read_bytes() == before
    assert list_files() == ["model.h5"]


# The file


def test_the_default_name_tells_the_experiment_and_is_numbered_where_taken(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", *SMALL, "--epochs", 1, "--seed", 7, "-q")
    assert re.fullmatch(r"mnist-softmax-s7-\d{8}-\d{6}\.h5\n", run(*words).out)
    monkeypatch.setattr(
        "mnistcli.commands.train.request.time.strftime", lambda _: "20260131-235959"
    )
    for ending in ("", "-2"):
        Path(f"mnist-softmax-s7-20260131-235959{ending}.h5").write_bytes(b"taken")
    assert run(*words).out == "mnist-softmax-s7-20260131-235959-3.h5\n"
    assert Path("mnist-softmax-s7-20260131-235959-2.h5").read_bytes() == b"taken"


RACE = """
import sys, time
from pathlib import Path
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.commands.train.request import OutputFile, _number_names

checkpoint = read_checkpoint(Path("model.h5"), "all")
output = OutputFile(_number_names("run"), may_replace=False)
print("ready", flush=True)
sys.stdin.readline()
output.write(checkpoint.state, checkpoint.record)
print(output.path)
"""


def test_runs_that_begin_in_the_same_second_never_share_a_name(
    environment: dict[str, str], train_once: Train
) -> None:
    model = train_once(*SMALL, "--epochs", 2)
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(
                start([sys.executable, "-c", RACE], environment, stdin=subprocess.PIPE)
            )
            for _ in range(4)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        names = sorted(racer.communicate(timeout=60)[0].strip() for racer in racers)
    assert names == ["run-2.h5", "run-3.h5", "run-4.h5", "run.h5"]
    assert list_files() == sorted(["model.h5", *names])
    for name in names:
        assert read_arrays(Path(name)) == read_arrays(model)


def limit_file_size(_: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (shutil.rmtree, "its folder is gone. Make it: mkdir -p FOLDER, or choose another place"),
        (
            limit_file_size,
            "File too large. Raise the limit on the size of files (ulimit -f);"
            " FOLDER/m.h5 holds epoch 0",
        ),
    ],
    ids=["gone", "full"],
)
def test_a_save_that_fails_says_why_and_what_the_last_good_file_holds(
    run: Run, tmp_path: Path, spoil: Callable[[Path], None], what: str
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()

    class Spoiler(mnistcli.Callback):
        def on_epoch_end(self, progress: Progress) -> None:
            if progress.epoch == 2:
                spoil(folder)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(ResourceError) as caught:
            mnistcli.train("xor", epochs=3, output=folder / "m.h5", callbacks=[Spoiler()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = f"{folder}/m.h5: the checkpoint could not be written: {what}"
    assert str(caught.value).startswith(line.replace("FOLDER", str(folder)))
    if folder.exists():
        assert read_checkpoint(folder / "m.h5").progress.epoch == 0
        assert [path.name for path in folder.iterdir()] == ["m.h5"]


def test_overwrite_replaces_a_file(run: Run) -> None:
    Path("m.h5").write_bytes(b"old")
    assert run("train", *SMALL, "--epochs", 1, "-o", "m.h5").code == 2
    assert Path("m.h5").read_bytes() == b"old"
    assert run("train", *SMALL, "--epochs", 1, "-o", "m.h5", "--overwrite").code == 0
    assert run("summary", "m.h5").code == 0


def test_a_held_out_part_chooses_the_best_model(run: Run) -> None:
    words = ("--batch-size", 50, "--optimizer", "adam", "--learning-rate", 0.05)
    words = (*words, "--model", "mlp", "--validation", 0.2, "--epochs", 12)
    ended = run("train", *words, "-o", "m.h5")
    assert list_files() == ["m.best.h5", "m.h5"]
    assert ended.err.splitlines()[-3:] == [
        "saved m.h5", "best  m.best.h5", "next  mnistcli evaluate m.h5",
    ]  # fmt: skip
    losses = read_checkpoint(Path("m.h5")).progress.history["val_loss"]
    best = read_checkpoint(Path("m.best.h5")).progress
    assert best.epoch == best.best_epoch == int(np.argmin(losses)) + 1 < 12
    assert best.history["val_loss"] == losses[: best.epoch]
    [result] = run("evaluate", "m.best.h5", "--split", "validation", "--json").json["results"]
    assert result["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_the_test_set_never_chooses(run: Run) -> None:
    Path("m.best.h5").write_bytes(b"of an earlier run")
    ended = run("train", *SMALL, "--validation", "test", "--epochs", 2, "-o", "m.h5")
    assert ended.code == 0
    assert "best" not in ended.err
    assert Path("m.best.h5").read_bytes() == b"of an earlier run"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that takes no files")
def test_a_place_that_takes_no_files_is_exit_7(run: Run) -> None:
    ended = run("train", *SMALL, "--epochs", 1, "-o", "/proc/m.h5")
    assert (ended.code, ended.out) == (7, "")
    assert re.fullmatch(
        r"mnistcli: error: /proc(/m\.h5)?: .+\. .*choose another place with -o",
        drop_data_warning(ended.err).rstrip("\n"), re.IGNORECASE,
    )  # fmt: skip


# The data


def test_auto_takes_mnist_where_it_can_be_had(run: Run) -> None:
    ended = run("train", *SMALL, "--dataset", "auto", "--epochs", 1, "--json", "-o", "m.h5")
    assert ended.json["dataset"]["name"] == "mnist"
    assert "synthetic" not in ended.err


def test_auto_without_mnist_takes_synthetic_digits_says_so_and_records_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    ended = run("train", *SMALL, "--dataset", "auto", "--epochs", 1, "--json")
    assert ended.code == 0
    assert ended.err.startswith(
        "mnistcli: warning: MNIST cannot be had, so synthetic digits are used in its place"
        " (MNIST: not found in "
    )
    assert ended.json["dataset"]["name"] == "synthetic"
    assert ended.json["checkpoint"].startswith("synthetic-softmax-s0-")
    training = run("summary", ended.json["checkpoint"], "--json").json["training"]
    assert training["config"]["dataset"]["name"] == "synthetic"
    assert training["dataset"] == ended.json["dataset"]


@pytest.mark.parametrize("words", [[], ["--dataset", "mnist"]])
def test_mnist_that_cannot_be_had_is_exit_4_with_where_it_looked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    ended = run("train", *words)
    assert (ended.code, ended.out, ended.err) == (
        4,
        "",
        f"mnistcli: error: MNIST: not found in {tmp_path.parent}/keras/datasets (no such folder),"
        " and MNISTCLI_OFFLINE forbids downloading. Name the folder of mnist.npz or the four"
        " IDX files (train-images-idx3-ubyte, …) with --data-dir, or unset"
        " MNISTCLI_OFFLINE to download it, or use --dataset synthetic\n",
    )
    assert list_files() == []


# Going on


def test_two_epochs_and_two_more_are_four_bit_for_bit(run: Run) -> None:
    for name, epochs in (("whole.h5", 4), ("a.h5", 2)):
        assert run("train", *HARD, "--epochs", epochs, "-q", "-o", name).code == 0
    assert read_arrays(Path("a.h5")) != read_arrays(Path("whole.h5"))
    ended = run("train", "--resume", "a.h5", "--more", 2)
    assert ended.code == 0
    lines = [line for line in ended.err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["3/4", "4/4"]
    assert read_arrays(Path("a.h5")) == read_arrays(Path("whole.h5"))
    assert read_arrays(Path("a.best.h5")) == read_arrays(Path("whole.best.h5"))


def test_epochs_is_the_total_of_a_resumed_run(run: Run, train_once: Train) -> None:
    whole = train_once(*SMALL, "--epochs", 5, name="whole.h5")
    model = train_once(*SMALL, "--epochs", 2)
    answer = run("train", "--resume", model, "--epochs", 5, "--json").json
    assert answer["epochs"] == len(answer["history"]["loss"]) == 5
    assert read_arrays(model) == read_arrays(whole)


def test_resuming_a_finished_run_answers_again_and_leaves_the_file_alone(
    run: Run, train_once: Train
) -> None:
    model = train_once(*SMALL, "--epochs", 2)
    before, changed_ns = model.read_bytes(), model.stat().st_mtime_ns
    ended = run("train", "--resume", model)
    assert (ended.code, ended.out.startswith("test accuracy 0.")) == (0, True)
    assert drop_data_warning(ended.err) == (
        "nothing left to do: model.h5 ended after epoch 2\n"
        "more  mnistcli train --resume model.h5 --more 10\n"
    )
    assert run("train", "--resume", model, "-q", "--epochs", 2).out == "model.h5\n"
    assert (model.read_bytes(), model.stat().st_mtime_ns) == (before, changed_ns)
    answer = run("train", "--resume", model, "--json").json
    scored = run("evaluate", model, "--json").json["results"][0]
    assert answer["epochs"] == len(answer["history"]["loss"]) == 2
    assert answer["test"] == {key: scored[key] for key in ("loss", "accuracy")}

    more = run("train", "--resume", model, "--more", 1, "--json")
    lines = [line.split("  loss")[0] for line in more.err.splitlines() if "epoch" in line]
    assert (more.code, lines) == (0, ["epoch 3/3"])
    assert model.read_bytes() != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--batch-size 7", "--batch-size: a resumed run goes on in its own file with its own"),
        ("--set training.seed=1", "--set: a resumed run goes on in its own file with its own"),
        ("mnist-mlp", "CONFIG: a resumed run goes on in its own file with its own config."),
        ("-o other.h5", "--output: a resumed run goes on in its own file with its own config."),
        ("--overwrite", "--overwrite: a resumed run goes on in its own file with its own"),
        ("--init-from model.h5", "--init-from: a resumed run goes on in its own file with its own"),
        ("--epochs 3 --more 1", "--more: --epochs says the total already. Give one of --epochs"),
        ("--epochs 1", "--epochs: 1 is less than the 2 epochs done. Give a larger total"),
        ("--epochs 0", "--epochs: training.epochs: expected a whole number from 1 to 1000000"),
    ],
)
def test_a_resumed_run_takes_no_other_settings(
    run: Run, train_once: Train, words: str, message: str
) -> None:
    model = train_once(*SMALL, "--epochs", 2)
    before = model.read_bytes()
    ended = run("train", "--resume", model, *words.split())
    assert (ended.code, ended.out) == (2, "")
    assert drop_data_warning(ended.err).startswith(f"mnistcli: error: {message}")
    assert len(drop_data_warning(ended.err).splitlines()) == 1
    assert (model.read_bytes(), list_files()) == (before, ["model.h5"])


def test_a_run_does_not_go_on_with_other_data(
    run: Run, train_once: Train, digits_directory: Path
) -> None:
    model = train_once(*SMALL, "--epochs", 2)
    before = model.read_bytes()
    with np.load(digits_directory / "mnist.npz") as data:
        arrays = dict(data)
    arrays["x_train"][0, 0, 0] ^= 1
    Path("other").mkdir()
    np.savez("other/mnist.npz", **arrays)
    ended = run("train", "--resume", model, "--more", 1, "--data-dir", "other")
    assert (ended.code, ended.out) == (4, "")
    assert drop_data_warning(ended.err) == (
        "mnistcli: error: other/mnist.npz: not the MNIST that model.h5 was trained on."
        " Point --data-dir to the data of that run, or go on with these by --force\n"
    )
    assert model.read_bytes() == before

    ended = run("train", "--resume", model, "--more", 1, "--data-dir", "other", "--force", "-q")
    assert (ended.code, ended.out) == (0, "model.h5\n")
    assert drop_data_warning(ended.err) == (
        "mnistcli: warning: other/mnist.npz: not the MNIST that model.h5 was trained on:"
        " going on with it by --force\n"
    )
    assert read_checkpoint(model).progress.epoch == 3


def make_foreign(*units: int) -> Path:
    network = keras.Sequential([keras.Input((784,)), *map(keras.layers.Dense, units)])
    return save_with_keras(network, Path("their file.h5"))


def test_a_foreign_file_holds_no_run_to_go_on_with(run: Run) -> None:
    ended = run("train", "--resume", make_foreign(10))
    assert (ended.code, ended.out, ended.err) == (
        5,
        "",
        "mnistcli: error: their file.h5: no run of mnistcli's to go on with. Start a new one from"
        " its weights: mnistcli train CONFIG --init-from 'their file.h5'\n",
    )


def test_a_changed_file_is_not_gone_on_with(run: Run, train_once: Train) -> None:
    model = train_once(*SMALL, "--epochs", 1)
    with h5py.File(model, "r+") as file:
        file.attrs["note"] = "mine"
    before = model.read_bytes()
    ended = run("train", "--resume", model)
    assert (ended.code, ended.out, ended.err) == (
        5,
        "",
        "mnistcli: error: model.h5: changed since mnistcli wrote it (its checksum is gone)."
        " Go on with it all the same by --force, or start a new run from its weights:"
        " mnistcli train CONFIG --init-from model.h5\n",
    )
    assert model.read_bytes() == before


def test_force_goes_on_with_a_changed_file_and_seals_it_again(run: Run, train_once: Train) -> None:
    whole = train_once(*HARD, "--epochs", 3, name="whole.h5")
    model = train_once(*HARD, "--epochs", 1)
    with h5py.File(model, "r+") as file:
        file.attrs["note"] = "mine"
    ended = run("train", "--resume", model, "--epochs", 3, "--force", "-q")
    assert (ended.code, ended.out) == (0, "model.h5\n")
    assert drop_data_warning(ended.err) == (
        "mnistcli: warning: model.h5: changed since mnistcli wrote it (its checksum is gone):"
        " taken as it is by --force\n"
    )
    assert run("train", "--resume", model, "-q").code == 0
    assert read_arrays(model) == read_arrays(whole)


def test_force_is_for_resumed_runs(run: Run) -> None:
    ended = run("train", "--force")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --force: it goes on with a run that has changed."
        " Name the run: --resume FILE.h5\n",
    )


def test_on_another_machine_no_bits_are_promised(run: Run, train_once: Train) -> None:
    model = train_once(*SMALL, "--epochs", 1)
    checkpoint = read_checkpoint(model, "all")
    assert checkpoint.record is not None
    assert checkpoint.state is not None
    here = checkpoint.record.environment
    there = here.model_copy(
        update={"versions": {**here.versions, "keras": "3.0.0"}, "onednn": not here.onednn}
    )
    record = checkpoint.record.model_copy(update={"environment": there})
    replace_checkpoint(model, checkpoint.state, record)
    ended = run("train", "--resume", model, "--more", 1, "-q")
    assert (ended.code, ended.out) == (0, "model.h5\n")
    assert drop_data_warning(ended.err) == (
        "mnistcli: warning: cannot promise the same bits: keras 3.0.0 ->"
        f" {here.versions['keras']}, TF_ENABLE_ONEDNN_OPTS 0 -> 1\n"
    )


def test_init_from_takes_the_weights_and_nothing_else(run: Run, train_once: Train) -> None:
    first = train_once(*SMALL, "--epochs", 5)
    words = (*SMALL, "--seed", 9, "--init-from", first, "-o", "m.h5")
    answer = run("train", *words, "--epochs", 1, "--json").json
    assert answer["epochs"] == 1
    went_on = read_checkpoint(Path("m.h5"), "all")
    assert went_on.state is not None
    steps = {array.name: array.values for array in went_on.state.network.optimizer}
    [iteration] = [values for name, values in steps.items() if name.endswith("iteration")]
    assert iteration == 11  # the optimizer began afresh: batches of one epoch
    before = run("summary", first, "--json").json["training"]["last"]["loss"]
    fresh = run("train", *SMALL, "--seed", 9, "--epochs", 1, "--json", "-o", "f.h5").json
    assert answer["history"]["loss"][0] < before < fresh["history"]["loss"][0]
    assert went_on.record is not None
    assert went_on.record.init_from == "model.h5"


def test_weights_of_another_network_are_refused(run: Run, train_once: Train) -> None:
    model = train_once("--epochs", 1)
    ended = run("train", *MLP, "--init-from", model, "-o", "m.h5")
    assert (ended.code, ended.out) == (5, "")
    assert drop_data_warning(ended.err) == (
        "mnistcli: error: model.h5: its weights [(784, 10), (10,)] do not fit this network's"
        " [(784, 16), (16,), (16, 10), (10,)]. Use the config that it was trained with\n"
    )
    assert list_files() == ["model.h5"]


def test_a_foreign_file_can_give_the_first_weights(run: Run) -> None:
    theirs = make_foreign(10)
    ended = run("train", *SMALL, "--init-from", theirs, "--epochs", 1, "-q", "-o", "m.h5")
    assert (ended.code, ended.out) == (0, "m.h5\n")


def test_a_run_from_a_keras_files_weights_ends_where_keras_does(
    run: Run, digits_directory: Path
) -> None:
    network = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    theirs = save_with_keras(network, Path("theirs.h5"))
    words = (*SMALL, "--init-from", theirs, "--epochs", 2, "--set", "training.shuffle=false")
    history = run("train", *words, "--json", "-o", "m.h5").json["history"]
    network.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy", metrics=["accuracy"])
    with np.load(digits_directory / "mnist.npz") as data:
        inputs, labels = data["x_train"].reshape(-1, 784) / 255, np.eye(10)[data["y_train"]]
    done = network.fit(inputs, labels, 100, 2, shuffle=False, verbose=0)
    np.testing.assert_allclose(history["loss"], done.history["loss"], rtol=1e-4)
    weights = read_checkpoint(Path("m.h5")).weights
    for mine, reference in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-5)


def test_a_run_that_diverges_names_the_epoch_and_the_checkpoint_kept(run: Run) -> None:
    words = ("--model", "mlp", "--activation", "exponential", "--learning-rate", "1e6",
             "--set", "training.loss=mean_squared_error", "-o", "m.h5")  # fmt: skip
    ended = run("train", *words, "--json")
    assert ended.code == ended.json["error"]["code"] == 6
    assert ended.json["error"]["kind"] == "diverged"
    line = drop_data_warning(ended.err)
    assert re.fullmatch(
        r"mnistcli: error: epoch 1: the (loss is|weights are) no longer finite: training has"
        r" diverged\. Lower the learning rate \(--learning-rate\); m\.h5 holds epoch 0\n",
        line,
    )
    kept = read_checkpoint(Path("m.h5"))
    assert kept.progress.epoch == 0
    assert all(np.isfinite(array).all() for array in kept.weights)


# Processes: signals, pipes, what TensorFlow prints


@pytest.mark.parametrize(
    ("number", "epochs"),
    [
        pytest.param(signal.SIGINT, 60, id="INT"),
        pytest.param(signal.SIGTERM, 200, id="TERM", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_the_run_which_then_goes_on_to_the_same_bits(
    run: Run, environment: dict[str, str], digits_directory: Path, train_once: Train,
    number: signal.Signals, epochs: int,
) -> None:  # fmt: skip
    whole = train_once(*LONG, "--epochs", epochs, name="whole.h5")
    data = Path("my data")
    data.symlink_to(digits_directory)
    words = ("train", *LONG, "--epochs", epochs, "-o", "m.h5", "--data-dir", data)
    with start(write_command(*words), environment) as process:
        wait_for_epoch(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert out == ""
    *epoch_lines, interrupted, hint = err.splitlines()
    assert all(line.startswith("epoch ") for line in epoch_lines)
    match = re.fullmatch(
        rf"interrupted (after|in epoch) (\d+) of {epochs}(?: epochs| \(step [\d,]+ of [\d,]+\));"
        r" saved m\.h5",
        interrupted,
    )
    assert match is not None
    completed = int(match[2]) - (match[1] == "in epoch")
    assert 0 < completed < epochs
    assert read_checkpoint(Path("m.h5")).progress.epoch == completed
    assert hint == "next  mnistcli train --resume m.h5 --data-dir 'my data'"

    ended = run(*shlex.split(hint)[2:], "-q")
    assert (ended.code, ended.out) == (0, "m.h5\n")
    assert read_arrays(Path("m.h5")) == read_arrays(whole)


def test_ctrl_c_stops_a_shell_loop(environment: dict[str, str]) -> None:
    words = shlex.join(write_command("train", *LONG, "--epochs", 1_000_000))
    script = f"for i in 1 2 3; do {words} -o run$i.h5; done; echo went on"
    with start(["bash", "-c", script], environment) as shell:
        wait_for_epoch(shell)
        os.killpg(shell.pid, signal.SIGINT)  # as a terminal does: to shell and run alike
        out, err = shell.communicate(timeout=30)
    assert shell.returncode == -signal.SIGINT
    assert out == ""
    assert "saved run1.h5\nnext  mnistcli train --resume run1.h5\n" in err
    assert {"run1.h5", "run2.h5"} & set(list_files()) == {"run1.h5"}


def test_a_reader_that_leaves_does_not_end_the_training(environment: dict[str, str]) -> None:
    words = shlex.join(write_command("train", *SMALL, "--epochs", 5, "--jsonl", "-o", "m.h5"))
    script = f"{words} | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", script],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    line, code = ended.stdout.splitlines()
    assert json.loads(line)["epoch"] == 1
    assert code == "141"
    assert drop_data_warning(ended.stderr) == ""
    finished = read_checkpoint(Path("m.h5"))
    assert finished.progress.epoch == 5
    assert finished.record is not None
    assert finished.record.test is not None


def test_a_run_that_early_stopping_ended_says_so_and_goes_on_only_when_asked(run: Run) -> None:
    settings = [
        "training.early_stopping={patience: 1, min_delta: 5.0}", "training.optimizer=adam",
        "training.label_smoothing=0.1", "model.l2=0.01", "training.batch_size=100",
    ]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    ended = run("train", "--epochs", 9, "--validation", 0.2, *words, "-o", "m.h5")
    assert ended.code == 0, ended.err
    again = run("train", "--resume", "m.h5", "--json").json
    assert (again["epochs"], again["stopped_early"], again["weights_epoch"]) == (2, True, 1)
    assert again["metrics"] == {name: values[0] for name, values in again["history"].items()}
    assert (
        "early stopping ended the run after 2 epochs; the weights are those of epoch 1:"
        f" loss {again['metrics']['loss']:.4f}"
    ) in ended.err
    scored = run("evaluate", "m.h5", "--json").json["results"][0]
    assert scored["loss"] == again["test"]["loss"]
    assert scored["accuracy"] == again["test"]["accuracy"]
    more = run("train", "--resume", "m.h5", "--more", 1, "--json").json
    assert more["epochs"] == 3
    assert more["history"]["loss"][:2] == again["history"]["loss"]


def test_a_training_that_failed_ends_with_one_warning(run: Run) -> None:
    causes = "or too low, or labels that do not belong to their images"
    words = ("train", "--batch-size", 10, "-q")
    for rate, symptom in ((1e6, "the loss is "), (1e-6, "the accuracy is ")):
        ended = run(*words, "--epochs", 2, "--learning-rate", rate, "-o", f"{rate}.h5")
        assert ended.code == 0
        [line] = [text for text in ended.err.splitlines() if "seems to have failed" in text]
        assert line.startswith(f"mnistcli: warning: training seems to have failed: {symptom}")
        assert line.endswith(causes)
    # two steps are not many, four images tell nothing, and a poor run has not failed
    few = run("train", "--epochs", 1, "-q", "-o", "few.h5")
    xor = run("train", "xor", "--epochs", 200, "--learning-rate", 1e-6, "-q", "-o", "xor.h5")
    poor = run(*words, "--epochs", 1, "-o", "poor.h5")
    assert "seems" not in few.err + xor.err + poor.err
