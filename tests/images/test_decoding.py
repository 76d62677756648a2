from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from conftest import SOURCE
from mnistcli.errors import DataError
from mnistcli.images import decoding
from mnistcli.images.decoding import decode_image
from mnistcli.images.options import Crop, PreparationOptions
from mnistcli.images.preparation import DecodedImage, expand_paths, read_image

DIGIT, COLOUR = (28, 28), (32, 32, 3)
WHOLE = PreparationOptions("resize")


def read(path: Path, shape: tuple[int, ...] = DIGIT) -> DecodedImage:
    return read_image(path, path.name, shape)


def draw_seven(size: int = 280, ink: Any = 0, ground: Any = 255, mode: str = "L") -> Image.Image:
    image = Image.new(mode, (size, size), ground)
    unit = size / 10
    corners = [(1 * unit, 2 * unit), (4 * unit, 2 * unit), (2 * unit, 7 * unit)]
    ImageDraw.Draw(image).line(corners, fill=ink, width=int(unit))
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_picture_of_28_by_28_is_kept_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, DIGIT, np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    Image.fromarray(255 - pixels).save(tmp_path / "light.png")

    dark, light = read(tmp_path / "x.png"), read(tmp_path / "light.png")

    assert (dark.preparation.ink, light.preparation.ink) == ("light", "dark")
    assert dark.preparation.crop is None
    assert dark.pixels.dtype == np.uint8
    np.testing.assert_array_equal(dark.pixels, pixels)
    np.testing.assert_array_equal(light.pixels, pixels)


def measure(pixels: np.ndarray) -> tuple[int, float, float]:
    """Height of the ink's box, and the row and column of its centre of mass."""
    rows = np.flatnonzero((pixels > 50).any(axis=1))
    weights, indices = pixels.astype(float), np.arange(28)
    centre = [weights.sum(axis=axis) @ indices / weights.sum() for axis in (1, 0)]
    return int(rows[-1] - rows[0] + 1), centre[0], centre[1]


@pytest.mark.parametrize(
    "image",
    [
        draw_seven(),
        draw_seven(ink=255, ground=0),
        draw_seven(ink=90, ground=200),
        draw_seven(size=1000, ink=(20, 20, 120), ground=(250, 250, 240), mode="RGB"),
        draw_seven(ink=(0, 0, 0, 255), ground=(0, 0, 0, 0), mode="RGBA"),
        draw_seven(ink=(0, 255), ground=(0, 0), mode="LA"),
        draw_seven(ink=0, ground=1, mode="1"),
        draw_seven(ink=(0, 0, 0), ground=(255, 255, 255), mode="RGB").convert("P"),
        draw_seven(ink=0, ground=65535, mode="I;16"),
    ],
    ids=["black on white", "white on black", "faint", "colour", "transparent", "grey and alpha",
         "bits", "palette", "16 bits"],
)  # fmt: skip
def test_every_drawing_of_a_digit_becomes_the_same_digit(
    tmp_path: Path, image: Image.Image
) -> None:
    image.save(tmp_path / "seven.png")

    digit = read(tmp_path / "seven.png")

    height, row, column = measure(digit.pixels)
    assert height == 20
    assert (row, column) == pytest.approx((14, 14), abs=0.6)
    assert digit.pixels.max() == 255
    assert digit.pixels[[0, 1, 2, -1]].max() == 0
    reference = read_image(encode(draw_seven(), "PNG"), "reference", DIGIT).pixels
    assert np.abs(digit.pixels.astype(int) - reference).mean() < 4


def test_where_the_digit_stands_and_how_wide_it_is_do_not_matter() -> None:
    page = Image.new("L", (900, 500), 255)
    page.paste(draw_seven(200), (650, 250))

    moved = read_image(encode(page, "PNG"), "page", DIGIT)

    reference = read_image(encode(draw_seven(200), "PNG"), "reference", DIGIT)
    assert np.abs(moved.pixels.astype(int) - reference.pixels).mean() < 4


NO_DIGIT = "there is no digit on it. --prepare resize shows the network the whole picture"


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(50, 40), DIGIT])
def test_a_blank_page_has_no_digit_on_it(size: tuple[int, int], level: int) -> None:
    with pytest.raises(DataError) as caught:
        read_image(encode(Image.new("L", size, level), "PNG"), "blank.png", DIGIT)
    assert str(caught.value) == f"blank.png: {NO_DIGIT}"


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_the_smallest_and_thinnest_pictures_are_read(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 0)
    image.putpixel((0, 0), 255)
    content = encode(image, "PNG")
    with pytest.raises(DataError, match="there is no digit on it"):
        read_image(content, "thin", DIGIT)
    assert read_image(content, "thin", DIGIT, WHOLE).pixels.shape == DIGIT
    assert read_image(content, "thin", COLOUR).pixels.shape == COLOUR


def test_the_whole_picture_is_scaled_on_request(tmp_path: Path) -> None:
    """Its proportions stay; what is beside it is as light as its border."""
    image = Image.new("L", (280, 140), 255)
    image.paste(0, (0, 20, 140, 120))
    whole = read_image(encode(image, "PNG"), "x", DIGIT, PreparationOptions("resize", ink="light"))
    assert whole.pixels[10:18, :13].max() <= 2
    assert whole.pixels[10:18, 15:].min() >= 253
    assert set(whole.pixels[[0, 6, 21, 27]].ravel()) == {255}
    flag = read_image(encode(draw_flag(), "PNG"), "flag", COLOUR, WHOLE)
    assert [tuple(flag.pixels[16, x]) for x in (4, 16, 28)] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255)
    ]  # fmt: skip


def test_a_picture_is_taken_as_it_is_on_request() -> None:
    light = np.full(DIGIT, 250, np.uint8)
    light[5:20, 12] = 10
    content = encode(Image.fromarray(light), "PNG")
    as_it_is = PreparationOptions("none")
    np.testing.assert_array_equal(read_image(content, "x", DIGIT, as_it_is).pixels, light)
    dark = read_image(content, "x", DIGIT, PreparationOptions("none", ink="dark"))
    np.testing.assert_array_equal(dark.pixels, 255 - light)
    for shape, size in ((DIGIT, "28 x 28"), (COLOUR, "32 x 32")):
        with pytest.raises(DataError) as caught:
            read_image(encode(Image.new("RGB", (30, 40)), "PNG"), "x.png", shape, as_it_is)
        assert str(caught.value) == (
            f"x.png: the picture has 30 x 40 pixels, the network takes {size}."
            " Leave --prepare none out"
        )


def draw_flag() -> Image.Image:
    """Red, green and blue thirds, wide; the middle square is all green."""
    image = Image.new("RGB", (192, 64), "lime")
    image.paste("red", (0, 0, 64, 64))
    image.paste("blue", (128, 0, 192, 64))
    return image


def test_a_colour_picture_is_cut_to_its_middle_square() -> None:
    result = read_image(encode(draw_flag(), "PNG"), "flag", COLOUR)
    assert result.preparation.ink is None
    assert result.preparation.crop == Crop(left=64, top=0, width=64, height=64)
    assert result.pixels.shape == COLOUR
    assert (result.pixels == (0, 255, 0)).all()


def test_a_colour_picture_of_32_by_32_is_kept_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, COLOUR, np.uint8)
    result = read_image(encode(Image.fromarray(pixels), "PNG"), "x", COLOUR)
    np.testing.assert_array_equal(result.pixels, pixels)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("GIF", "P"), ("BMP", "RGB"),
     ("WEBP", "RGB"), ("PPM", "RGB"), ("TIFF", "RGB"), ("PNG", "RGBA")],
)  # fmt: skip
def test_formats_and_colour_spaces(kind: str, mode: str) -> None:
    image = Image.new("RGB", (64, 64), (200, 100, 50)).convert(mode)
    pixels = read_image(encode(image, kind), "x", COLOUR).pixels
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind: str) -> None:
    image = Image.fromarray(np.full((32, 32), 257 * 100, np.uint16))
    assert (read_image(encode(image, kind), "x", COLOUR).pixels == 100).all()


def test_transparent_palette_entries_are_white() -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    content = encode(image, "GIF", transparency=0)
    assert (read_image(content, "x", COLOUR).pixels == 255).all()


def test_white_ink_on_nothing_stands_on_black() -> None:
    image = draw_seven(ink=(255, 255, 255, 255), ground=(255, 255, 255, 0), mode="RGBA")
    digit = read_image(encode(image, "PNG"), "x", DIGIT)
    assert digit.preparation.ink == "light"
    reference = read_image(encode(draw_seven(), "PNG"), "reference", DIGIT)
    np.testing.assert_array_equal(digit.pixels, reference.pixels)


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are none
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_every_exif_orientation_is_turned_as_pillow_does(orientation: int, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 4), np.uint8)
    image = Image.fromarray(noise[..., 0] if mode == "L" else noise[..., : len(mode)], mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(image, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if mode == "RGBA":
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    expected = np.asarray(upright.convert("L" if mode == "L" else "RGB"))
    np.testing.assert_array_equal(decode_image(content, "x"), expected)


MEASURE = """
import sys
from mnistcli.images.preparation import read_image
from pathlib import Path
read_image(Path(sys.argv[1]), "x", (28, 28))
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read in /proc")
def test_a_large_picture_takes_no_more_than_its_pixels_twice(tmp_path: Path) -> None:
    image = draw_seven(size=5000, ink=(0, 0, 80, 255), ground=(0, 0, 0, 0), mode="RGBA")
    image.save(tmp_path / "large.png", compress_level=1)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "large.png")]
    measured = subprocess.run(command, env=environment, capture_output=True, check=True)
    pixels = 5000 * 5000
    assert int(measured.stdout) * 1024 < 8 * pixels + 100_000_000  # Python and NumPy are the rest


def test_what_does_not_fit_into_memory_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "read_available_memory", lambda: 50_000_000)
    content = encode(Image.new("RGB", (3000, 3000)), "PNG")
    expected = (
        "x: 3000 x 3000 pixels take about 72 MB of memory, 50 MB are available. Make it smaller"
    )
    with pytest.raises(DataError) as caught:
        decode_image(content, "x")
    assert str(caught.value) == expected
    assert decode_image(encode(Image.new("L", (3000, 3000)), "PNG"), "x").shape == (3000, 3000)


@pytest.mark.parametrize(("side", "at_once"), [(1600, 1), (300, 4)])
def test_large_pictures_are_decoded_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, side: int, at_once: int
) -> None:
    monkeypatch.setattr(decoding, "read_available_memory", lambda: 60_000_000)
    content = encode(Image.new("RGB", (side, side)), "PNG")
    lock, together, most = threading.Lock(), 0, 0

    def decode(_: int) -> None:
        nonlocal together, most
        with decoding.open_decoded(content, "x"):
            with lock:
                together += 1
                most = max(most, together)
            time.sleep(0.2)
            with lock:
                together -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode, range(4)))
    assert most == at_once


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = read_image(encode(image, "PNG", exif=exif), "x", COLOUR).pixels
    assert pixels[:12].max() == 0
    assert pixels[-12:].min() == 255


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_image(content, "x", COLOUR).pixels == (255, 0, 0)).all()


def test_directories_become_their_images_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.png", "2.PNG", "1.jpg", "notes.txt", ".hidden.png", "a2.gif", "a10.gif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    single = tmp_path / "notes.txt"

    assert [path.name for path in expand_paths([single, tmp_path])] == [
        "notes.txt", "1.jpg", "2.PNG", "10.png", "a2.gif", "a10.gif",
    ]  # fmt: skip


def test_patterns_become_what_fits_them_in_natural_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("10.png", "9.png", "9.txt", "a/3.png", "[9].png"):
        (tmp_path / name).touch()

    def list_names(pattern: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in expand_paths([tmp_path / pattern])]

    assert list_names("*.png") == ["9.png", "10.png", "[9].png"]
    assert list_names("9.*") == ["9.png"]
    assert list_names("**/?.png") == ["9.png", "a/3.png"]
    assert list_names("[9].png") == ["[9].png"]
    with pytest.raises(DataError, match=r"no image fits the pattern\. Correct the path"):
        expand_paths([tmp_path / "*.gif"])


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    with pytest.raises(DataError) as caught:
        expand_paths([missing])
    assert str(caught.value) == (f"{missing}: no such file or folder. Correct the path")
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        expand_paths([tmp_path / ("x" * 300)])
    with pytest.raises(DataError) as caught:
        expand_paths([tmp_path])
    assert str(caught.value).startswith(f"{tmp_path}: the directory holds no images. Images are")


def test_a_file_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mnistcli.images.decoding.MAX_FILE_BYTES", len(PNG) - 1)
    (tmp_path / "x.png").write_bytes(PNG)
    with pytest.raises(DataError, match="more than 100,000,000 pixels or 512 MiB"):
        read(tmp_path / "x.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every directory")
def test_a_directory_that_may_not_be_listed(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        expand_paths([tmp_path])
    tmp_path.chmod(0o700)


PNG = encode(draw_seven(), "PNG")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x: the file is empty. Images are read from PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "x: is a PostScript file, not an image that can be",
        ),
        (b"hello", "x: is a text file, not an image that can be read. Images are read from PNG"),
        (PNG[:-60], "x: the image is damaged or cut short. Check the file"),
        (encode(NOISE, "JPEG")[:900], "x: the image is damaged or cut short. Check the file"),
        (encode(NOISE, "GIF")[:900], "x: the image is damaged or cut short. Check the file"),
        (b"P5 10001 10000 255\n", "x: the image has more than 100,000,000 pixels or 512 MiB. Make"),
        (b"P5 20000 20000 255\n", "x: the image has more than 100,000,000 pixels or 512 MiB. Make"),
        (encode(Image.new("F", (9, 9), 0.5), "TIFF"), "x: floating-point pixels are not supported"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(content: bytes, message: str) -> None:
    for shape in (DIGIT, COLOUR):
        with pytest.raises(DataError) as caught:
            read_image(content, "x", shape)
        assert str(caught.value).startswith(message)


def test_libtiff_writes_nothing_about_damage(capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(encode(NOISE, "TIFF", compression="tiff_deflate"))
    content[20:200] = bytes(180)
    with pytest.raises(DataError, match="damaged"):
        read_image(bytes(content), "x", COLOUR)
    os.write(2, b"standard error is back")
    assert capfd.readouterr().err == "standard error is back"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "missing.png")
    assert str(caught.value) == (
        "missing.png: cannot be read: No such file or directory. Check the file, or save it again"
    )
    with pytest.raises(DataError, match="cannot be read: it is a folder"):
        read(tmp_path)


def test_a_network_that_takes_no_images_says_so() -> None:
    with pytest.raises(DataError, match=r"x: the network takes \(2,\), not images"):
        read_image(PNG, "x", (2,))


SAMPLES = [
    PNG,
    *(encode(NOISE, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")),
    encode(NOISE, "TIFF", compression="tiff_lzw"),
    encode(NOISE.convert("P"), "PNG", transparency=3),
]


@settings(max_examples=400, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    end=st.integers(0, 12_000),
    shape=st.sampled_from([DIGIT, COLOUR]),
)
def test_damaged_files_are_decoded_or_refused(
    sample: bytes, flips: list[tuple[int, int]], end: int, shape: tuple[int, ...]
) -> None:
    content = bytearray(sample[:end])
    for place, value in flips:
        if place < len(content):
            content[place] = value
    check_decoded_or_refused(bytes(content), shape)


@given(content=st.binary(max_size=300), kind=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a",
       b"\xff\xd8\xff", b"BM", b"II*\0", b"P6 ", b"RIFF\0\0\0\0WEBP"]))  # fmt: skip
def test_arbitrary_bytes_are_decoded_or_refused(content: bytes, kind: bytes) -> None:
    check_decoded_or_refused(kind + content, DIGIT)


def check_decoded_or_refused(content: bytes, shape: tuple[int, ...]) -> None:
    message = "x: decoded"
    try:
        assert read_image(content, "x", shape).pixels.shape == shape
    except DataError as error:
        message = str(error)
    assert message.startswith("x: ")
    assert "\n" not in message


def test_a_grey_picture_that_is_no_digit_is_scaled_as_a_whole() -> None:
    """A shoe on white paper: nothing is cropped, and it comes out light on dark."""
    shoe = Image.new("L", (60, 40), 255)
    shoe.paste(100, (6, 10, 54, 30))
    read = read_image(encode(shoe, "PNG"), "shoe.png", DIGIT, kind="picture")
    assert read.pixels.shape == DIGIT
    assert (read.preparation.ink, read.preparation.crop) == ("dark", None)
    assert (read.pixels[11:17, 5:23] > 140).all()
    assert (read.pixels[[0, 7, 20, 27]] < 10).all()  # the ground, and what fills up the square
    as_it_is = PreparationOptions("none")
    with pytest.raises(DataError, match="60 x 40 pixels, the network takes 28 x 28"):
        read_image(encode(shoe, "PNG"), "shoe.png", DIGIT, as_it_is, kind="picture")
