"""Misclassified images: which ones are found, and how they are drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mnistcli.datasets.base import Split
from mnistcli.metrics.scores import Misclassified, find_misclassified
from mnistcli.training.tensorboard_writer import draw_misclassified

NAMES = ("cat", "dog")


def test_the_surest_misclassified_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], np.float32)
    labels = np.array([0, 0, 0, 1], np.uint8)
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    surest, second = find_misclassified(predicted, confidences, labels, 9)
    assert (surest.row, surest.true_class, surest.predicted) == (2, 0, 1)
    assert surest.probability == pytest.approx(0.8)
    assert second.row == 1
    assert find_misclassified(predicted, confidences, labels, 1) == (surest,)


@pytest.mark.parametrize("shape", [(28, 28), (32, 32, 3)])
def test_a_sheet_shows_each_image_in_its_place(shape: tuple[int, ...]) -> None:
    images = np.zeros((30, *shape), np.uint8)
    images[7] = 200
    split = Split(images, np.zeros(30, np.uint8))
    misclassified = [Misclassified(row, 0, 1, 0.5) for row in range(8)]
    picture = draw_misclassified(split, misclassified, NAMES)
    assert (picture.width, picture.height) == (6 * 120, 2 * 148)
    with Image.open(io.BytesIO(picture.png)) as sheet:
        assert sheet.getpixel((60, 60)) == (0, 0, 0)
        assert sheet.getpixel((60 + 120, 60 + 148)) == (200, 200, 200)  # the eighth: second row
        assert sheet.getpixel((60 + 5 * 120, 60 + 148)) == (255, 255, 255)  # nobody's place


def test_no_more_is_drawn_than_has_a_place() -> None:
    split = Split(np.zeros((30, 28, 28), np.uint8), np.zeros(30, np.uint8))
    picture = draw_misclassified(split, [Misclassified(row, 0, 1, 0.5) for row in range(30)], NAMES)
    assert (picture.width, picture.height) == (6 * 120, 4 * 148)
