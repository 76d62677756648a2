"""Images as text, in colour and without."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from mnistcli.console.half_blocks import render_image

LIGHT = np.array([[0, 255, 0, 255, 60, 128], [0, 0, 255, 255, 60, 128], [255] * 6], np.uint8)


def test_without_colour_the_character_is_drawn_whose_halves_come_closest() -> None:
    assert render_image(LIGHT, "blocks").plain.splitlines() == [
        " \u2580\u2584\u2588\u2591\u2592",
        "\u2580" * 6,
    ]
    assert render_image(LIGHT[:2], "ascii").plain == " ==@:+"


def test_in_colour_both_pixels_of_a_character_are_exact() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 2] = (255, 0, 7)
    image[1, 2] = (0, 9, 255)
    console = Console(force_terminal=True, color_system="truecolor", width=20)
    with console.capture() as captured:
        console.print(render_image(image, "colour"), end="")
    assert captured.get() == (
        "\x1b[38;2;0;0;0;48;2;0;0;0m\u2580\u2580\x1b[0m"
        "\x1b[38;2;255;0;7;48;2;0;9;255m\u2580\x1b[0m\n"
    )


def test_a_grey_image_is_grey_in_colour_too() -> None:
    text = render_image(LIGHT[:2], "colour")
    assert text.plain == "\u2580" * 6 + "\n"
    assert [str(span.style) for span in text.spans][:2] == [
        "#000000 on #000000", "#ffffff on #000000"
    ]  # fmt: skip
