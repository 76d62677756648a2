"""The commands that make a checkpoint again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from mnistcli.checkpoints.environment import describe_devices
from mnistcli.checkpoints.record import Record
from mnistcli.config.serialization import dump_config
from mnistcli.output.facts import Recipe

_END = "END"  # of the config in the shell's text: no line of YAML that we write looks like it


def write_recipe(record: Record, path: Path) -> Recipe:
    """Return how a run is made again.

    Args:
        record: of the run.
        path: of its checkpoint, as the user gave it.
    """
    stem = f"{path.stem}-again"
    config, target = shlex.quote(f"{stem}.yaml"), shlex.quote(f"{stem}.h5")
    begun = ""
    if record.init_from is not None:
        begun = f" --init-from {shlex.quote(record.init_from)}"
    anew = (
        f"cat > {config} <<'{_END}'\n{dump_config(record.config)}{_END}\n"
        f"mnistcli train {config}{begun}{_name_devices(record)} -o {target}"
    )
    again = f"mnistcli reproduce {shlex.quote(str(path))}" if record.progress.step == 0 else None
    return Recipe(again, anew, tuple(_list_notes(record)))


def _name_devices(record: Record) -> str:
    """Give the flag that a run on several devices was started with."""
    count = record.environment.devices
    return f" --devices {count}" if count > 1 else ""


def _list_notes(record: Record) -> Iterator[str]:
    """Say what the commands take, and where they end up elsewhere."""
    environment, progress = record.environment, record.progress
    yield (
        "The bits are the same where the data, the versions, the processor's features and the"
        f" number of threads ({environment.threads}) are; elsewhere only the figures are close."
    )
    if environment.workers > 1:
        yield (
            f"It was trained by {describe_devices(environment)}, each started with this command"
            " and a TF_CONFIG of its own."
        )
    planned = record.config.training.epochs
    if (progress.epoch, progress.step) != (planned, 0):
        part = f" and {progress.step} steps" if progress.step else ""
        yield (
            f"This file stands after {progress.epoch}{part} of {planned} epochs; from nothing the"
            " run goes on to its end."
        )
    if record.init_weights_sha256 is not None:
        yield (
            f"It began with the weights of another checkpoint, {record.init_from}: their bytes"
            f" have the sha256 {record.init_weights_sha256}."
        )
