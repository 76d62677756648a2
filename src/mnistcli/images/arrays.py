"""Read arrays from .npy files, and say how those that are no images become some.

The header of a .npy file is parsed with a pattern, since NumPy evaluates it as Python text. Format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import json
import math
import re
import shlex
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.images.decoding import CHECK_HINT, MAX_FILE_BYTES

Shape = tuple[int, ...]

ARRAY_SUFFIX = ".npy"
MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{\s*['\"]descr['\"]\s*:\s*(?P<descr>.+?)\s*,"
    r"\s*['\"]fortran_order['\"]\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*['\"]shape['\"]\s*:\s*\((?P<shape>[\dL,\s]*)\)\s*,?\s*\}\s*"
)
_DTYPE = re.compile(r"['\"](?P<dtype>[<>|=]?(?:[iu][1248]|f[248]|b1|[US]\d{1,4}))['\"]")
_MAX_AXES = 8  # of NumPy's 64; images have four
_HOW = "send whole numbers from 0 (black) to 255 (white), as uint8"
_WHITE = 255


@dataclass(frozen=True)
class Header:
    """The header of a .npy file of numbers or texts."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran_order: bool
    header_bytes: int

    @property
    def array_bytes(self) -> int:
        """Size of the array; a Python integer, which does not overflow."""
        return math.prod(self.shape) * self.dtype.itemsize

    def make_array(self, contents: bytes) -> NDArray[Any]:
        """Return the array with these bytes, C-contiguous, perhaps read-only."""
        order: Literal["C", "F"] = "F" if self.is_fortran_order else "C"
        array = np.frombuffer(contents, dtype=self.dtype)
        return np.asarray(array.reshape(self.shape, order=order), order="C")


def read_header(stream: IO[bytes]) -> Header:
    """Read a header, and leave the stream where the array begins.

    Raises:
        ValueError: there is no valid header, or the array holds neither numbers nor texts. The
            message continues a sentence about the array.
    """
    start = stream.read(8)
    length_bytes = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    if start[:6] != MAGIC or length_bytes is None:
        raise ValueError("does not begin as a NumPy array")
    length = int.from_bytes(stream.read(length_bytes), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"has a header of {length} bytes")
    match = _HEADER.fullmatch(stream.read(length).decode("latin1"))
    if match is None:
        raise ValueError("has a header that cannot be understood")
    dtype = _DTYPE.fullmatch(match["descr"])
    if dtype is None:
        descr = match["descr"].strip()
        raise ValueError(
            "holds Python objects, which are never unpickled" if "O" in descr
            else f"has dtype {descr}, which is not read"
        )  # fmt: skip
    axes = [axis.strip(" L") for axis in match["shape"].split(",") if axis.strip()]
    if len(axes) > _MAX_AXES:
        raise ValueError(f"has {len(axes)} axes")
    return Header(
        dtype=np.dtype(dtype["dtype"]),
        shape=tuple(map(int, axes)),
        is_fortran_order=match["fortran"] == "True",
        header_bytes=8 + length_bytes + length,
    )


def is_array(content: bytes) -> bool:
    """Return whether a file is a .npy file, by its first bytes."""
    return content.startswith(MAGIC)


def read_array(content: bytes, where: str, white: int = _WHITE) -> NDArray[np.uint8]:
    """Return the array of a .npy file, unchanged: it is not cropped, scaled or inverted.

    Args:
        content: the file; integers from 0 to 255, of any integer type.
        where: the file's name, for messages.
        white: the largest value of a pixel, to which a hint scales others.

    Returns:
        uint8 of the array's shape, perhaps read-only.

    Raises:
        DataError: the file is too large, damaged, or not of integers from 0 to 255.
    """
    if len(content) > MAX_FILE_BYTES:
        raise DataError(where, f"more than {MAX_FILE_BYTES >> 20} MiB", "send it in parts")
    stream = io.BytesIO(content)
    try:
        header = read_header(stream)
    except ValueError as error:
        raise DataError(where, f"the array {error}", _HOW) from None
    rest = len(content) - stream.tell()
    if header.array_bytes != rest:
        what = f"the array's header announces {header.array_bytes} bytes, {rest} follow"
        raise DataError(where, what, CHECK_HINT)
    if rest == 0:
        raise DataError(where, f"the array of shape {header.shape} holds no images", CHECK_HINT)
    values = header.make_array(stream.read())
    if values.dtype.kind in "US":
        raise DataError(where, "the array holds texts, not numbers", _HOW)
    if values.dtype == np.uint8:
        return values
    lowest, highest = float(values.min()), float(values.max())
    if values.dtype.kind in "iu" and lowest >= 0 and highest <= _WHITE:
        return values.astype(np.uint8)
    what = f"the array holds {values.dtype} from {lowest:g} to {highest:g}"
    expression = scale_to_bytes("x", lowest, highest, white)
    hint = _HOW if expression is None else _suggest(where, expression)
    raise DataError(where, f"{what}, not whole numbers from 0 to {_WHITE}", hint)


def scale_to_bytes(name: str, lowest: float, highest: float, white: int = _WHITE) -> str | None:
    """Return NumPy's expression that makes uint8 images of an array; None where none is known.

    Args:
        name: of the array in the expression.
        lowest: the smallest number in it.
        highest: the largest.
        white: what the largest is to become.
    """
    if not (math.isfinite(lowest) and math.isfinite(highest)) or lowest == highest:
        return None
    if lowest >= 0 and highest <= 1:
        scaled = f"({name} * {white})"
    elif lowest >= 0 and white / 2 < highest <= white:  # what ends below is not meant so
        scaled = name
    else:
        scaled = f"np.interp({name}, ({min(lowest, 0.0):g}, {highest:g}), (0, {white}))"
    return f'{scaled}.round().astype("uint8")'


def arrange_axes(name: str, shape: Shape, image_shape: Shape) -> str | None:
    """Return NumPy's expression that brings the axes of an image or a batch into order.

    Args:
        name: of the array in the expression.
        shape: of the array.
        image_shape: (height, width), or (height, width, 3).

    Returns:
        The expression; None where no order of the axes is that of such images.
    """
    if len(image_shape) == 2 and shape[-3:] == (*image_shape, 3):
        return f'({name} @ [0.299, 0.587, 0.114]).round().astype("uint8")'  # colours to grey
    batch_axes = len(shape) - len(image_shape)
    axes_above_1 = tuple(size for size in shape if size != 1)
    if (
        axes_above_1[-len(image_shape) :] == image_shape
        and len(axes_above_1) <= len(image_shape) + 1
    ):
        return f"{name}.reshape({', '.join(map(str, (-1, *image_shape)))})"
    if batch_axes not in (0, 1):
        return None
    for axes in permutations(range(len(shape))):
        if tuple(shape[axis] for axis in axes[batch_axes:]) == image_shape:
            return f"{name}.transpose({', '.join(map(str, axes))})"
    return None


def arrange_images(name: str, shape: Shape, count: int) -> str | None:
    """Return NumPy's expression that makes images of an array whose axes are in another order.

    Args:
        name: of the array in the expression.
        shape: of the array.
        count: of its images.

    Returns:
        The expression; None where no such order is known.
    """
    if len(shape) > 2 and shape[0] != count == shape[-1]:
        return f"np.moveaxis({name}, -1, 0)"
    if len(shape) == 4 and shape[1] in (1, 3):
        return f"{name}.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] in (2, 4):  # grey or colours with transparency
        return f"{name}[..., :{shape[3] - 1}]"
    if len(shape) == 2 and shape[0] == count:
        side, colour_side = math.isqrt(shape[1]), math.isqrt(shape[1] // 3)
        if side * side == shape[1] > 1:
            return f"{name}.reshape(-1, {side}, {side})"
        if 3 * colour_side * colour_side == shape[1]:  # in the order of CIFAR-10's rows
            axes = f"-1, 3, {colour_side}, {colour_side}"
            return f"{name}.reshape({axes}).transpose(0, 2, 3, 1)"
    return None


def make_shape_error(
    where: str, shape: Shape, input_shape: Shape, image_shape: Shape | None
) -> DataError:
    """Return the error for an array that is neither an input of a network nor a batch of them.

    Args:
        where: the array's name, for messages.
        shape: of the array.
        input_shape: of the network.
        image_shape: of the images that it was made for; None where that is not known.
    """
    wanted = image_shape or input_shape
    batch = ", ".join(("N", *map(str, wanted)))
    what = f"an array of shape {shape}, where the network takes {wanted} or a batch ({batch})"
    expression = arrange_axes("x", shape, wanted)
    if expression is not None:
        return DataError(where, what, _suggest(where, expression))
    return DataError(where, what, "reshape it; a picture of another size can be sent as PNG")


def make_python_command(statements: str, **paths: Path) -> str:
    """Return the shell's command that carries out statements of NumPy, which is called np.

    Args:
        statements: in one line; `{name}` stands for a path.
        **paths: by name.
    """
    texts = {name: json.dumps(str(path), ensure_ascii=False) for name, path in paths.items()}
    for name, text in texts.items():
        statements = statements.replace(f"{{{name}}}", text)
    return f"python -c {shlex.quote(f'import numpy as np; {statements}')}"


def _suggest(where: str, expression: str) -> str:
    """Return the hint to change an array x: a command where it is in a file."""
    path = Path(where)
    if path.suffix != ARRAY_SUFFIX:
        return f"send {expression}"
    mended = path.with_name(f"{path.stem}-mended{ARRAY_SUFFIX}")
    statements = f"x = np.load({{path}}); np.save({{mended}}, {expression})"
    command = make_python_command(statements, path=path, mended=mended)
    return f"make {mended.name} of it and give that: {command}"
