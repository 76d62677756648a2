"""The memory estimate of a run against its measured peak."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import Run

pytestmark = pytest.mark.slow

PEAK = """
import resource, sys
from mnistcli.cli import app

code = app.run(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak * (1 if sys.platform == "darwin" else 1024))
sys.exit(code)
"""


STOPPING = ("--validation", "0.1", "--set", "training.early_stopping.patience=3")
MOMENTUM = ("--set", "training.optimizer={name: sgd, momentum: 0.9}")
SHAPES = {
    "softmax": (),
    "small": ("--hidden", "128", "--optimizer", "adam", "--batch-size", "512"),
    "deep": ("--hidden", ",".join(["256"] * 10), "--optimizer", "rmsprop"),
    "one batch": ("--hidden", "1024", "--batch-size", "12000"),
    "wide": ("--hidden", "8192", *MOMENTUM, "--batch-size", "512"),
    "adam": ("--hidden", "2048,2048", "--optimizer", "adam"),
    "dropout": ("--hidden", "1024,1024,1024", "--dropout", "0.5", "--batch-size", "12000"),
    "stopping": ("--hidden", "2048,2048", "--optimizer", "adamw", *STOPPING),
    "weights": ("--hidden", "6000,6000", "--optimizer", "sgd", "--batch-size", "2000"),
    "slots": ("--hidden", "4096,4096", "--optimizer", "adam"),
    "large batches": ("--hidden", "4096,4096,4096", "--batch-size", "10000"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_near_the_measured_peak(
    run: Run, environment: dict[str, str], name: str
) -> None:
    words = ("--model", "mlp", *SHAPES[name]) if SHAPES[name] else ()
    command = ["train", "--dataset", "synthetic", *words]
    expected = run(*command, "--dry-run", "--json").json["memory"]["total"]
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, *command, "--epochs", "2", "-q", "-o", "m.h5"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak = int(ended.stdout.splitlines()[-1])
    assert 0.85 < expected / peak < 1.2, (expected, peak)
