"""Digits on photographed paper are recognised nearly as well as the originals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from helpers.paper import SCENES, photograph

pytestmark = pytest.mark.slow


def test_real_digits_on_paper_are_read_within_three_points_of_the_originals(
    run: Run, mnist_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MNISTCLI_DATA_DIR", str(mnist_directory))
    assert run("train", "mnist-mlp", "-q", "-o", "mlp.h5").code == 0
    with np.load(mnist_directory / "mnist.npz") as arrays:
        images, truths = arrays["x_test"], arrays["y_test"]
    (tmp_path / "paper").mkdir()
    (tmp_path / "clean").mkdir()
    generator = np.random.default_rng(0)
    rows = generator.choice(len(images), 20 * len(SCENES), replace=False)
    for number, row in enumerate(rows):
        scene = list(SCENES.values())[number % len(SCENES)]
        (tmp_path / f"paper/{number}.jpg").write_bytes(photograph(images[row], scene, generator))
        Image.fromarray(images[row]).save(tmp_path / f"clean/{number}.png")
    right = {}
    for folder in ("paper", "clean"):
        answer = run("predict", "mlp.h5", folder, "--json").json["predictions"]
        classes = np.array([prediction["class"] for prediction in answer])
        right[folder] = float((classes == truths[rows]).mean())
    assert right["paper"] >= right["clean"] - 0.03
