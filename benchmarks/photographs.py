"""How well `predict` reads photographs: pictures made from MNIST, prepared, resized, and clean.

    python benchmarks/photographs.py MODEL.h5 [--split test] [--count 200] [--json FILE]

For each kind of picture (`tests/helpers/paper.py`), digits of the split are put on paper,
photographed, and read back from their files: once prepared as `predict` does, once only resized,
and beside them the originals. As many empty pages are taken, on which no digit must be found. The
same seed makes the same pictures. Whatever is tuned is tuned on `--split train`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.paper import SCENES, Scene, photograph
from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.config.schema import DatasetConfig
from mnistcli.datasets.base import Split
from mnistcli.datasets.registry import load_dataset, search_from_environment
from mnistcli.errors import DataError
from mnistcli.images.options import PreparationOptions
from mnistcli.images.preparation import DIGIT_SHAPE, read_image
from mnistcli.models.numpy_inference import run_network

NOTHING = np.zeros(DIGIT_SHAPE, np.uint8)
TILE = 112


@dataclass(frozen=True)
class Row:
    """One kind of picture; shares of the pictures, and the median time to prepare one."""

    kind: str
    count: int
    clean: float
    resized: float
    prepared: float
    refused: int
    empty_count: int
    empty_recognised: int
    milliseconds: float


@dataclass(frozen=True)
class Mistake:
    """A picture that is taken for another digit, for the contact sheet."""

    content: bytes
    seen: NDArray[np.uint8]
    original: NDArray[np.uint8]
    truth: int
    guess: int


def read(content: bytes, options: PreparationOptions) -> NDArray[np.uint8] | None:
    try:
        return read_image(content, "picture", DIGIT_SHAPE, options).pixels
    except DataError:
        return None


def classify(model: Checkpoint, images: list[NDArray[np.uint8]]) -> NDArray[np.intp]:
    assert model.record is not None
    preprocessing = model.record.preprocessing
    logits = run_network(model.architecture, model.weights, np.stack(images), preprocessing)
    return np.asarray(logits.argmax(axis=1))


def measure_kind(
    model: Checkpoint, split: Split, kind: str, scene: Scene, count: int
) -> tuple[Row, list[Mistake]]:
    generator = np.random.default_rng([2026, list(SCENES).index(kind), count])
    rows = generator.choice(len(split), count, replace=False)
    originals, truths = list(split.images[rows]), split.labels[rows]
    contents = [photograph(digit, scene, generator) for digit in originals]
    empty = [photograph(None, scene, generator) for _ in range(count // 4)]
    seen, seconds = [], []
    for content in contents:
        start = time.process_time()
        seen.append(read(content, PreparationOptions()))
        seconds.append(time.process_time() - start)
    resized = [read(content, PreparationOptions(prepare="resize")) for content in contents]
    guesses = {
        "clean": classify(model, originals),
        "resized": classify(model, [NOTHING if image is None else image for image in resized]),
        "prepared": classify(model, [NOTHING if image is None else image for image in seen]),
    }
    found = np.array([image is not None for image in seen])
    right = {name: guess == truths for name, guess in guesses.items()}
    right["prepared"] &= found
    row = Row(
        kind=kind,
        count=count,
        refused=int((~found).sum()),
        empty_count=len(empty),
        empty_recognised=sum(read(content, PreparationOptions()) is None for content in empty),
        milliseconds=1000 * float(np.median(seconds)),
        **{name: float(values.mean()) for name, values in right.items()},
    )
    mistakes = [
        Mistake(
            contents[i],
            NOTHING if seen[i] is None else seen[i],
            originals[i],
            int(truths[i]),
            int(guesses["prepared"][i]) if found[i] else -1,
        )
        for i in np.flatnonzero(~right["prepared"])
    ]
    return row, mistakes


def draw_sheet(mistakes: list[Mistake], path: Path, columns: int = 6) -> None:
    """Beside each picture that was misread, what the network saw of it, and the original."""
    import io

    lines = max(1, -(-len(mistakes) // columns))
    sheet = Image.new("RGB", (columns * 2 * TILE, lines * (TILE + 12)), "#444")
    draw = ImageDraw.Draw(sheet)
    for number, mistake in enumerate(mistakes):
        x, y = number % columns * 2 * TILE, number // columns * (TILE + 12)
        picture = Image.open(io.BytesIO(mistake.content)).convert("RGB")
        picture.thumbnail((TILE - 4, TILE - 4))
        sheet.paste(picture, (x, y + 12))
        seen = Image.fromarray(mistake.seen).resize((TILE - 4, TILE - 4), Image.Resampling.NEAREST)
        sheet.paste(seen, (x + TILE, y + 12))
        sheet.paste(Image.fromarray(mistake.original), (x + TILE, y + 12))
        draw.text((x + 2, y), f"{mistake.truth} read as {mistake.guess}", fill="white")
    sheet.save(path)


def print_table(rows: list[Row]) -> None:
    print("| pictures | clean originals | resized | prepared | refused | empty pages told | ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row.kind} | {row.clean:.3f} | {row.resized:.3f} | {row.prepared:.3f} "
            f"| {row.refused} | {row.empty_recognised} of {row.empty_count} "
            f"| {row.milliseconds:.0f} |"
        )


def join_rows(rows: list[Row]) -> Row:
    def mean(name: str) -> float:
        return float(np.average([getattr(row, name) for row in rows], weights=counts))

    counts = [row.count for row in rows]
    return Row(
        "all", sum(counts), mean("clean"), mean("resized"), mean("prepared"),
        sum(row.refused for row in rows), sum(row.empty_count for row in rows),
        sum(row.empty_recognised for row in rows), mean("milliseconds"),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--count", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--kind", help="only kinds whose name holds this")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--sheet", type=Path, help="draw the misread pictures into a PNG file")
    arguments = parser.parse_args()
    model = read_checkpoint(arguments.model)
    search = search_from_environment(None)
    split = load_dataset(DatasetConfig(name="mnist"), frozenset({arguments.split}), search).splits[
        arguments.split
    ]
    rows, mistakes = [], []
    for kind, scene in SCENES.items():
        if arguments.kind is None or arguments.kind in kind:
            row, misread = measure_kind(model, split, kind, scene, arguments.count)
            rows.append(row)
            mistakes += misread
    rows.append(join_rows(rows))
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if arguments.sheet:
        draw_sheet(mistakes, arguments.sheet)


if __name__ == "__main__":
    main()
