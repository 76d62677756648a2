"""Cold commands: from process start to exit, each beside the Keras script that does the same.

    python benchmarks/cold_commands.py [--rounds 7] [--json FILE]

Every round runs all commands and scripts in turn; ratios are taken round by round. The yardstick
is `python -c "import keras"`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from warm_epochs import describe_machine

YARDSTICK = "import keras"
LOAD = """
import sys, numpy as np, keras
data = np.load(sys.argv[1])
x_test, y_test = data["x_test"].reshape(-1, 784) / 255, keras.utils.to_categorical(data["y_test"])
"""
SCRIPTS = {
    "--help": "import keras",
    "--version": "import keras; print(keras.__version__)",
    "summary": "import sys, keras; keras.models.load_model(sys.argv[2]).summary()",
    "predict of one image": LOAD
    + "model = keras.models.load_model(sys.argv[2]); print(model.predict(x_test[:1]).argmax())",
    "evaluate on 10,000": LOAD
    + "model = keras.models.load_model(sys.argv[2]); print(model.evaluate(x_test, y_test))",
    "train --epochs 100": LOAD
    + """
x_train = data["x_train"].reshape(-1, 784) / 255
y_train = keras.utils.to_categorical(data["y_train"])
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, activation="softmax")])
model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=1024, epochs=100, verbose=2)
print(model.evaluate(x_test, y_test))
model.save(sys.argv[3])
""",
}


@dataclass(frozen=True)
class Row:
    """One command: median seconds, its share of the yardstick and of its script."""

    command: str
    seconds: float
    script_seconds: float
    share_of_import_keras: float
    share_of_script: float


def run(*words: str) -> float:
    began_s = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def list_commands(model: Path, data: Path, image: Path, output: Path) -> dict[str, list[str]]:
    tool = [sys.executable, "-m", "mnistcli"]
    at = ["--data-dir", str(data)]
    return {
        "--help": [*tool, "--help"],
        "--version": [*tool, "--version"],
        "summary": [*tool, "summary", str(model)],
        "predict of one image": [*tool, "predict", str(model), str(image)],
        "evaluate on 10,000": [*tool, "evaluate", str(model), *at],
        "train --epochs 100": [
            *tool, "train", "--epochs", "100", "-o", str(output), "--overwrite", *at
        ],
    }  # fmt: skip


def measure(rounds: int, data: Path) -> list[Row]:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        model, image = Path(folder, "model.h5"), Path(folder, "digit.png")
        output, saved = Path(folder, "run.h5"), Path(folder, "script.h5")
        tool = [sys.executable, "-m", "mnistcli"]
        run(*tool, "train", "--epochs", "3", "-o", str(model), "--data-dir", str(data))
        import numpy as np

        Image.fromarray(np.load(data / "mnist.npz")["x_test"][0]).save(image)
        commands = list_commands(model, data, image, output)
        yardsticks: list[float] = []
        ours: dict[str, list[float]] = {name: [] for name in commands}
        theirs: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            yardsticks.append(run(sys.executable, "-c", YARDSTICK))
            for name, words in commands.items():
                ours[name].append(run(*words))
                script = [str(data / "mnist.npz"), str(model), str(saved)]
                theirs[name].append(run(sys.executable, "-c", SCRIPTS[name], *script))
    return [
        Row(
            command=name,
            seconds=statistics.median(ours[name]),
            script_seconds=statistics.median(theirs[name]),
            share_of_import_keras=divide(ours[name], yardsticks),
            share_of_script=divide(ours[name], theirs[name]),
        )
        for name in commands
    ]


def divide(times: list[float], others: list[float]) -> float:
    """The median ratio, round by round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def format_table(rows: list[Row]) -> str:
    lines = [
        "| command | mnistcli | Keras script | share of `import keras` | share of the script |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.command} | {row.seconds:.2f} s | {row.script_seconds:.2f} s"
        f" | {row.share_of_import_keras:.3f} | {row.share_of_script:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    import os

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("MNISTCLI_DATA_DIR"))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if options.data_dir is None:
        parser.error("name the folder with mnist.npz: --data-dir or MNISTCLI_DATA_DIR")
    rows = measure(options.rounds, Path(options.data_dir))
    print(f"{describe_machine(len(os.sched_getaffinity(0)))}; medians of {options.rounds} rounds\n")
    print(format_table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
