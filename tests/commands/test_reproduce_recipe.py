"""`mnistcli reproduce RECIPE`: the published figures of a recipe, one by one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Ended, Run
from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import hash_weights
from mnistcli.commands.reproduce import run_recipe
from mnistcli.commands.train.request import TrainArguments
from mnistcli.config.recipes import find_recipe

NOT_CANONICAL = "is not canonical MNIST"


def drop_warnings(ended: Ended) -> str:
    return "".join(x for x in ended.err.splitlines(True) if NOT_CANONICAL not in x)


def test_each_figure_is_shown_as_published_as_measured_and_now(run: Run) -> None:
    ended = run("reproduce", "xor")
    assert ended.code == 0, ended.out
    rows = [re.split(r"\s{2,}", line.strip()) for line in ended.out.splitlines() if line.strip()]
    assert rows[0] == ["recipe", "figure", "published", "measured before", "now", "verdict"]
    assert rows[2][:4] == ["xor", "epoch 1 loss", "0.2580", "0.2625-0.2923"]
    assert [row[0] for row in rows[3:6]] == ["epoch 100 loss", "test loss", "test accuracy"]
    assert {row[-1] for row in rows[2:6]} <= {"as published", "as measured"}
    assert ended.err.startswith("xor: Exclusive or: four rows")
    assert list(Path().iterdir()) == []  # its checkpoints were nobody's


def test_a_story_is_told_by_its_checkpoints(run: Run) -> None:
    names = [row.name for row in find_recipe("mnist-softmax-adam").read_reference_results().rows]
    arguments = TrainArguments(config="mnist-softmax-adam")  # MNIST is drawn digits here
    with RunLock() as lock:
        now = run_recipe(arguments, names, Path(), lock).figures
    for path, prefix in (("first.h5", ""), ("again.h5", "then ")):
        [score] = run("evaluate", path, "--json").json["results"]
        assert now[f"{prefix}test loss"] == score["loss"]
        assert now[f"{prefix}test accuracy"] == score["accuracy"]
        assert run("summary", path, "--json").json["training"]["epochs"] == 15
    assert now["then test loss"] < now["test loss"]
    first, again = (read_checkpoint(Path(path), "all") for path in ("first.h5", "again.h5"))
    assert again.record is not None
    assert again.record.init_weights_sha256 == hash_weights(first.weights)
    rows = run("predict", "again.h5", "--split", "test", "--first", 20, "--json").json
    wrong = [row["class"] != row["truth"] for row in rows["predictions"]]
    assert now["first 20 wrong"] == sum(wrong)
    assert now["image 8 as 6"] == pytest.approx(rows["predictions"][8]["probabilities"][6])


def test_figures_that_differ_are_exit_3(run: Run) -> None:
    ended = run("reproduce", "mnist-softmax-sgd5", "--json")  # MNIST is drawn digits here
    answer = ended.json
    assert (ended.code, answer["holds"], answer["error"]["code"]) == (3, False, 3)
    [recipe] = answer["recipes"]
    assert set(recipe) == {
        "recipe", "dataset", "measured_on", "seeds", "figures", "holds", "seconds",
    }  # fmt: skip
    figure = recipe["figures"][1]
    assert set(figure) == {"name", "published", "measured", "tolerance", "now", "verdict"}
    assert (figure["name"], figure["published"]) == ("train loss", 0.3527)
    assert figure["measured"] == [0.3525, 0.3529, 0.3523, 0.3528, 0.3520]
    assert figure["tolerance"] == pytest.approx({"low": 0.3511, "high": 0.3538}, abs=1e-4)
    assert figure["verdict"] == "differs"
    [error] = [x for x in drop_warnings(ended).splitlines() if x.startswith("mnistcli: error")]
    assert re.fullmatch(
        r"mnistcli: error: mnist-softmax-sgd5: \d of 5 figures differ from those measured before\."
        r" Look for other data or versions: mnistcli doctor",
        error,
    )


def test_a_recipe_wins_over_a_file_of_its_name_and_a_file_over_nothing(
    run: Run, digits_directory: Path
) -> None:
    Path("xor").write_text("mine")
    assert run("reproduce", "./xor").code == 5
    Path("notes").write_text("mine")
    assert run("reproduce", "notes").code == 5
    assert run("reproduce", "xor", "-q").out == "xor holds\n"
    missing = run("reproduce", "--all", "--data-dir", digits_directory)
    assert (missing.code, missing.out) == (4, "")  # CIFAR-10, before anything is trained
    assert "epoch 1/" not in missing.err
