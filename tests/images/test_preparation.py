"""Photographs of digits: what is seen on paper is what stands in MNIST; nothing else is a digit."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import make_digits
from helpers.paper import SCENES, photograph
from mnistcli.images.decoding import decode_image
from mnistcli.images.ink import find_components, remove_lines
from mnistcli.images.options import (
    AUTO,
    Crop,
    Preparation,
    PreparationOptions,
    Step,
    describe_preparation,
)
from mnistcli.images.preparation import prepare_digit, read_image

Digit = NDArray[np.uint8]
DIGITS = make_digits(20, seed=5)
QUICK = {
    kind: replace(scene, side=(min(scene.side[0], 400), min(scene.side[1], 500)))
    for kind, scene in SCENES.items()
}


def compare(seen: Digit, original: Digit) -> float:
    """The correlation of two pictures, where they lie best on each other within a pixel."""
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    moved = [np.roll(seen, move, axis=(0, 1)).ravel() for move in moves]
    return max(float(np.corrcoef(pixels, original.ravel())[0, 1]) for pixels in moved)


@pytest.mark.parametrize("kind", SCENES)
def test_a_digit_on_paper_is_seen_as_it_was_before_it_was_photographed(kind: str) -> None:
    generator = np.random.default_rng(7)
    alike = []
    for digit in DIGITS.images[:6]:
        content = photograph(digit, QUICK[kind], generator)
        alike.append(compare(read_image(content, "x.jpg", (28, 28)).pixels, digit))
    assert np.median(alike) > 0.85
    assert sum(value > 0.7 for value in alike) >= 5


@pytest.mark.parametrize("kind", SCENES)
def test_an_empty_page_has_no_digit_on_it(kind: str) -> None:
    generator = np.random.default_rng(3)
    contents = [photograph(None, QUICK[kind], generator) for _ in range(3)]
    found = [prepare_digit(decode_image(content, "x"), AUTO) is not None for content in contents]
    assert sum(found) <= (1 if kind in ("a shadow across", "all at once") else 0)


def take(kind: str, digit: Digit = DIGITS.images[0], seed: int = 1) -> Image.Image:
    return Image.open(io.BytesIO(photograph(digit, SCENES[kind], np.random.default_rng(seed))))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_format_and_mode_of_a_photograph_is_seen_alike() -> None:
    image = take("dark ink on light paper")
    grey = np.asarray(image.convert("L"), np.uint16)
    contents = [
        encode(image, "PNG"),
        encode(image, "JPEG", quality=60),
        encode(image, "WEBP", quality=60),
        encode(image, "BMP"),
        encode(image.convert("CMYK"), "TIFF"),
        encode(image.convert("CMYK"), "JPEG"),
        encode(image.convert("P"), "GIF"),
        encode(image.convert("RGBA"), "PNG"),
        encode(image.convert("LA"), "PNG"),
        encode(Image.fromarray(grey * 257), "PNG"),
        encode(Image.fromarray(grey * 257), "TIFF"),
        encode(Image.eval(image, lambda level: 255 - level), "PNG"),
    ]
    first, *others = [read_image(content, "x", (28, 28)).pixels for content in contents]
    assert compare(first, DIGITS.images[0]) > 0.9
    for other in others:
        assert np.abs(other.astype(int) - first).mean() < 4


def test_a_telephone_held_sideways() -> None:
    """EXIF tag 274 says how the picture has to be turned."""
    upright = take("uneven light")
    exif = Image.Exif()
    exif[274] = 6
    sideways = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    np.testing.assert_array_equal(
        read_image(sideways, "x", (28, 28)).pixels,
        read_image(encode(upright, "PNG"), "x", (28, 28)).pixels,
    )


def draw_page() -> NDArray[np.uint8]:
    """A page of 400 x 300 in two parts of light, seven lines on it, an L, and a speck near it."""
    page = np.full((300, 400), 200, np.uint8)
    page[:, 250:] = 180
    page[20::40] = page[21::40] = 130
    page[105:185, 100:112] = page[173:185, 100:160] = 20
    page[150:153, 190:193] = 20
    return page


def prepare(skipped: frozenset[Step] = frozenset()) -> tuple[Digit, Preparation]:
    prepared = prepare_digit(draw_page(), PreparationOptions(skipped=skipped))
    assert prepared is not None
    return prepared


def test_each_step_is_reported() -> None:
    pixels, report = prepare()
    assert (report.picture.width, report.picture.height) == (400, 300)
    assert report.ink == "dark"
    assert report.contrast == pytest.approx(0.9, abs=0.01)
    assert report.ground is not None
    assert report.ground.level == 200
    assert report.ground.unevenness == pytest.approx(0.1, abs=0.01)
    assert report.lines is not None
    assert report.lines.removed == 7
    assert report.specks is not None
    assert (report.specks.found, report.specks.kept) == (2, 1)
    assert report.crop == Crop(left=100, top=105, width=60, height=80)
    assert report.centre is not None
    assert (report.centre.right, report.centre.down) == (4, -3)
    rows, columns = np.nonzero(pixels)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 15)
    assert describe_preparation(report) == (
        "dark on light, inverted, 7 ruled lines removed, digit found: 60 x 80 at (100, 105)"
    )


def test_each_step_can_be_left_out() -> None:
    _, whole = prepare()
    for step in ("ground", "lines", "specks", "crop", "centre"):
        _, report = prepare(frozenset({step}))
        assert getattr(whole, step) is not None
        assert getattr(report, step) is None
    middle, _ = prepare(frozenset({"centre"}))
    rows, columns = np.nonzero(middle)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 23, 6, 20)
    _, report = prepare(frozenset({"specks"}))
    assert report.crop == Crop(left=100, top=105, width=93, height=80)
    uncropped, _ = prepare(frozenset({"crop", "centre"}))
    assert compare(uncropped, middle) < 0.5
    assert uncropped[11:15, 7].min() > 0  # the L's stem, at a fourteenth of its size


def test_lines_are_removed_from_below_the_ink_only() -> None:
    paper = np.zeros((200, 300), np.float32)
    stem, bar = (slice(30, 170), slice(140, 152)), (slice(98, 110), slice(90, 210))
    paper[stem] = paper[bar] = 1
    ruled = paper.copy()
    ruled[10::30] = np.maximum(ruled[10::30], 0.6)  # one of them inside the bar
    ruled[:, 15::30] = np.maximum(ruled[:, 15::30], 0.6)  # and one inside the stem

    cleaned, count = remove_lines(ruled)

    assert count == 7 + 10
    np.testing.assert_allclose(cleaned, paper, atol=0.01)
    untouched, none = remove_lines(paper)
    assert none == 0
    np.testing.assert_array_equal(untouched, paper)


def test_a_slanted_line_is_followed_across_the_picture() -> None:
    rows, columns = np.mgrid[:300, :400]
    distance = np.abs(rows - 150 - 0.08 * (columns - 200))
    line = np.clip(1.5 - distance, 0, 1).astype(np.float32) * np.float32(0.5)
    cleaned, count = remove_lines(line)
    assert count == 1
    assert cleaned.max() < 0.4
    assert (cleaned > 0.2).mean() < 0.002


def flood(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Label regions one pixel after the other."""
    labels = np.zeros(mask.shape, np.intp)
    for start in zip(*np.nonzero(mask), strict=True):
        reached = [start] if not labels[start] else []
        number = labels.max() + 1
        while reached:
            row, column = reached.pop()
            if not (0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]):
                continue
            if mask[row, column] and not labels[row, column]:
                labels[row, column] = number
                reached += [(row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return labels


@pytest.mark.parametrize("density", [0.0, 0.2, 0.4, 0.7, 1.0])
def test_regions_are_those_that_a_flood_would_find(density: float) -> None:
    generator = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (9, 1), (23, 31)):
        mask = generator.random(shape) < density
        regions, expected = find_components(mask), flood(mask)
        np.testing.assert_array_equal(regions.labels, expected)
        for index in range(len(regions.areas)):
            rows, columns = np.nonzero(expected == index + 1)
            assert regions.areas[index] == len(rows)
            box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert tuple(regions.boxes[index]) == box
        assert len(regions.areas) == expected.max(initial=0)


def test_a_large_photograph_is_reduced_first() -> None:
    scene = SCENES["dark ink on light paper"]
    content = photograph(DIGITS.images[0], scene, np.random.default_rng(4))
    image = Image.open(io.BytesIO(content))
    large = image.resize((image.width * 4, image.height * 4))
    first, second = (read_image(encode(i, "PNG"), "x", (28, 28)) for i in (image, large))
    assert compare(first.pixels, second.pixels) > 0.97
    assert first.preparation.crop is not None
    assert second.preparation.crop is not None
    assert second.preparation.crop.width == pytest.approx(4 * first.preparation.crop.width, rel=0.1)
