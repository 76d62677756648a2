"""Loads TensorFlow and puts a planned run where it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnistcli.backend import load_backend
from mnistcli.checkpoint.seal import COPY_HINT
from mnistcli.cli.run_plan import Plan
from mnistcli.errors import CheckpointError

if TYPE_CHECKING:
    from mnistcli.training import Training


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


def forget_training() -> None:
    """Let Keras begin anew after a run, once nothing holds that run any more.

    It numbers what it names in one process (adam, adam_1), and keeps compiled functions; the next
    run shall be that of a process of its own.
    """
    import keras

    keras.utils.clear_session()
