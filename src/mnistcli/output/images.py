"""Images inside a page: PNG files written into their addresses."""

from __future__ import annotations

import base64
import io

from mnistcli.output.plots.colors import Pixels


def encode_image(image: Pixels) -> str:
    """Return the address of an image: `data:image/png;base64,…`.

    Args:
        image: uint8 [height, width] or [height, width, 3].
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
