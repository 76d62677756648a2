"""What can be drawn: everything that stands in a picture, before it is known how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.metrics.calibration import Calibration
from mnistcli.output.plots.colors import Pixels


@dataclass(frozen=True)
class Heading:
    """What stands above a picture: what it shows, and of what."""

    title: str
    note: str = ""


@dataclass(frozen=True)
class Caption:
    """What stands below an image; a mistake is marked."""

    lines: tuple[str, ...]
    is_mistake: bool = False


@dataclass(frozen=True)
class Tiles:
    """Images in rows and columns.

    Attributes:
        heading: above them.
        images: uint8 [n, height, width, 3].
        captions: one an image, or none at all.
        limit: images are signed numbers, coloured from -limit to limit; null for photographs.
        missing: what is said where there are no images.
    """

    heading: Heading
    images: Pixels
    captions: tuple[Caption, ...] = ()
    limit: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Line:
    """One value an epoch; not finite ones are gaps."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Lines that share an axis."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Curves:
    """Panels side by side, over the same epochs."""

    heading: Heading
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Confusion:
    """What was taken for what.

    Attributes:
        heading: above it.
        labels: of the classes.
        counts: int64 [classes, classes], rows the truth, columns the predictions.
    """

    heading: Heading
    labels: tuple[str, ...]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Kernel:
    """The weights of a layer whose inputs are no image.

    Attributes:
        heading: above it.
        values: float32 [inputs, units].
        limit: the largest size among them.
    """

    heading: Heading
    values: NDArray[np.float32]
    limit: float


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy."""

    heading: Heading
    calibration: Calibration


Picture = Tiles | Curves | Confusion | Kernel | Reliability
