"""What the commands around a run find out, for people: reproductions, and the state of things."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mnistcli.models.memory import format_bytes
from mnistcli.output.check_results import (
    CheckpointResult,
    DirectoryResult,
    DoctorResult,
    EstimatedSecondsResult,
    LocatedDatasetResult,
    OverfitResult,
    ReproduceResult,
)


def _count(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def render_reproduction(result: ReproduceResult) -> Iterator[RenderableType]:
    """Say whether the bits are the same, and which arrays have others."""
    where = f"{result.checkpoint}, {_count(result.epochs, 'epoch')}"
    if result.same:
        yield Text(f"{where}: same bits in all {result.arrays} arrays")
        return
    yield Text(f"{where}: other bits in {len(result.differences)} of {result.arrays} arrays")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("array", no_wrap=True)
    for column in ("numbers", "differing", "largest difference"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.differences:
        largest = row.max_abs_difference
        shown = "-" if largest is None else f"{largest:.3g}"
        table.add_row(row.name, f"{row.size:,}", f"{row.differing:,}", shown)
    yield table


def render_overfitting(result: OverfitResult) -> str:
    """Say in one line whether a batch was learned by heart, with the figures."""
    return (
        f"{'learned' if result.learned else 'did not learn'} {_count(result.images, 'image')} by"
        f" heart in {_count(result.steps, 'step')}:"
        f" loss {result.loss.first:.4f} -> {result.loss.last:.4f},"
        f" accuracy {result.accuracy.first:.4f} -> {result.accuracy.last:.4f}"
        f" ({format_duration(result.seconds)})"
    )


def describe_time(seconds: EstimatedSecondsResult) -> str:
    """Say in one phrase how long a run will take, and what that is based on."""
    return (
        f"about {format_duration(seconds.per_epoch)} an epoch,"
        f" {format_duration(seconds.total)} in all"
        f" (measured over {_count(seconds.measured_steps, 'step')})"
    )


def format_duration(duration_s: float) -> str:
    """Write a duration for people, with two digits or in full units: `0.31 s`, `42 s`, `3 h`."""
    if duration_s < 9.95:
        return f"{duration_s:.2g} s"
    for unit, unit_s in (("s", 1), ("min", 60), ("h", 3600)):
        if duration_s < 120 * unit_s:
            return f"{duration_s / unit_s:.0f} {unit}"
    return f"{duration_s / 86400:.1f} days"


def render_doctor(result: DoctorResult) -> Iterator[RenderableType]:
    """Show what there is to work with, one thing a row."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, version in result.versions.items():
        table.add_row(name, version or "not installed")
    features = ", ".join(result.processor_features) or "features unknown"
    table.add_row("processor", f"{result.processor} ({features})")
    table.add_row("threads", f"{result.threads} of {result.processors} processors")
    if result.available_memory is not None:
        table.add_row("memory", f"{format_bytes(result.available_memory)} available")
    for dataset in result.datasets:
        table.add_row(dataset.name, _describe_dataset(dataset))
    for directory in result.directories:
        table.add_row(directory.purpose, _describe_directory(directory))
    yield table
    if result.checkpoint is not None:
        yield from _describe_checkpoint(result.checkpoint)


def _describe_dataset(dataset: LocatedDatasetResult) -> str:
    """Say which data these are, and where."""
    if dataset.location is None:
        return dataset.note
    identity = dataset.known_as or dataset.note
    digest = f", sha256 {dataset.sha256[:12]}…" if dataset.sha256 else ""
    return f"{identity}{digest}, {dataset.location}"


def _describe_directory(directory: DirectoryResult) -> str:
    """Say whether a folder takes files."""
    made = "" if directory.exists else ", made when it is needed"
    return f"{directory.path}, {'writable' if directory.writable else 'not writable'}{made}"


_SEALS = {
    "intact": "as mnistcli wrote it (its checksum holds)",
    "gone": "changed since mnistcli wrote it (its checksum is gone)",
    "none": "not a file of mnistcli's",
}


def _describe_checkpoint(checkpoint: CheckpointResult) -> Iterator[RenderableType]:
    """Say what a file is, what network it holds, and what run it comes from."""
    yield Text(f"\n{checkpoint.path}: {_SEALS[checkpoint.seal]}")
    yield Text(
        f"{_count(checkpoint.layers, 'layer')}, {checkpoint.parameters:,} parameters, all finite"
    )
    facts = checkpoint.training
    if facts is not None:
        part = f" and {facts.step} steps" if facts.step else ""
        score = f", test accuracy {facts.test.accuracy:.4f}" if facts.test is not None else ""
        yield Text(
            f"{facts.known_as or facts.dataset.name}, {facts.epochs}{part} of"
            f" {facts.planned_epochs} epochs, seed {facts.config.training.seed}{score}"
        )
    if checkpoint.differences:
        yield Text(f"other bits than here are to be expected: {', '.join(checkpoint.differences)}")
