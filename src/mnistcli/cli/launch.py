"""Loads TensorFlow and puts a planned run where it begins."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mnistcli.backend import load_backend, start_loading
from mnistcli.checkpoint.seal import COPY_HINT
from mnistcli.cli.run_plan import Plan
from mnistcli.errors import CheckpointError
from mnistcli.folders import find_cache
from mnistcli.program_cache import ProgramCache, use_program_cache

if TYPE_CHECKING:
    from mnistcli.training import Training


def begin_loading() -> ProgramCache | None:
    """Begin to load TensorFlow, and say where it keeps what it compiles."""
    programs = use_program_cache(find_cache(os.environ) / "programs")
    start_loading()
    return programs


def build_training(plan: Plan) -> Training:
    """Return the run at its first step, or where the checkpoint left it that it goes on from.

    Raises:
        CheckpointError: that checkpoint's arrays are another network's.
    """
    load_backend()
    from mnistcli.training import Training, set_thread_count

    set_thread_count(plan.threads)
    training = Training(
        plan.config, plan.architecture, plan.train, plan.validation, plan.preprocessing
    )
    if plan.initial_weights is not None:
        training.assign_weights(plan.initial_weights)
    if plan.start is not None and plan.start.state is not None:
        try:
            training.restore(plan.start.state)
        except ValueError as error:
            what = "its arrays are not those of the network that its config describes"
            raise CheckpointError(str(plan.start.path), what, COPY_HINT) from error
    return training
