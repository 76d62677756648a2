"""Every recipe's published figures, on the real data."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Run
from mnistcli.config.recipes import list_recipes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("recipe", [recipe.name for recipe in list_recipes()])
def test_every_published_story_holds(run: Run, mnist_directory: Path, recipe: str) -> None:
    if recipe == "cifar10-mlp" and not list(mnist_directory.glob("cifar-10*")):
        pytest.skip("MNISTCLI_DATA_DIR names no folder with CIFAR-10")
    ended = run("reproduce", recipe, "-q", "--data-dir", mnist_directory)
    assert (ended.code, ended.out) == (0, f"{recipe} holds\n")
