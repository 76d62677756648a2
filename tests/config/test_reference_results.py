"""Reference results of recipes: parsing their headers and comparing new figures."""

from __future__ import annotations

import math

import pytest

from mnistcli.config.recipes import (
    ReferenceResult,
    ReferenceResults,
    list_recipes,
    parse_reference_results,
)

HEADER = """\
Softmax regression on MNIST.

Run:       mnistcli train mine
Time:      0.031 s a warm epoch on 2 cores
Data:      measured on drawn digits

figure                published   seed 0   seed 3
epoch 1 val_accuracy     0.3099   0.2961   0.3102
test accuracy                 -   0.9013   0.9015
first 20 wrong                1        1        1"""


def test_a_header_holds_all_figures() -> None:
    assert parse_reference_results(HEADER.splitlines()) == ReferenceResults(
        rows=(
            ReferenceResult("epoch 1 val_accuracy", 0.3099, (0.2961, 0.3102), 4),
            ReferenceResult("test accuracy", None, (0.9013, 0.9015), 4),
            ReferenceResult("first 20 wrong", 1.0, (1.0, 1.0), 0),
        ),
        seeds=(0, 3),
        epoch_s=0.031,
        measured_on="drawn digits",
    )


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_was_measured_with_five_seeds_of_which_each_holds(recipe: object) -> None:
    figures = recipe.read_reference_results()  # type: ignore[attr-defined]
    assert figures.seeds == (0, 1, 2, 3, 4)
    assert figures.test_accuracy in figures.rows
    for row in figures.rows:
        assert {row.judge(value) for value in row.measured} <= {"as published", "as measured"}


@pytest.mark.parametrize(
    ("published", "now", "verdict"),
    [
        # from 0.90 to 0.92, so a width of 0.02: 0.88 to 0.94 holds
        (0.9100, 0.9200, "as published"),
        (0.8801, 0.9399, "as published"),
        (0.8700, 0.9100, "as measured"),
        (None, 0.9100, "as measured"),
        (0.9100, 0.8798, "differs"),
        (0.9500, 0.9500, "differs"),
        (0.9100, math.nan, "differs"),
    ],
)
def test_a_figure_holds_within_the_seeds_range_widened_by_its_width(
    published: float | None, now: float, verdict: str
) -> None:
    assert ReferenceResult("test accuracy", published, (0.9, 0.92, 0.91), 4).judge(now) == verdict


def test_a_count_that_is_the_same_for_all_seeds_has_to_stay() -> None:
    wrong = ReferenceResult("first 20 wrong", 1.0, (1.0, 1.0), 0)
    assert [wrong.judge(count) for count in (0.0, 1.0, 2.0)] == [
        "differs",
        "as published",
        "differs",
    ]


@pytest.mark.parametrize("line", ["figure ", "Time:"])
def test_a_header_without_its_figures_is_a_mistake(line: str) -> None:
    lines = [text for text in HEADER.splitlines() if not text.startswith(line)]
    with pytest.raises(ValueError, match="missing"):
        parse_reference_results(lines)
