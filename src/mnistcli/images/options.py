"""The options of preparing image files, and the description of what was done to one."""

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

DIGIT_SHAPE = (28, 28)
COLOUR_SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class PreparationOptions:
    """The options of preparing image files.

    Attributes:
        prepare: `auto` finds the digit and frames it as in MNIST; `resize` only scales the whole
            picture; `none` accepts only pictures that have the network's size.
        ink: whether it is darker or lighter than its background; `auto` detects it.
        skipped: steps of `auto` to leave out.
    """

    prepare: Prepare = "auto"
    ink: InkChoice = "auto"
    skipped: frozenset[Step] = frozenset()


AUTO = PreparationOptions()


@dataclass(frozen=True)
class Size:
    """The size of a picture, in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Background:
    """The background's median level, 0 to 255, and by what share of its lightest it varies."""

    level: int
    unevenness: float


@dataclass(frozen=True)
class Lines:
    """How many ruled lines were removed."""

    removed: int


@dataclass(frozen=True)
class Regions:
    """How many separate regions of ink were found, and how many of them are the digit's."""

    found: int
    kept: int


@dataclass(frozen=True)
class Crop:
    """A part of the upright picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Centre:
    """By how many of the 28 pixels centring by mass moved the digit from the middle."""

    right: int
    down: int


@dataclass(frozen=True)
class Preparation:
    """What was done to a picture before the network saw it; null for steps that were not taken.

    Attributes:
        prepare: the option as given.
        picture: the size of the file's picture, upright.
        ink: dark ink was inverted; null for pictures in colour.
        contrast: of the ink to its background, 0 to 1.
        page: the page on something darker; null if the picture is all page.
        ground: the background's level.
        lines: the ruled lines that were removed.
        specks: the regions of ink, and those that were kept.
        crop: the part of the picture that the digit was cut from.
        centre: the offset of centring by mass.
    """

    prepare: Prepare
    picture: Size
    ink: InkSide | None = None
    contrast: float | None = None
    page: Crop | None = None
    ground: Background | None = None
    lines: Lines | None = None
    specks: Regions | None = None
    crop: Crop | None = None
    centre: Centre | None = None


def describe_preparation(preparation: Preparation) -> str:
    """Return what was done as a text of one line; empty if there is nothing to report."""
    words = ["dark on light, inverted"] if preparation.ink == "dark" else []
    if preparation.lines is not None and preparation.lines.removed:
        count = preparation.lines.removed
        words.append(f"{count} ruled line{'s' if count > 1 else ''} removed")
    if preparation.crop is not None and preparation.ink is not None:
        crop = preparation.crop
        words.append(f"digit found: {crop.width} x {crop.height} at ({crop.left}, {crop.top})")
    return ", ".join(words)
