"""Custom images in the layouts that users have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conftest import make_digits

Pixels = NDArray[np.uint8]


def write_picture(path: Path, pixels: Pixels) -> Pixels:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_digits(root: Path, count: int, seed: int, *, kind: str = "png") -> Path:
    """A folder for each digit, named one, two, …"""
    split = make_digits(count, seed)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        write_picture(root / names[label] / f"{number}.{kind}", image)
    return root


def make_square(level: int, height: int = 4, width: int = 6, *, colour: bool = False) -> Pixels:
    """A picture whose first pixel differs from the others."""
    pixels = np.full((height, width, 3) if colour else (height, width), level, np.uint8)
    pixels[0, 0] = 255 - level
    return pixels


def write_squares(root: Path) -> Path:
    """cat and dog, below train and test: 3 + 2 and 1 + 1 pictures of 6 x 4 in grey."""
    for name, levels in {"train/cat": (1, 2, 3), "train/dog": (101, 102)}.items():
        for level in levels:
            write_picture(root / name / f"{level}.png", make_square(level))
    write_picture(root / "test/cat/4.png", make_square(4))
    write_picture(root / "test/dog/103.png", make_square(103))
    return root
