"""What was asked of a picture's preparation, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ImageKind = Literal["digit", "picture", "custom", "numbers"]
"""What the images of a data set show, which decides how image files are prepared for its networks.

digit: light handwriting on black, found and framed as MNIST's; picture: anything else, scaled with
its proportions kept; custom: the user's own images, resized to their data set's size; numbers: no
images.
"""

Prepare = Literal["auto", "resize", "none"]
Step = Literal["page", "ground", "lines", "specks", "crop", "centre"]
InkSide = Literal["dark", "light"]
InkChoice = Literal["auto", "dark", "light"]


@dataclass(frozen=True)
class Treatment:
    """How pictures are prepared.

    Attributes:
        prepare: `auto` finds the digit and frames it as MNIST's makers did; `resize` only scales
            the whole picture; `none` takes pictures that have the network's size already.
        ink: darker or lighter than its ground; `auto` finds out.
        skipped: steps of `auto` to leave out.
    """

    prepare: Prepare = "auto"
    ink: InkChoice = "auto"
    skipped: frozenset[Step] = frozenset()


AUTO = Treatment()


@dataclass(frozen=True)
class Size:
    """In pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Ground:
    """Its median level, 0 to 255, and by what share of its lightest it varies."""

    level: int
    unevenness: float


@dataclass(frozen=True)
class Lines:
    """How many ruled lines were taken away."""

    removed: int


@dataclass(frozen=True)
class Regions:
    """How many separate regions of ink there were, and how many of them are the digit's."""

    found: int
    kept: int


@dataclass(frozen=True)
class Crop:
    """The part of the upright picture that was used, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Centre:
    """By how many of the 28 pixels the centre of mass moved what would stand in the middle."""

    right: int
    down: int


@dataclass(frozen=True)
class Preparation:
    """What was done to a picture before the network saw it; null is a step that was not taken.

    Attributes:
        prepare: as asked for.
        picture: the size of the file's picture, upright.
        ink: dark ink was inverted; null for pictures in colour.
        contrast: of the ink against its ground, 0 to 1.
        page: it lay on something darker; null where the picture is all page.
    """

    prepare: Prepare
    picture: Size
    ink: InkSide | None = None
    contrast: float | None = None
    page: Crop | None = None
    ground: Ground | None = None
    lines: Lines | None = None
    specks: Regions | None = None
    crop: Crop | None = None
    centre: Centre | None = None


def describe_preparation(preparation: Preparation) -> str:
    """Say in one line for people what was done; empty where there is nothing to tell."""
    words = ["dark on light, inverted"] if preparation.ink == "dark" else []
    if preparation.lines is not None and preparation.lines.removed:
        count = preparation.lines.removed
        words.append(f"{count} ruled line{'s' if count > 1 else ''} removed")
    if preparation.crop is not None and preparation.ink is not None:
        crop = preparation.crop
        words.append(f"digit found: {crop.width} x {crop.height} at ({crop.left}, {crop.top})")
    return ", ".join(words)
