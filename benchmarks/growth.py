"""Growth: time per epoch and peak memory against rows, layer width and batch size.

    python benchmarks/growth.py [--json FILE] [--plot FILE.svg]

Each point is a process of its own that trains a few epochs on random images and reports the
median warm epoch and its peak resident memory; `model.fit` on the same arrays stands beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS = (7_500, 15_000, 30_000, 60_000, 120_000, 240_000)
WIDTHS = (32, 128, 512, 2048)
BATCHES = (32, 128, 512, 2048)
EPOCHS = 4


@dataclass(frozen=True)
class Point:
    """One measured point: our loop or model.fit."""

    axis: str
    value: int
    contender: str
    epoch_s: float
    peak_mib: float


def train(contender: str, rows: int, width: int, batch_size: int) -> None:
    """Train in this process, and print the median warm epoch and the peak memory."""
    import resource
    import time

    import numpy as np

    from mnistcli.tensorflow_import import load_backend

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (rows, 28, 28), np.uint8)
    labels = generator.integers(0, 10, rows, np.uint8)
    load_backend()
    durations: list[float] = []
    if contender == "mnistcli":
        from mnistcli.config.schema import Config
        from mnistcli.datasets.base import Split
        from mnistcli.models.architecture import plan_architecture
        from mnistcli.models.input_scaling import Preprocessing
        from mnistcli.training.trainer import Trainer

        config = Config.model_validate(
            {
                "model": {"type": "mlp", "hidden": [width]},
                "training": {
                    "epochs": EPOCHS, "batch_size": batch_size, "optimizer": "adam",
                    "loss": "sparse_categorical_crossentropy",
                },
            }
        )  # fmt: skip
        plan = plan_architecture(config.model, (28, 28), 10)
        run = Trainer(config, plan, Split(images, labels), None, Preprocessing(0.0, 255.0))
        durations.extend(run.fit().progress.epoch_durations_s)
    else:
        import keras

        network = keras.Sequential(
            [
                keras.Input((784,)),
                keras.layers.Dense(width, "relu"),
                keras.layers.Dense(10, "softmax"),
            ]
        )
        network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        inputs = images.reshape(rows, 784).astype("float32") / 255
        for _ in range(EPOCHS):
            began_s = time.perf_counter()
            network.fit(inputs, labels, batch_size, verbose=0)
            durations.append(time.perf_counter() - began_s)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([statistics.median(durations[1:]), peak_kib / 1024]))


def measure(axis: str, value: int, contender: str) -> Point:
    setting = {"rows": 60_000, "width": 128, "batch size": 128, axis: value}
    words = [contender, str(setting["rows"]), str(setting["width"]), str(setting["batch size"])]
    answer = subprocess.run(
        [sys.executable, __file__, "--point", *words],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    epoch_s, peak_mib = json.loads(answer.stdout)
    print(f"{axis} {value} {contender}: {epoch_s:.3f} s, {peak_mib:.0f} MiB", file=sys.stderr)
    return Point(axis, value, contender, epoch_s, peak_mib)


def format_tables(points: list[Point]) -> str:
    lines: list[str] = []
    for axis in dict.fromkeys(point.axis for point in points):
        lines += [
            f"\n| {axis} | epoch, mnistcli | epoch, model.fit | memory, mnistcli"
            " | memory, model.fit |",
            "| ---: | ---: | ---: | ---: | ---: |",
        ]
        for value in dict.fromkeys(p.value for p in points if p.axis == axis):
            ours, theirs = (
                next(p for p in points if (p.axis, p.value, p.contender) == (axis, value, name))
                for name in ("mnistcli", "fit")
            )
            lines.append(
                f"| {value:,} | {ours.epoch_s:.3f} s | {theirs.epoch_s:.3f} s"
                f" | {ours.peak_mib:.0f} MiB | {theirs.peak_mib:.0f} MiB |"
            )
    return "\n".join(lines)


def plot(points: list[Point], path: Path) -> None:
    """Draw time and memory against each axis; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(point.axis for point in points))
    figure, panels = plt.subplots(2, len(axes), figsize=(4 * len(axes), 6.5), layout="constrained")
    styles = {"mnistcli": ("#0072B2", "o", "mnistcli"), "fit": ("#D55E00", "s", "model.fit")}
    for column, axis in enumerate(axes):
        for name, (colour, marker, label) in styles.items():
            chosen = [p for p in points if p.axis == axis and p.contender == name]
            values = [p.value for p in chosen]
            for row, figures in enumerate(
                ([p.epoch_s for p in chosen], [p.peak_mib for p in chosen])
            ):
                panels[row, column].plot(values, figures, color=colour, marker=marker, label=label)
        for row, unit in enumerate(("seconds per epoch", "peak memory, MiB")):
            panel = panels[row, column]
            panel.set_xscale("log", base=2)
            panel.set_xticks(values, [f"{value:,}" for value in values], rotation=30)
            panel.minorticks_off()
            panel.set_xlabel(axis)
            panel.set_ylabel(unit)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
    panels[0, 0].legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--plot", type=Path, help="draw them into this file")
    options = parser.parse_args()
    if options.point:
        contender, *numbers = options.point
        train(contender, *map(int, numbers))
        return
    axes = {"rows": ROWS, "width": WIDTHS, "batch size": BATCHES}
    points = [
        measure(axis, value, contender)
        for axis, values in axes.items()
        for value in values
        for contender in ("mnistcli", "fit")
    ]
    print(format_tables(points))
    if options.json:
        options.json.write_text(json.dumps([asdict(point) for point in points], indent=2))
    if options.plot:
        plot(points, options.plot)


if __name__ == "__main__":
    main()
