"""Networks and files beyond the size limits are refused before they are trained or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Run
from helpers.checkpoints import make_run
from mnistcli.checkpoints import record
from mnistcli.checkpoints.record import estimate_file_size
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.errors import ResourceError
from mnistcli.models.architecture import plan_architecture


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--hidden", "9000,9000", "--optimizer", "adam", "--validation", "0.1",
             "--set", "training.early_stopping.patience=5"),
            "checkpoint: this run's file would have 1.4 GB, files of at most 1.0 GB are read back."
            " Use a smaller network (--hidden), or an optimizer that keeps less (--optimizer sgd)",
        ),
        (
            ("--hidden", "20000,20000"),
            "checkpoint: this network has 415,920,010 parameters, at most 200,000,000 are read"
            " back. Use a smaller network (--hidden)",
        ),
    ],
    ids=["bytes", "parameters"],
)  # fmt: skip
def test_a_run_whose_file_would_be_too_large_is_refused_before_it_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], line: str
) -> None:
    monkeypatch.setattr(record, "MAX_FILE_BYTES", 10**9)
    ended = run("train", "--model", "mlp", *words, "-o", "m.h5")
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.splitlines()[-1] == f"mnistcli: error: {line}"
    assert list(Path().iterdir()) == []


def test_a_file_that_is_too_large_all_the_same_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.h5"
    replace_checkpoint(path, *make_run(1))
    before = path.read_bytes()
    monkeypatch.setattr(record, "MAX_FILE_BYTES", len(before) - 1)
    with pytest.raises(ResourceError, match=r"m\.h5: this run's file would have 0 MB, files of"):
        replace_checkpoint(path, *make_run(1))
    assert path.read_bytes() == before


@pytest.mark.parametrize("words", [(), ("--hidden", "64,32", "--optimizer", "adam")])
def test_a_file_is_never_larger_than_was_said_before(run: Run, words: tuple[str, ...]) -> None:
    stopping = ("--validation", "0.1", "--set", "training.early_stopping.patience=5")
    words = ("--model", "mlp", *words, *stopping, "--batch-size", "100", "--epochs", "2")
    assert run("train", *words, "-q", "-o", "m.h5").code == 0
    blocks = {
        "model": {"type": "mlp", "hidden": [64, 32] if "64,32" in words else [128]},
        "training": {
            "epochs": 2,
            "optimizer": "adam" if "adam" in words else "sgd",
            "early_stopping": {},
        },
        "dataset": {"validation": 0.1},
    }
    config = Config.model_validate(blocks)
    network = plan_architecture(config.model, (28, 28), 10)
    size_bytes = Path("m.h5").stat().st_size
    assert size_bytes <= estimate_file_size(network, config.training) < size_bytes + (5 << 20)
