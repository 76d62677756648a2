"""The kinds of plots; `figures` says what they show, the backends draw it.

A new kind takes a line of PLOT_KINDS and a function in `commands.plot` that composes its figure; a
new type of figure takes a function in each backend.
"""

from __future__ import annotations

from dataclasses import dataclass

_DATA = ("--dataset", "--normalization", "--data", "--data-dir")


@dataclass(frozen=True)
class PlotKind:
    """A kind of plot, as the command line declares it.

    Attributes:
        about: for the help.
        flags: those that change it; with `--split` it reads a part of the data.
        needs_weights: it shows more than the record of a run.
    """

    about: str
    flags: tuple[str, ...] = ()
    needs_weights: bool = True


PLOT_KINDS = {
    "curves": PlotKind("cost and accuracy over the epochs", needs_weights=False),
    "confusion": PlotKind("what was taken for what", ("--split", *_DATA)),
    "weights": PlotKind(
        "what the first layer's units look for", ("--first", "--dataset", "--data")
    ),
    "predictions": PlotKind(
        "images with their predicted and true classes", ("--split", "--first", *_DATA)
    ),
    "mistakes": PlotKind("the most confident wrong ones", ("--split", "--first", *_DATA)),
    "calibration": PlotKind("confidence against accuracy", ("--split", *_DATA)),
}
