"""`train --dry-run`: the network that would be trained, and what it would take."""

from __future__ import annotations

from dataclasses import asdict

from mnistcli.available_memory import read_available_memory
from mnistcli.check_results import DryRunResult, MemoryResult
from mnistcli.cli.model_facts import summarize_plan
from mnistcli.cli.run_plan import Plan, Request
from mnistcli.console.streams import Output
from mnistcli.console.tables import render_summary
from mnistcli.memory import format_bytes


def show_plan(plan: Plan, request: Request, console: Output) -> None:
    """Show what a run would train, need and write."""
    summary = summarize_plan(plan.architecture)
    available = read_available_memory()
    if request.json or request.jsonl:
        memory = MemoryResult(**asdict(plan.memory), total=plan.memory.total, available=available)
        console.print_json(DryRunResult(**dict(summary), memory=memory))
        return
    console.print_table(*render_summary(summary))
    rest = "" if available is None else f"; {format_bytes(available)} are available"
    console.note(f"needs {plan.memory.describe()}{rest}")
    training = plan.config.training
    console.note(
        f"would train {training.epochs} epochs of {len(plan.train):,} images"
        f" in batches of {training.batch_size} and write {plan.output.path}"
    )
