"""What `plot` and `data` find out: the JSON that scripts read.

As in `results`, keys are promises.
"""

from __future__ import annotations

from pydantic import Field

from mnistcli.output.answers import Answer, AnswerPart
from mnistcli.output.results import Name


class PictureResult(AnswerPart):
    """A picture that was written; sizes are in pixels, an SVG's in points."""

    path: Name
    width: int
    height: int


class PlotResult(Answer):
    """The answer of `plot`; `split` is null for what was drawn from the checkpoint alone."""

    checkpoint: Name
    kind: str
    path: Name
    width: int
    height: int
    split: str | None


class BinResult(AnswerPart):
    """Predictions with a confidence in (low, high]; means are null where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class CalibrationPlotResult(PlotResult):
    """The answer of `plot calibration`: the expected calibration error too, and its bins."""

    ece: float
    bins: tuple[BinResult, ...]


class ArrayResult(AnswerPart):
    """One array of a data set; `minimum` and `maximum` are of its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    minimum: int
    maximum: int
    sha256: str


class ExampleResult(AnswerPart):
    """One image: `matrix` has its numbers where they were asked for, as nested lists."""

    split: str
    row: int
    class_index: int = Field(serialization_alias="class")
    label: str
    one_hot: tuple[int, ...]
    minimum: float
    maximum: float
    matrix: list[object] | None


class DataResult(Answer):
    """The answer of `data`.

    `balance` counts each class's examples in each split; `example` is null without `--index`,
    `picture` without `-o`.
    """

    name: str
    title: str
    location: Name
    known_as: str | None
    sha256: str | None
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    arrays: tuple[ArrayResult, ...]
    counts: dict[str, int]
    balance: dict[str, tuple[int, ...]]
    example: ExampleResult | None
    picture: PictureResult | None


class FetchResult(Answer):
    """The answer of `data --fetch`; `location` is null for what is built in."""

    name: str
    location: Name | None
    downloaded: bool
