"""Synthetic digits: drawn from stroke skeletons, random and deterministic, kept in a cache.

A skeleton is a way of writing a digit, a text of control points `x,y` in percent of the digit's
height, x to the right and y down. The pen passes them on a smooth curve (a uniform Catmull-Rom
spline); a slash after a point makes a corner of it, and ` ; ` lifts the pen. Each image distorts a
skeleton, draws it with a pen of random width, and is framed as MNIST is (Y. LeCun, C. Cortes,
C. J. C. Burges, "The MNIST database of handwritten digits"): scaled into a box of 20 x 20 pixels
with its aspect ratio kept, the box placed in 28 x 28 pixels so that the centre of mass comes to the
middle. The ink is a sum of Gaussians along the stroke; each is a product of one in x and one in y,
so that all pixels of an image are one matrix product.

An MLP of 128 units that is trained for 5 epochs on these digits alone (generator 1) classifies
89 % of MNIST's 60,000 training images correctly.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.atomic_files import replace_file
from mnistcli.datasets.base import (
    BuiltInDataset,
    Dataset,
    DatasetInfo,
    Identity,
    Split,
    SplitName,
    hash_splits,
)
from mnistcli.user_folders import make_private_folder

GENERATOR_VERSION: int = 1
"""Increased with every change that changes a pixel."""

SEED: int = 0
"""The data set does not depend on the seed of an experiment."""

BOX_SIZE = 20
FRAME_SIZE = 28

# Handwriting: standard deviations between writers, lengths in digit heights.
JITTER = 0.05
SLANT_MEAN, SLANT_DEVIATION = 0.2, 0.25  # horizontal shift per height, mostly to the right
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
"""Images drawn at a time, so that their arrays stay in the processor's cache. The order of random
numbers depends on it: a change is a new generator version."""

SEGMENT_LENGTH = 0.03
"""Length of the straight segments that a curve is cut into, in digit heights."""

INFO = DatasetInfo(
    name="synthetic",
    title="synthetic digits",
    image_shape=(FRAME_SIZE, FRAME_SIZE),
    class_names=tuple(str(digit) for digit in range(10)),
    train_count=10_000,
    test_count=2_000,
    image_kind="digit",
)

_COUNTS: dict[SplitName, int] = {"train": INFO.train_count, "test": INFO.test_count}

_Floats = NDArray[np.float64]

# fmt: off
_WRITTEN: tuple[tuple[tuple[float, str], ...], ...] = (
    (  # 0: closed; wide; begun inside; open at the top; with a tail
        (4, "48,0 14,24 8,70 38,100 72,76 76,24 46,0 30,7"),
        (2, "50,0 8,26 6,76 48,100 92,78 92,24 50,0 34,5"),
        (2, "64,10 34,6 6,52 30,98 68,86 80,38 52,2 34,22"),
        (2, "34,4 8,40 18,90 56,96 80,52 62,6"),
        (1, "70,0 50,6 14,30 12,78 42,100 74,70 74,26 50,4"),
    ),
    (  # 1: a plain stroke; bent; with a serif; with serif and foot
        (7, "50,0 50,50 50,100"),
        (2, "54,0 52,35 48,70 50,100"),
        (1, "30,20 52,0/ 50,50 50,100"),
        (0.7, "26,20 52,0/ 50,50 50,100 ; 18,100 50,99 86,98"),
    ),
    (  # 2: angular foot; looped foot; like a Z; swinging foot; small loop; wide loop
        (3, "12,22 36,2 72,10 72,38 44,70 8,97/ 46,96 88,96"),
        (3, "12,24 40,2 72,16 66,50 38,84 12,94 8,80 30,76 58,90 92,92"),
        (1, "10,10 44,4 76,8 66,38 36,70 8,98/ 50,96 92,94"),
        (2, "10,26 34,2 68,12 66,46 42,78 10,98/ 36,88 62,94 90,86"),
        (2, "18,14 46,0 76,14 66,50 40,84 22,96 12,86 32,78 54,92 80,104"),
        (2, "18,20 44,0 74,12 66,48 34,90 8,96 2,76 28,66 60,82 104,84"),
    ),
    (  # 3: pointed waist; flat top; looped waist; soft waist; leaning
        (4, "14,14 42,0 72,14 64,36 34,46/ 68,54 78,76 52,98 10,90"),
        (1, "12,4 42,2 76,4/ 38,42/ 70,50 78,74 54,98 10,92"),
        (2, "12,12 46,0 74,16 58,40 36,48 44,52 72,60 76,84 44,100 8,88"),
        (2, "18,8 50,2 68,18 58,40 40,48 62,56 72,76 48,98 10,96"),
        (2, "24,14 58,0 84,8 70,32 38,46/ 68,52 66,80 36,98 0,92"),
    ),
    (  # 4: open, two strokes; open with a round bowl; closed; like a y
        (3, "24,2 16,30 10,54/ 44,54 86,50 ; 72,2 66,50 60,100"),
        (3, "22,4 10,40 22,56 50,54 72,44 ; 76,2 70,50 62,100"),
        (2, "64,0 34,34 4,66/ 48,64 92,62 ; 66,0 64,50 60,100"),
        (2, "20,4 12,36 26,50 56,44 74,22 78,4/ 70,50 60,100"),
    ),
    (  # 5: separate cap; in one stroke; like an S; long cap; small bowl
        (4, "32,6 28,24 22,42/ 52,38 74,58 64,88 36,100 8,90 ; 32,6 58,4 86,0"),
        (3, "90,4 62,6 34,8/ 26,40/ 58,42 72,64 56,92 8,96"),
        (2, "84,6 50,4 30,20 42,42 66,62 58,90 32,100 6,92"),
        (2, "100,0 70,4 38,10 22,40 52,46 64,66 46,92 4,98"),
        (2, "36,10 30,46/ 62,56 66,86 36,100 16,84 ; 34,10 62,6 96,0"),
    ),
    (  # 6: round; straight stem; slim loop; wide loop; upright
        (4, "64,0 36,22 14,60 22,92 48,98 66,78 52,58 28,66 16,84"),
        (2, "50,0 28,34 12,70 26,98 56,94 64,72 42,60 16,76"),
        (2, "72,0 40,24 16,62 24,94 54,98 78,76 66,54 38,60 20,80"),
        (2, "40,0 18,30 6,70 22,98 62,96 78,72 56,58 26,72 12,88"),
        (2, "30,0 10,40 10,84 40,100 76,84 70,58 40,60 16,88"),
    ),
    (  # 7: straight; bent stem; with a bar; with a hook; round shoulder
        (4, "8,10 40,8 80,4/ 60,50 40,100"),
        (2, "10,8 44,8 84,4/ 56,44 46,100"),
        (1, "8,8 42,6 80,4/ 58,50 40,100 ; 28,52 54,48 80,46"),
        (2, "6,26 10,6/ 44,8 78,4/ 60,50 44,100"),
        (2, "8,20 30,4 66,4 74,24 58,62 44,100"),
    ),
    (  # 8: in one stroke; two rings; slim; begun in the middle; left open
        (4, "74,12 50,0 24,14 36,40 64,62 68,86 42,100 18,84 32,60 62,36 76,14 58,2"),
        (2, "46,0 22,22 46,46 70,22 46,0 ; 46,46 16,74 44,100 74,74 46,46"),
        (2, "70,10 46,2 30,18 40,42 58,64 56,92 36,98 28,80 44,56 66,32 74,12"),
        (1, "30,44 16,22 44,0 70,18 50,44 22,70 36,98 66,88 62,60 30,44"),
        (2, "80,8 52,2 26,18 42,44 64,68 50,98 24,92 30,64 60,36 88,6"),
    ),
    (  # 9: straight stem; curved stem; wide ring; hooked stem; narrow ring; angular
        (4, "70,12 42,2 18,24 28,46 56,40 72,14/ 66,56 58,100"),
        (3, "68,16 46,2 20,22 26,46 54,42 70,18/ 68,50 48,100"),
        (2, "66,8 34,4 14,28 34,48 62,34 72,8/ 72,50 70,100"),
        (1, "72,16 46,0 20,22 34,46 62,36 74,14/ 74,60 54,94 18,94"),
        (3, "72,8 46,0 24,26 36,50 62,26 72,6/ 62,56 40,100"),
        (2, "64,4 24,12 18,42 60,36 68,4/ 66,50 64,100"),
    ),
)
# fmt: on


@dataclass(frozen=True)
class Skeleton:
    """One way of writing a digit, as straight segments that are linear in the control points.

    Attributes:
        share: its frequency, relative to the digit's other skeletons.
        control_points: float64 [control points, 2], x and y in digit heights.
        segment_ends: float64 [2 * segments, control points]; `segment_ends @ control_points` are
            the starts of the segments (the first half) and their ends (the second half).
    """

    share: float
    control_points: NDArray[np.float64]
    segment_ends: NDArray[np.float64]


def _cut_curve(control_points: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """Return the weights of the control points along the curve from `first` to `last`."""
    run = np.eye(len(control_points))[first : last + 1]
    # neighbours are mirrored at both ends, so that the curve starts and ends without a hook
    padded = np.vstack([2 * run[0] - run[1], run, 2 * run[-1] - run[-2]])
    rows = [run[:1]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        segments = max(2, round(np.linalg.norm((p2 - p1) @ control_points) / SEGMENT_LENGTH))
        t = (np.arange(1, segments + 1) / segments)[:, None]
        cubic, square, slope = 3 * (p1 - p2) + p3 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, p2 - p0
        rows.append(p1 + 0.5 * t * (slope + t * (square + t * cubic)))
    return np.vstack(rows)


def _find_curves(words: list[str]) -> list[tuple[int, int]]:
    """Return the first and last control point of each curve between corners and pen lifts."""
    curves: list[tuple[int, int]] = []
    first = position = 0
    for word in words:
        if word == ";":
            curves.append((first, position - 1))
            first = position
            continue
        if word.endswith("/"):
            curves.append((first, position))
            first = position
        position += 1
    return [*curves, (first, position - 1)]


def _read_skeleton(share: float, text: str) -> Skeleton:
    words = text.split()
    points = [word.rstrip("/").split(",") for word in words if word != ";"]
    control_points = np.array(points, dtype=np.float64) / 100
    curves = [_cut_curve(control_points, first, last) for first, last in _find_curves(words)]
    starts, ends = [curve[:-1] for curve in curves], [curve[1:] for curve in curves]
    return Skeleton(share, control_points, np.vstack(starts + ends))


SKELETONS: tuple[tuple[Skeleton, ...], ...] = tuple(
    tuple(_read_skeleton(share, text) for share, text in ways) for ways in _WRITTEN
)
"""The skeletons of each digit, in digit order."""


def read_dataset(splits: frozenset[SplitName], cache_directory: Path) -> Dataset:
    """Read splits of the synthetic digits from the cache, or draw them and keep them there.

    Classes are balanced and in random order. A missing or damaged cache file is replaced; one that
    cannot be written, or that others could change, is done without.

    Args:
        splits: the splits to return.
        cache_directory: the folder of the cache file; created if missing.

    Returns:
        Images uint8 [10000 or 2000, 28, 28], white (255) on black (0); labels uint8 [count],
        0 to 9. `identity.sha256` identifies generator version and seed, since the pixels may
        differ between processors in their last bits; `identity.arrays` has the arrays' hashes.
    """
    path = cache_directory / f"synthetic-generator{GENERATOR_VERSION}-seed{SEED}.npz"
    read = _read_cache(path, splits)
    if read is None:
        drawn = {name: _draw_split(name) for name in _COUNTS}
        _write_cache(path, drawn)
        read = {name: drawn[name] for name in drawn if name in splits}
    return Dataset(info=INFO, identity=_identify(read), splits=read)


def draw_digits(digits: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an image of each digit.

    Args:
        digits: uint8 [n], values 0 to 9.
        generator: its state decides the images.

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


def _draw_split(name: SplitName) -> Split:
    # a random stream for each split, so that neither depends on the other's size
    generator = np.random.default_rng([GENERATOR_VERSION, SEED, list(_COUNTS).index(name)])
    class_count = len(INFO.class_names)
    labels = np.repeat(np.arange(class_count, dtype=np.uint8), _COUNTS[name] // class_count)
    generator.shuffle(labels)
    return Split(draw_digits(labels, generator), labels)


def _identify(splits: dict[SplitName, Split]) -> Identity:
    generator = f"generator {GENERATOR_VERSION} seed {SEED}"
    return Identity(
        name=INFO.name,
        sha256=hashlib.sha256(f"{INFO.name} {generator}".encode()).hexdigest(),
        arrays=hash_splits(splits),
        known_as=f"{INFO.title}, generator {GENERATOR_VERSION}, seed {SEED}",
        location="drawn by mnistcli",
    )


def _name_arrays(splits: dict[SplitName, Split]) -> dict[str, NDArray[np.uint8]]:
    images = {f"x_{name}": split.images for name, split in splits.items()}
    return images | {f"y_{name}": split.labels for name, split in splits.items()}


def _read_cache(path: Path, splits: frozenset[SplitName]) -> dict[SplitName, Split] | None:
    """Return the splits, or None where the file is missing or damaged, or others can change it."""
    try:
        make_private_folder(path.parent)
        with zipfile.ZipFile(path) as archive:
            return {name: _read_split(archive, name) for name in _COUNTS if name in splits}
    # what zipfile raises on damage; RuntimeError: an encrypted member, an unknown compression
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _read_split(archive: zipfile.ZipFile, name: SplitName) -> Split:
    """Read a split; ValueError where it has another shape or dtype."""
    images, labels = _read_array(archive, f"x_{name}"), _read_array(archive, f"y_{name}")
    count = _COUNTS[name]
    if images.shape != (count, *INFO.image_shape) or labels.shape != (count,):
        raise ValueError(f"shapes {images.shape} and {labels.shape} in the cache")
    if images.dtype != np.uint8 or labels.dtype != np.uint8:
        raise ValueError(f"dtypes {images.dtype} and {labels.dtype} in the cache")
    return Split(images, labels)


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    # the member's checksum is verified before NumPy parses it
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: NDArray[np.uint8] = np.load(content, allow_pickle=False)
    return array


def _write_cache(path: Path, splits: dict[SplitName, Split]) -> None:
    """Write the cache file; failing to do so is not an error, since it only saves time."""
    content = io.BytesIO()
    np.savez(content, **_name_arrays(splits))  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        make_private_folder(path.parent)
        replace_file(path, [content.getvalue()])


def _draw_boxes(
    skeleton: Skeleton, count: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw `count` distorted copies of a skeleton, each filling its box: uint8 [count, 20, 20]."""
    shape = (count, *skeleton.control_points.shape)
    control_points = skeleton.control_points + generator.normal(0, JITTER, shape)
    segment_ends = _apply_affine(
        _warp(skeleton.segment_ends @ control_points, generator), generator
    )
    radius = np.exp(generator.normal(np.log(RADIUS_MEDIAN), RADIUS_DEVIATION, (count, 1, 1)))
    radius = np.clip(radius, *RADIUS_RANGE)
    starts, ends = np.split(_fit_box(segment_ends, radius), 2, axis=1)
    lengths = np.linalg.norm(ends - starts, axis=2)
    ink = lengths * _vary_pressure(lengths.shape, generator)
    distance = _measure_distance((starts + ends) / 2, ink)
    coverage = np.clip(0.5 + (radius - distance) / EDGE_WIDTH, 0, 1)
    grey: NDArray[np.uint8] = np.rint(255 * coverage).astype(np.uint8)
    return grey


def _warp(points: _Floats, generator: np.random.Generator) -> _Floats:
    """Warp each image's points [n, points, 2] smoothly and at random."""
    count = len(points)
    for _ in range(WAVES):
        wave_vector = generator.normal(0, WAVE_NUMBER, (count, 2, 1))
        phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
        amplitude = generator.normal(0, WAVE_AMPLITUDE, (count, 1, 2))
        points = points + amplitude * np.sin(points @ wave_vector + phase)
    return points


def _apply_affine(points: _Floats, generator: np.random.Generator) -> _Floats:
    """Stretch, slant and rotate each image's points [n, points, 2] at random."""
    count = len(points)
    aspect = np.exp(generator.normal(0, ASPECT_DEVIATION, count))
    slant = generator.normal(SLANT_MEAN, SLANT_DEVIATION, count)
    angle = generator.normal(0, ROTATION_DEVIATION, count)
    stretch = np.zeros((count, 2, 2))
    stretch[:, 0, 0], stretch[:, 1, 0], stretch[:, 1, 1] = aspect, -slant, 1
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.stack([cosine, sine, -sine, cosine], axis=1).reshape(count, 2, 2)
    transformed: _Floats = points @ (stretch @ rotation)
    return transformed


def _fit_box(points: _Floats, radius: _Floats) -> _Floats:
    """Scale points to pixels so that the stroke, `radius` around them, fills the box."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    extent = (high - low).max(axis=2, keepdims=True)
    middle = (BOX_SIZE - 1) / 2
    fitted: _Floats = middle + (points - (low + high) / 2) * (BOX_SIZE - 2 * radius) / extent
    return fitted


def _vary_pressure(shape: tuple[int, ...], generator: np.random.Generator) -> _Floats:
    """Return the pressure of the pen along its way: factors [n, segments]."""
    phase = generator.uniform(0, 2 * np.pi, (shape[0], 1))
    speed = generator.uniform(2, 8, (shape[0], 1))
    return np.exp(PRESSURE * np.sin(phase + speed * np.linspace(0, 1, shape[1])))


def _measure_distance(points: _Floats, ink: _Floats) -> NDArray[np.float32]:
    """Return each pixel's distance to the stroke, a smooth minimum: float32 [n, 20, 20], in pixels.

    Along a straight stroke the Gaussians sum to exp(-distance² / softness), whose logarithm is
    the distance; where strokes meet it is a little shorter.
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
    # a box stays within the frame, however far from its middle the mass is
    top, left = (
        np.clip(np.rint(FRAME_SIZE / 2 - side @ pixels / mass), 0, FRAME_SIZE - BOX_SIZE)
        for side in (row_mass, column_mass)
    )
    frames = np.zeros((len(boxes), FRAME_SIZE, FRAME_SIZE), np.uint8)
    rows = top.astype(np.intp)[:, None, None] + pixels[:, None]
    columns = left.astype(np.intp)[:, None, None] + pixels
    frames[np.arange(len(boxes))[:, None, None], rows, columns] = boxes
    return frames


SPEC = BuiltInDataset(
    info=INFO,
    make=read_dataset,
)
