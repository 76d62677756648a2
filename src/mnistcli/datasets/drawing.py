"""Draw handwritten-looking digits: a skeleton, a hand that disturbs it, a pen, and MNIST's framing.

The framing is that of Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten
digits": the digit is scaled into a box of 20 x 20 pixels with its aspect ratio kept, and the box
is placed in 28 x 28 pixels so that the centre of its mass comes to the middle.

The ink is a sum of Gaussians along the stroke. A Gaussian is a product of one in x and one in y,
so that all the pixels of an image are a single matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.strokes import SKELETONS, Skeleton

GENERATOR_VERSION: int = 1
"""Grows with every change to strokes or drawing that changes a pixel."""

BOX_SIZE = 20
FRAME_SIZE = 28

# The hand: standard deviations between writers, lengths in digit heights.
JITTER = 0.05
SLANT_MEAN, SLANT_DEVIATION = 0.2, 0.25  # horizontal shift per height; people lean to the right
ROTATION_DEVIATION = np.radians(8)
ASPECT_DEVIATION = 0.2  # of the logarithm of width by height
WAVES = 2
WAVE_NUMBER = 3.0  # radians per height: under half a wave, which bends without wobbling
WAVE_AMPLITUDE = 0.06

# The pen: lengths in pixels, fitted to the grey values and ink of MNIST's training images.
RADIUS_MEDIAN, RADIUS_DEVIATION = 1.25, 0.27  # the deviation is the logarithm's
RADIUS_RANGE = (0.75, 2.8)
PRESSURE = 0.3
SOFTNESS = 0.6  # square pixels; rounds where strokes meet
EDGE_WIDTH = 1.2

BATCH_SIZE = 256
"""Images drawn together, so that their arrays stay in the processor's cache. It decides the
order of random numbers: a change is a new generator version."""

_Floats = NDArray[np.float64]


def draw_digits(digits: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image for each digit, in that order.

    Args:
        digits: uint8 [n], values 0 to 9.
        generator: where all chance comes from; its state decides the images.

    Returns:
        uint8 [n, 28, 28], white (255) on black (0).

    Raises:
        ValueError: a digit above 9.
    """
    if np.any(digits >= len(SKELETONS)):
        raise ValueError(f"digits are 0 to 9; received: {int(digits.max())}")
    boxes = np.empty((len(digits), BOX_SIZE, BOX_SIZE), np.uint8)
    for digit, skeletons in enumerate(SKELETONS):
        positions = np.flatnonzero(digits == digit)
        shares = np.array([skeleton.share for skeleton in skeletons])
        choices = generator.choice(len(shares), len(positions), p=shares / shares.sum())
        for choice, skeleton in enumerate(skeletons):
            chosen = positions[choices == choice]
            for start in range(0, len(chosen), BATCH_SIZE):
                batch = chosen[start : start + BATCH_SIZE]
                boxes[batch] = _draw_boxes(skeleton, len(batch), generator)
    return _frame_by_mass(boxes)


def _draw_boxes(
    skeleton: Skeleton, count: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Write one skeleton `count` times, each filling its box: uint8 [count, 20, 20]."""
    shape = (count, *skeleton.control_points.shape)
    control_points = skeleton.control_points + generator.normal(0, JITTER, shape)
    piece_ends = _lean(_bend(skeleton.piece_ends @ control_points, generator), generator)
    radius = np.exp(generator.normal(np.log(RADIUS_MEDIAN), RADIUS_DEVIATION, (count, 1, 1)))
    radius = np.clip(radius, *RADIUS_RANGE)
    starts, ends = np.split(_fit_box(piece_ends, radius), 2, axis=1)
    lengths = np.linalg.norm(ends - starts, axis=2)
    ink = lengths * _press(lengths.shape, generator)
    distance = _measure_distance((starts + ends) / 2, ink)
    coverage = np.clip(0.5 + (radius - distance) / EDGE_WIDTH, 0, 1)
    grey: NDArray[np.uint8] = np.rint(255 * coverage).astype(np.uint8)
    return grey


def _bend(points: _Floats, generator: np.random.Generator) -> _Floats:
    """Warp each image's points [n, points, 2] smoothly: no hand repeats a shape."""
    count = len(points)
    for _ in range(WAVES):
        wave_vector = generator.normal(0, WAVE_NUMBER, (count, 2, 1))
        phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
        amplitude = generator.normal(0, WAVE_AMPLITUDE, (count, 1, 2))
        points = points + amplitude * np.sin(points @ wave_vector + phase)
    return points


def _lean(points: _Floats, generator: np.random.Generator) -> _Floats:
    """Stretch, slant and rotate each image's points [n, points, 2], as hands differ in habit."""
    count = len(points)
    aspect = np.exp(generator.normal(0, ASPECT_DEVIATION, count))
    slant = generator.normal(SLANT_MEAN, SLANT_DEVIATION, count)
    angle = generator.normal(0, ROTATION_DEVIATION, count)
    stretch = np.zeros((count, 2, 2))
    stretch[:, 0, 0], stretch[:, 1, 0], stretch[:, 1, 1] = aspect, -slant, 1
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.stack([cosine, sine, -sine, cosine], axis=1).reshape(count, 2, 2)
    leaning: _Floats = points @ (stretch @ rotation)
    return leaning


def _fit_box(points: _Floats, radius: _Floats) -> _Floats:
    """Scale points to pixels so that the stroke, `radius` around them, just fills the box."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    extent = (high - low).max(axis=2, keepdims=True)
    middle = (BOX_SIZE - 1) / 2
    fitted: _Floats = middle + (points - (low + high) / 2) * (BOX_SIZE - 2 * radius) / extent
    return fitted


def _press(shape: tuple[int, ...], generator: np.random.Generator) -> _Floats:
    """Factors [n, pieces] by which the ink waxes and wanes along the way of the pen."""
    phase = generator.uniform(0, 2 * np.pi, (shape[0], 1))
    speed = generator.uniform(2, 8, (shape[0], 1))
    return np.exp(PRESSURE * np.sin(phase + speed * np.linspace(0, 1, shape[1])))


def _measure_distance(points: _Floats, ink: _Floats) -> NDArray[np.float32]:
    """Each pixel's distance to the stroke, a smooth minimum: float32 [n, 20, 20], in pixels.

    Along a straight stroke the Gaussians sum to exp(-distance² / softness), whose logarithm
    gives the distance back; where strokes meet, more ink shortens it a little, as on paper.
    """
    grid = np.arange(BOX_SIZE, dtype=np.float32)
    offsets = points.astype(np.float32)[..., None] - grid  # [n, pieces, 2, 20]
    gaussians = np.exp(-(offsets**2) / np.float32(SOFTNESS))
    weights = (ink / np.sqrt(np.pi * SOFTNESS)).astype(np.float32)
    columns, rows = gaussians[:, :, 0], gaussians[:, :, 1] * weights[..., None]
    total = rows.transpose(0, 2, 1) @ columns
    tiny = np.finfo(np.float32).tiny
    squared: NDArray[np.float32] = -np.float32(SOFTNESS) * np.log(np.maximum(total, tiny))
    return np.sqrt(np.maximum(squared, 0))


def _frame_by_mass(boxes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Place boxes [n, 20, 20] in frames [n, 28, 28], their centre of mass at pixel (14, 14)."""
    pixels = np.arange(BOX_SIZE)
    row_mass, column_mass = boxes.sum(axis=2, dtype=np.int64), boxes.sum(axis=1, dtype=np.int64)
    mass = row_mass.sum(axis=1)
    # A box never leaves the frame, however far from its middle the mass is.
    top, left = (
        np.clip(np.rint(FRAME_SIZE / 2 - side @ pixels / mass), 0, FRAME_SIZE - BOX_SIZE)
        for side in (row_mass, column_mass)
    )
    frames = np.zeros((len(boxes), FRAME_SIZE, FRAME_SIZE), np.uint8)
    rows = top.astype(np.intp)[:, None, None] + pixels[:, None]
    columns = left.astype(np.intp)[:, None, None] + pixels
    frames[np.arange(len(boxes))[:, None, None], rows, columns] = boxes
    return frames
