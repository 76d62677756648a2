"""`train --repeat`: runs bit-identical to single ones, all or none of them, and their spread."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
from pathlib import Path

import pytest

from conftest import Run, Train
from helpers.commands import HARD, SMALL, drop_data_warning, list_files, read_arrays, start
from helpers.commands import write_command as command

PAIR = ("xor", "--epochs", 2, "--repeat", 2)  # compiles fastest


def test_a_later_run_has_the_bits_of_a_single_run_with_its_seed(run: Run) -> None:
    ended = run("train", *HARD, "--epochs", 2, "--repeat", 2, "-o", "m.h5", "--json")
    lines = drop_data_warning(ended.err).splitlines()
    assert (ended.code, [line[:9] for line in lines]) == (0, 2 * ["epoch 1/2", "epoch 2/2"])
    assert list_files() == ["m-s5.best.h5", "m-s5.h5", "m-s6.best.h5", "m-s6.h5"]
    answer = ended.json
    assert set(answer) == {"version", "seeds", "test", "deviation", "runs"}
    assert (answer["version"], answer["seeds"]) == (1, [5, 6])
    single = run("train", *HARD[:-1], 6, "--epochs", 2, "-o", "single.h5", "--json").json
    first, second = answer["runs"]
    assert (first["checkpoint"], second["checkpoint"]) == ("m-s5.h5", "m-s6.h5")
    for key in ("dataset", "epochs", "history", "test"):
        assert second[key] == single[key]
    assert first["history"] != single["history"]
    for suffix in (".h5", ".best.h5"):
        assert read_arrays(Path(f"m-s6{suffix}")) == read_arrays(Path(f"single{suffix}"))
    for metric in ("accuracy", "loss"):
        values = [result["test"][metric] for result in answer["runs"]]
        assert answer["test"][metric] == pytest.approx(statistics.mean(values))
        assert answer["deviation"][metric] == pytest.approx(statistics.stdev(values))


def test_people_see_each_run_and_the_spread(run: Run) -> None:
    ended = run("train", *PAIR, "-o", "a b.h5")
    assert ended.code == 0
    score = r"test accuracy (0\.\d{4}), loss \d\.\d{4}"
    spread = r"test accuracy 0\.\d{4} ± 0\.\d{4}, loss \d\.\d{4} ± \d\.\d{4}"
    assert re.fullmatch(
        rf"a b-s0\.h5  {score}\na b-s1\.h5  {score}\n{spread} \(2 runs, seeds 0 to 1\)\n", ended.out
    )
    assert ended.err.splitlines()[-1] == "next  mnistcli compare 'a b-s0.h5' 'a b-s1.h5'"
    assert run("compare", "a b-s0.h5", "a b-s1.h5", "-q").code == 0
    quiet = run("train", *PAIR, "--seed", 3, "-q")
    first, second = quiet.out.splitlines()
    assert re.fullmatch(r"xor-mlp-s3-[\d-]+\.h5", first)
    assert re.fullmatch(r"xor-mlp-s4-[\d-]+\.h5", second)
    assert {first, second} < set(list_files())


def test_no_run_begins_where_one_could_not_be_written(run: Run) -> None:
    Path("m-s1.h5").write_text("mine")
    ended = run("train", *PAIR, "-o", "m.h5")
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        "mnistcli: error: --output: m-s1.h5 exists. Choose another name, or give --overwrite\n",
    )
    assert list_files() == ["m-s1.h5"]
    dry = run("train", *PAIR, "-o", "n.h5", "--dry-run")
    assert (dry.code, dry.err.splitlines()[-1]) == (0, "and so on to seed 1: n-s1.h5")
    assert list_files() == ["m-s1.h5"]


def test_an_interrupt_stops_all_of_them(environment: dict[str, str], tmp_path: Path) -> None:
    words = command("train", *SMALL, "--epochs", 1_000_000, "--repeat", 3, "-o", "m.h5", "--jsonl")
    with start(words, environment, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["epoch"] == 1
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    *_, saved, following, rest = err.splitlines()
    assert saved.startswith("interrupted ")
    assert saved.endswith("; saved m-s0.h5")
    assert following == "next  mnistcli train --resume m-s0.h5"
    assert rest == "not begun: seeds 1, 2"
    assert [path.name for path in tmp_path.iterdir()] == ["m-s0.h5"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--resume", "model.h5"),
            "--repeat: a resumed run has one seed and one file. Leave out --resume, or --repeat",
        ),
        (
            ("--seed", 2**32 - 1),
            "--repeat: the last of 2 seeds from 4294967295 would be larger than 4294967295."
            " Begin with a smaller --seed",
        ),
        (("-o", "m"), "--output: m does not end in .h5. Write -o m.h5"),
    ],
)
def test_refused(run: Run, train_once: Train, words: tuple[object, ...], message: str) -> None:
    if "--resume" in words:
        train_once(*SMALL, "--epochs", 1)
    before = list_files()
    ended = run("train", "--repeat", 2, *words)
    assert (ended.code, ended.err) == (2, f"mnistcli: error: {message}\n")
    assert list_files() == before
