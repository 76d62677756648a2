"""Loads TensorFlow and puts a planned run where it begins."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from mnistcli.checkpoints.checksum import COPY_HINT
from mnistcli.checkpoints.environment import list_differences
from mnistcli.commands.train.joining import join_others
from mnistcli.commands.train.run_plan import Plan
from mnistcli.errors import CheckpointError
from mnistcli.models.available_memory import read_available_memory
from mnistcli.models.memory import format_bytes
from mnistcli.tensorflow_import import load_backend, start_loading
from mnistcli.training.xla_cache import ProgramCache, use_program_cache
from mnistcli.user_folders import find_cache

if TYPE_CHECKING:
    from mnistcli.training.distributed.engine import Engine
    from mnistcli.training.timing import Pace
    from mnistcli.training.trainer import Training

_LOG = logging.getLogger(__name__)


def begin_loading() -> ProgramCache | None:
    """Begin to load TensorFlow, and say where it keeps what it compiles."""
    programs = use_program_cache(find_cache(os.environ) / "programs")
    start_loading()
    return programs


def build_training(plan: Plan) -> Training:
    """Return the run at its first step, or where the checkpoint left it that it goes on from.

    Raises:
        CheckpointError: that checkpoint's arrays are another network's.
        ResourceError: there are not so many devices, or other workers did not come.
        UsageError: another worker was started with another run.
    """
    _log_plan(plan)
    load_backend()
    from mnistcli.training.distributed.devices import set_thread_count
    from mnistcli.training.trainer import Training

    set_thread_count(plan.threads)
    training = Training(
        plan.config,
        plan.architecture,
        plan.train,
        plan.validation,
        plan.preprocessing,
        _open_engine(plan),
    )
    if plan.initial_weights is not None:
        training.assign_weights(plan.initial_weights)
    return resume_training(training, plan)


def resume_training(training: Training, plan: Plan) -> Training:
    """Bring a run to where its checkpoint left it, if there is one.

    Raises:
        CheckpointError: that checkpoint's arrays are another network's.
    """
    if plan.start is not None and plan.start.state is not None:
        try:
            training.restore(plan.start.state)
        except ValueError as error:
            what = "its arrays are not those of the network that its config describes"
            raise CheckpointError(str(plan.start.path), what, COPY_HINT) from error
    return training


def _open_engine(plan: Plan) -> Engine:
    """Return where the run is trained."""
    if plan.cluster is not None:
        return join_others(plan, plan.cluster)
    from mnistcli.training.distributed.devices import open_devices

    return open_devices(plan.devices, plan.placement)


def forget_training() -> None:
    """Let Keras begin anew after a run, once nothing holds that run any more.

    It numbers what it names in one process (adam, adam_1), and keeps compiled functions; the next
    run shall be that of a process of its own.
    """
    import keras

    keras.utils.clear_session()


def measure_run(plan: Plan) -> Pace:
    """Take some steps of a planned run, from weights of their own, to see how long they take."""
    _log_plan(plan)
    load_backend()
    from mnistcli.training.distributed.devices import set_thread_count
    from mnistcli.training.timing import measure_pace

    set_thread_count(plan.threads)
    return measure_pace(
        plan.config,
        plan.architecture,
        plan.train,
        plan.validation,
        plan.preprocessing,
        _open_engine(plan),
    )


def _log_plan(plan: Plan) -> None:
    """Write down what the run is, for whoever wonders later."""
    _LOG.info("config: %s", plan.config.model_dump_json())
    available = read_available_memory()
    known = "unknown" if available is None else format_bytes(available)
    needs = plan.memory.describe()
    _LOG.info("memory: needs %s, rows %s; available: %s", needs, plan.placement, known)
    environment = plan.describe_environment()
    _LOG.info("environment: %s", environment.model_dump_json())
    if plan.init_from is not None and plan.start is None:
        _LOG.info("first weights: %s, sha256 %s", plan.init_from, plan.init_weights_sha256)
    if plan.start is not None and plan.start.record is not None:
        progress, record = plan.start.progress, plan.start.record
        where = (plan.start.path, progress.epoch, progress.step, plan.config.training.epochs)
        _LOG.info("resumes %s after epoch %d and %d steps, up to epoch %d", *where)
        differences = list_differences(record.environment, environment)
        _LOG.info("differences to where it was made: %s", ", ".join(differences) or "none")
