"""Turns the flags about pictures into how these are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from mnistcli.config.allowed_values import check_choice
from mnistcli.errors import UsageError
from mnistcli.images.options import InkChoice, Prepare, Step, Treatment


def choose_treatment(prepare: str, ink: str, skip: Sequence[str]) -> Treatment:
    """Read `--prepare`, `--ink` and `--skip`; the last takes lists, and may be repeated.

    Raises:
        UsageError: a name that is unknown, or steps to skip where none are taken.
    """
    check_choice(prepare, get_args(Prepare), "--prepare")
    check_choice(ink, get_args(InkChoice), "--ink")
    steps = [step.strip() for steps in skip for step in steps.split(",")]
    for step in steps:
        check_choice(step, get_args(Step), "--skip")
    if steps and prepare != "auto":
        what = f"--prepare {prepare} takes no steps that could be left out"
        raise UsageError("--skip", what, "leave one of the two out")
    skipped = frozenset(cast("list[Step]", steps))
    return Treatment(cast("Prepare", prepare), cast("InkChoice", ink), skipped)
