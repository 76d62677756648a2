"""`mnistcli reproduce RECIPE`: a published story again, figure by figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Ended, Run
from mnistcli.config import find_recipe, list_recipes

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


def test_a_story_is_what_the_single_commands_give_and_exit_3_where_figures_differ(run: Run) -> None:
    ended = run("reproduce", "mnist-softmax-adam", "--json")  # MNIST is drawn digits here
    answer = ended.json
    assert (ended.code, answer["holds"], answer["error"]["code"]) == (3, False, 3)
    [recipe] = answer["recipes"]
    assert set(recipe) == {
        "recipe", "dataset", "measured_on", "seeds", "figures", "holds", "seconds",
    }  # fmt: skip
    now = {figure["name"]: figure["now"] for figure in recipe["figures"]}
    assert list(now) == [row.name for row in find_recipe("mnist-softmax-adam").read_figures().rows]

    first = run("train", "mnist-softmax-adam", "-o", "a.h5", "--json").json
    words = ("mnist-softmax-adam", "--init-from", "a.h5", "-o", "b.h5")
    then = run("train", *words, "--json").json
    assert now["test loss"] == first["test"]["loss"]
    assert now["test accuracy"] == first["test"]["accuracy"]
    assert now["then test loss"] == then["test"]["loss"]
    rows = run("predict", "b.h5", "--split", "test", "--first", 20, "--json").json["predictions"]
    assert now["first 20 wrong"] == sum(row["class"] != row["truth"] for row in rows)
    assert now["image 8 as 6"] == pytest.approx(rows[8]["probabilities"][6])

    figure = recipe["figures"][0]
    assert set(figure) == {"name", "published", "measured", "tolerance", "now", "verdict"}
    assert (figure["published"], figure["verdict"]) == (0.2647, "differs")
    assert figure["measured"] == [0.2630, 0.2660, 0.2636, 0.2648, 0.2640]
    assert figure["tolerance"] == pytest.approx({"low": 0.2599, "high": 0.2691}, abs=1e-4)
    [error] = [x for x in drop_warnings(ended).splitlines() if x.startswith("mnistcli: error")]
    assert re.fullmatch(
        r"mnistcli: error: mnist-softmax-adam: \d of 6 figures differ from those measured before\."
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


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe.name for recipe in list_recipes()])
def test_every_published_story_holds(run: Run, mnist_directory: Path, recipe: str) -> None:
    if recipe == "cifar10-mlp" and not list(mnist_directory.glob("cifar-10*")):
        pytest.skip("MNISTCLI_DATA_DIR names no folder with CIFAR-10")
    ended = run("reproduce", recipe, "-q", "--data-dir", mnist_directory)
    assert (ended.code, ended.out) == (0, f"{recipe} holds\n")
