"""Two hundred kills of trainings, each resumed, with bit-identical results."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.kill_loop import RUNS, KillLoop

pytestmark = pytest.mark.slow


def test_two_hundred_kills_and_resumes_end_with_the_same_bits(tmp_path: Path) -> None:
    report = KillLoop(tmp_path, seed=0).kill(200)
    print(*report.describe(), sep="\n")  # noqa: T201 (the counts are what one runs this for)
    assert report.kills.total() == 200
    assert min(report.kills[m] for m in ("starting", "compiling", "training", "ending")) > 10
    assert report.finished > len(RUNS)
    assert report.is_clean, list(report.describe())
