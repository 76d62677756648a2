"""One trial of a sweep: a run like any other, watched by what may end it early."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mnistcli.checkpoints.environment import describe_environment, list_differences
from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.commands.sweep.sweep_watcher import Watcher, Workplace
from mnistcli.commands.train.request import choose_output
from mnistcli.commands.train.run_data import load_data, plan_memory
from mnistcli.commands.train.run_keeper import RunKeeper
from mnistcli.commands.train.run_plan import Plan
from mnistcli.config.schema import Config
from mnistcli.errors import (
    CheckpointError,
    ConfigError,
    DivergenceError,
    MnistcliError,
    ResourceError,
    UsageError,
)
from mnistcli.output.progress import open_epoch_display

if TYPE_CHECKING:
    from mnistcli.commands.sweep.trial_queue import Claim


def run_trial(claim: Claim, place: Workplace) -> None:
    """Train a trial, from where a worker that died has left it, and hand it in.

    A trial that diverges, or whose combination is refused, is failed.

    Raises:
        DataError, ResourceError, UsageError: what would end every other trial too.
    """
    desk, sweep = place.desk, place.sweep
    try:
        values = sweep.read_values(claim.trial.params)
        config = sweep.make_config(values).with_lengths()
        plan_memory(config, place.request)
    except (ConfigError, ResourceError) as error:
        desk.fail(claim, _tell_reason(error))
        return
    plan = _plan_trial(config, claim, place)
    keeper = RunKeeper(plan, place.request, place.console)
    keeper.stop = place.stop
    keeper.display = open_epoch_display(config.training.epochs, 0, "none")
    watcher = Watcher(keeper, claim, place, config.training.epochs)
    with _beating(claim, place):
        watcher.mark("running")
        try:
            _train(plan, watcher)
        except DivergenceError as error:
            watcher.end("failed")
            desk.fail(claim, f"{error.where}: {error.what}")


def _tell_reason(error: MnistcliError) -> str:
    """Write everything that is wrong with a combination in a line."""
    parts = (f"{p.where}: {p.what}" if p.where else p.what for p in error.problems)
    return "; ".join(parts)


def _plan_trial(config: Config, claim: Claim, place: Workplace) -> Plan:
    """Plan a run, and find where it begins."""
    from mnistcli.commands.sweep.studies import check_data

    output = choose_output(claim.path, claim.lock, overwrite=True, writes_best=False)
    plan = load_data(config, place.request, place.console, output)
    plan = replace(plan, threads=place.threads)
    identity = plan.dataset.identity
    check_data(place.desk.study, identity.location, identity.sha256)
    return replace(plan, start=_find_start(plan, claim, place))


def _find_start(plan: Plan, claim: Claim, place: Workplace) -> Checkpoint | None:
    """What a lost worker has left of this very trial, if going on from it gives the same bits.

    Raises:
        UsageError: the file is no trial of this sweep.
    """
    if not claim.path.exists():
        return None
    try:
        checkpoint = read_checkpoint(claim.path, "all")
    except CheckpointError as error:
        raise _refuse_file(claim, error.what) from error
    record = checkpoint.record
    study = place.desk.study.study_name
    if record is None or record.trial is None or record.trial.study != study:
        raise _refuse_file(claim, "no trial of this sweep")
    present = describe_environment(plan.threads)
    is_same = (
        record.config == plan.config
        and record.dataset.sha256 == plan.dataset.identity.sha256
        and record.environment.threads == plan.threads
        and not list_differences(record.environment, present)
    )
    return checkpoint if is_same else None


def _refuse_file(claim: Claim, what: str) -> UsageError:
    """A file that somebody may still want is not replaced."""
    hint = "move it away, and give the same command again"
    return UsageError(str(claim.path), f"{what}, and a trial would be written here", hint)


def _train(plan: Plan, watcher: Watcher) -> None:
    """Train to the end, or to where the trial is pruned or its worker stopped."""
    training = watcher.shelf.build(plan)
    if plan.start is not None and plan.start.state is not None:
        watcher.catch_up(plan.start.state)
    state = training.fit(watcher)
    watcher.finish(state)


@contextlib.contextmanager
def _beating(claim: Claim, place: Workplace) -> Iterator[None]:
    """Tell other machines every few seconds that this worker is alive."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    from mnistcli.commands.sweep.study import HEARTBEAT_S

    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_S):
            with contextlib.suppress(SQLAlchemyError, OptunaError):  # the next one may come through
                place.desk.beat(claim)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
