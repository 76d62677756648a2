"""Digits as people photograph them: on paper or a board, in uneven light, ruled, noisy.

`photograph` turns a digit of MNIST's form into the bytes of a JPEG or PNG file. All chance comes
from the generator that it is given; `benchmarks/photographs.py` measures on such pictures.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Range = tuple[float, float]
Colour = tuple[int, int, int]

BOX, FRAME = 20, 28  # of an MNIST digit: its longer side, and the picture that it stands in

BLACK_INKS: tuple[Colour, ...] = ((20, 20, 25), (45, 45, 50), (25, 30, 60))
COLOURED_INKS: tuple[Colour, ...] = (
    (30, 50, 170), (200, 30, 40), (20, 120, 50), (230, 110, 20), (120, 40, 140), (0, 140, 190)
)  # fmt: skip
PENCILS: tuple[Colour, ...] = ((150, 150, 155), (120, 120, 125))
CHALKS: tuple[Colour, ...] = ((235, 235, 225), (240, 220, 120), (240, 180, 190))
PAPERS: tuple[Colour, ...] = ((250, 250, 248), (244, 240, 228), (225, 228, 232))
BOARDS: tuple[Colour, ...] = ((38, 66, 54), (30, 32, 36), (60, 58, 60))
DESKS: tuple[Colour, ...] = ((90, 60, 35), (40, 40, 45), (150, 110, 70), (110, 118, 122))
LINE_COLOURS: tuple[Colour, ...] = ((120, 170, 215), (150, 150, 160), (110, 140, 190))


@dataclass(frozen=True)
class Scene:
    """A kind of picture; a range is drawn from evenly, sizes evenly in their logarithm.

    Attributes:
        side: of the picture's shorter side, in pixels; the longer is up to 4/3 of it.
        share: of the shorter side that the digit's longer side takes.
        offset: of the digit's middle from the picture's, as a share of the room there is.
        angle: of the digit, in degrees, to either side.
        inks, grounds: colours, one of them is chosen.
        pen: how far the outline lies from MNIST's, in pixels of its 28 x 28; below 0 is thinner.
        ruled, squared: lines across the page; its own slant is `tilt` degrees to either side.
        desk: how much of something darker is seen around the page, as a share of the page.
        gradient, vignette, shadow: what light is lost where it is least.
        blur: a Gaussian's radius in pixels, for pictures of 500.
        noise: a standard deviation in levels of 255.
        quality: of the JPEG file; (0, 0) means PNG.
    """

    side: Range = (200, 800)
    share: Range = (0.3, 0.6)
    offset: float = 0.2
    angle: float = 0
    inks: tuple[Colour, ...] = BLACK_INKS
    grounds: tuple[Colour, ...] = PAPERS
    pen: Range = (0, 0)
    ruled: bool = False
    squared: bool = False
    tilt: float = 0
    desk: Range = (0, 0)
    gradient: Range = (0, 0.1)
    vignette: Range = (0, 0.1)
    shadow: Range = (0, 0)
    blur: Range = (0.3, 0.8)
    noise: Range = (1, 3)
    quality: Range = (75, 92)


PLAIN = Scene()
SCENES: dict[str, Scene] = {
    "dark ink on light paper": PLAIN,
    "uneven light": replace(PLAIN, gradient=(0.2, 0.5), vignette=(0.2, 0.5)),
    "a shadow across": replace(PLAIN, shadow=(0.25, 0.5), gradient=(0.0, 0.2)),
    "coloured ink": replace(PLAIN, inks=COLOURED_INKS),
    "ruled paper": replace(PLAIN, ruled=True, tilt=4),
    "squared paper": replace(PLAIN, squared=True, tilt=4),
    "off-centre": replace(PLAIN, offset=0.9, share=(0.15, 0.4)),
    "small in the frame": replace(PLAIN, side=(500, 1000), share=(0.06, 0.14), offset=0.7),
    "large in the frame": replace(PLAIN, side=(64, 1000), share=(0.75, 0.95)),
    "tiny pictures": replace(PLAIN, side=(64, 120), share=(0.4, 0.8)),
    "slightly rotated": replace(PLAIN, angle=8),
    "noise and JPEG artefacts": replace(PLAIN, noise=(8, 18), quality=(15, 40), blur=(0.5, 1.5)),
    "chalk on a board": replace(PLAIN, inks=CHALKS, grounds=BOARDS, noise=(2, 6)),
    "a thin pen": replace(PLAIN, pen=(-0.6, -0.3)),
    "a soft pencil": replace(PLAIN, inks=PENCILS),
    "a page on a desk": replace(PLAIN, desk=(0.05, 0.3), tilt=8, offset=0.5),
    "all at once": Scene(
        side=(300, 1000), share=(0.15, 0.5), offset=0.8, angle=6, tilt=4, squared=True,
        inks=COLOURED_INKS + BLACK_INKS, pen=(-0.4, 0.1), gradient=(0.1, 0.35),
        vignette=(0.1, 0.35), shadow=(0, 0.35), blur=(0.5, 1.2), noise=(3, 9), quality=(35, 75),
    ),
}  # fmt: skip


def photograph(
    digit: NDArray[np.uint8] | None, scene: Scene, generator: np.random.Generator
) -> bytes:
    """Take a picture of a digit, or of the empty page: the contents of an image file.

    Args:
        digit: uint8 [28, 28], light on black as MNIST's; None leaves the page empty.
        scene: how it is taken.
        generator: decides everything within the scene's ranges.
    """
    side = _draw_log(generator, scene.side)
    shape = (round(side), round(side * generator.uniform(1, 4 / 3)))
    if generator.random() < 0.5:
        shape = shape[::-1]
    size = _draw_log(generator, scene.share) * min(shape)
    blank = np.zeros((FRAME, FRAME), np.uint8)
    ink = _place(
        _write(blank if digit is None else digit, size, scene, generator), shape, scene, generator
    )
    ground = np.array(scene.grounds[generator.integers(len(scene.grounds))], np.float32)
    colour = np.array(scene.inks[generator.integers(len(scene.inks))], np.float32)
    page = np.broadcast_to(ground, (*shape, 3))
    page = _rule(page, size, scene, generator)
    page = page + ink[..., None] * (colour - page) * _cloud(shape, 0.12, generator)[..., None]
    if scene.desk[1]:
        page = _lay(page, scene, generator)
    return _expose(page * _light(page.shape[:2], scene, generator)[..., None], scene, generator)


def _draw_log(generator: np.random.Generator, limits: Range) -> float:
    return float(np.exp(generator.uniform(*np.log(limits))))


def _write(
    digit: NDArray[np.uint8], size: float, scene: Scene, generator: np.random.Generator
) -> Floats:
    """Enlarge a digit, its outline made as sharp as a pen's: float32 [n, n], 0 to 1."""
    rows, columns = (np.flatnonzero(digit.max(axis=axis) > 60) for axis in (1, 0))
    longest = max(np.ptp(rows), np.ptp(columns)) + 1 if len(rows) else BOX
    scale = size / longest
    side = round(FRAME * scale)
    smooth = np.asarray(
        Image.fromarray(digit.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    ) / 255  # fmt: skip
    # A pixel of MNIST is as wide as its edges: half a level is about half a pixel of distance.
    level = 0.5 - generator.uniform(*scene.pen) / 2
    sharp = np.clip(0.5 + (smooth - level) * max(1.0, scale / 1.5), 0, 1)
    angle = generator.uniform(-scene.angle, scene.angle)
    turned = Image.fromarray(sharp.astype(np.float32)).rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(turned)


def _place(
    ink: Floats, shape: tuple[int, int], scene: Scene, generator: np.random.Generator
) -> Floats:
    """Put the ink somewhere on the page, cutting off only its empty margin."""
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > 0.1) for axis in (1, 0))
    page = np.zeros(shape, np.float32)
    if not len(rows):
        return page
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][: shape[0], : shape[1]]
    corner = []
    for room in (shape[0] - ink.shape[0], shape[1] - ink.shape[1]):
        middle = 0.5 + generator.uniform(-scene.offset, scene.offset) / 2
        corner.append(round(room * middle))
    page[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return page


def _rule(page: Floats, size: float, scene: Scene, generator: np.random.Generator) -> Floats:
    """Print the lines of a page: ruled ones a digit apart, squares about half of one wide."""
    if not (scene.ruled or scene.squared):
        return page
    spacing = max(8.0, size * generator.uniform(*((0.8, 1.5) if scene.ruled else (0.35, 0.8))))
    width = max(1.0, spacing * generator.uniform(0.02, 0.035 if scene.ruled else 0.05))
    angle = np.radians(generator.uniform(-scene.tilt, scene.tilt))
    colour = np.array(LINE_COLOURS[generator.integers(len(LINE_COLOURS))], np.float32)
    strength = generator.uniform(0.4, 1)
    y, x = np.mgrid[: page.shape[0], : page.shape[1]].astype(np.float32)
    for across in (y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)):
        phase = generator.uniform(0, spacing)
        distance = np.abs((across + phase) % spacing - spacing / 2)
        cover = np.clip(0.5 + width / 2 - distance, 0, 1) * strength
        page = page + cover[..., None] * (colour - page)
        if scene.ruled:
            break
    return page


def _lay(page: Floats, scene: Scene, generator: np.random.Generator) -> Floats:
    """Lay a page askew on a desk that is darker."""
    margin = generator.uniform(*scene.desk)
    sheet = Image.fromarray(np.rint(page).astype(np.uint8))
    angle = generator.uniform(-scene.tilt, scene.tilt)
    cover = Image.new("L", sheet.size, 255).rotate(angle, Image.Resampling.BILINEAR, expand=True)
    sheet = sheet.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    width, height = (round(side * (1 + 2 * margin)) for side in sheet.size)
    wood = np.array(DESKS[generator.integers(len(DESKS))], np.float32)
    desk = wood * _cloud((height, width), 0.3, generator)[..., None]
    picture = Image.fromarray(np.rint(desk).astype(np.uint8))
    corner = (width - sheet.width) // 2, (height - sheet.height) // 2
    picture.paste(sheet, corner, cover)
    return np.asarray(picture, np.float32)


def _cloud(shape: tuple[int, int], depth: float, generator: np.random.Generator) -> Floats:
    """A pen's ink is not even: float32 [*shape], from 1 - depth to 1."""
    coarse = generator.uniform(0, 1, (9, 9)).astype(np.float32)
    field = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
    return 1 - depth * np.clip(np.asarray(field), 0, 1)


def _light(shape: tuple[int, int], scene: Scene, generator: np.random.Generator) -> Floats:
    """How much light falls where: float32 [*shape], 1 where it is most."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = y / shape[0] - 0.5, x / shape[1] - 0.5
    turn = generator.uniform(0, 2 * np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    light = 1 - generator.uniform(*scene.gradient) * np.clip(along + 0.5, 0, 1)
    light *= 1 - generator.uniform(*scene.vignette) * 2 * (x**2 + y**2)
    turn = generator.uniform(0, 2 * np.pi)
    bend = generator.uniform(-0.6, 0.6)
    edge = x * np.cos(turn) + y * np.sin(turn) + bend * (y * np.cos(turn) - x * np.sin(turn)) ** 2
    softness = generator.uniform(0.01, 0.08)
    covered = np.clip(0.5 + (edge - generator.uniform(-0.25, 0.25)) / softness, 0, 1)
    covered = covered * covered * (3 - 2 * covered)
    return np.asarray(light * (1 - generator.uniform(*scene.shadow) * covered))


def _expose(page: Floats, scene: Scene, generator: np.random.Generator) -> bytes:
    """Blur, add the sensor's noise, and save as a camera does."""
    from PIL import ImageFilter

    noise = generator.uniform(*scene.noise)
    radius = generator.uniform(*scene.blur) * min(1.0, max(page.shape) / 500)
    image = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    grain = noise * generator.standard_normal(page.shape, np.float32)
    image = Image.fromarray(np.clip(np.rint(blurred + grain), 0, 255).astype(np.uint8))
    quality = round(generator.uniform(*scene.quality))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality) if quality else image.save(buffer, "PNG")
    return buffer.getvalue()
