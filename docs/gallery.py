"""Draws the gallery: `make gallery` writes docs/gallery/*.png and docs/gallery.md from real runs.

Everything is trained on the synthetic digits, which the tool draws itself: nothing that was made
from other people's data sets lies in the repository.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
GALLERY = DOCS / "gallery"
MAX_BYTES = 100_000  # of one picture: a clone pays for them all

RUNS = (
    "train mnist-softmax --dataset synthetic -o softmax.h5",
    "train mnist-mlp --dataset synthetic --hidden 64 --dropout 0.2 --epochs 20 --validation 0.2"
    " -o mlp.h5",
)


@dataclass(frozen=True)
class Exhibit:
    """One picture: what it shows, and the command that draws it."""

    file: str
    title: str
    words: str
    about: str


EXHIBITS = (
    Exhibit(
        "digits.png", "A data set", "data synthetic --first 36",
        "The first 36 of the synthetic test digits and their labels.",
    ),
    Exhibit(
        "curves.png", "Curves", "plot curves mlp.h5",
        "Cost and accuracy over the epochs. Where training goes on and validation does not, the"
        " network learns its examples by heart.",
    ),
    Exhibit(
        "confusion.png", "Confusion matrix", "plot confusion softmax.h5",
        "Right ones are blue by their share of the row, mistakes orange by theirs, the deepest"
        " orange being the worst confusion.",
    ),
    Exhibit(
        "templates.png", "Weights of a softmax regression", "plot weights softmax.h5",
        "One template a class: ink on orange speaks for it, ink on blue against it.",
    ),
    Exhibit(
        "filters.png", "Weights of a perceptron", "plot weights mlp.h5 --first 16",
        "What the hidden units look for.",
    ),
    Exhibit(
        "predictions.png", "Predictions", "plot predictions softmax.h5 --first 24",
        "The predicted class and its probability above the true class; mistakes are framed.",
    ),
    Exhibit(
        "mistakes.png", "Mistakes", "plot mistakes softmax.h5 --first 12",
        "The wrong ones that the network was surest of, with their rows in the data set.",
    ),
    Exhibit(
        "calibration.png", "Calibration", "plot calibration softmax.h5",
        "Where bars end below the diagonal the network is too sure of itself, above it not sure"
        " enough. ECE is the mean distance, weighted by the counts below.",
    ),
)  # fmt: skip


def run(words: str, directory: Path) -> None:
    command = [sys.executable, "-m", "mnistcli", *shlex.split(words)]
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)


def draw(directory: Path) -> None:
    GALLERY.mkdir(exist_ok=True)
    for exhibit in EXHIBITS:
        file = GALLERY / exhibit.file
        run(f"{exhibit.words} -o {shlex.quote(str(file))} --overwrite", directory)
        size_bytes = file.stat().st_size
        if size_bytes > MAX_BYTES:
            sys.exit(f"{file} has {size_bytes:,} bytes, more than the {MAX_BYTES:,} allowed")
        print(f"{file.relative_to(DOCS)}: {size_bytes / 1000:.0f} kB")


def write_page() -> None:
    lines = [
        "# Gallery",
        "",
        "Pictures of two runs on the synthetic digits, which mnistcli draws itself; `make gallery`",
        "makes them again:",
        "",
        "```sh",
        *(f"mnistcli {words}" for words in RUNS),
        "```",
    ]
    for exhibit in EXHIBITS:
        lines += [
            "", f"## {exhibit.title}", "",
            exhibit.about, "",
            "```sh", f"mnistcli {exhibit.words} -o {exhibit.file}", "```", "",
            f"![{exhibit.title}](gallery/{exhibit.file})",
        ]  # fmt: skip
    (DOCS / "gallery.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for words in RUNS:
            run(f"{words} -q", Path(directory))
        draw(Path(directory))
    write_page()


if __name__ == "__main__":
    main()
