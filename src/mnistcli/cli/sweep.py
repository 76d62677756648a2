"""`mnistcli sweep`: search hyperparameters with Optuna."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.completion import complete_directory, complete_yaml
from mnistcli.cli.options import (
    DataDirOption,
    DebugOption,
    JsonlOption,
    JsonOption,
    ProgressOption,
    QuietOption,
    choose_form,
    count_option,
)

if TYPE_CHECKING:
    from mnistcli.output.results import SweepResult

EXAMPLES = """
mnistcli sweep rates.yaml
mnistcli sweep rates.yaml --dry-run
mnistcli sweep rates.yaml --jobs 2 -o rates
mnistcli sweep rates.yaml --storage postgresql://me@db/sweeps
mnistcli sweep rates.yaml --json | jq .best.checkpoint
"""
_SWEEP = "Sweep"


def sweep(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP.yaml",
            help="What varies, and how: config, set, search, sampler, pruner, trials, objective.",
            autocompletion=complete_yaml,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where the checkpoints go, trial-0000.h5 and on, and their journal.",
            show_default="<SWEEP>-sweep",
            rich_help_panel=_SWEEP,
            autocompletion=complete_directory,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Share the trials over a database, postgresql://USER@HOST/DATABASE: start the same"
            " command on each machine.",
            show_default="a journal in DIR",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the sweep is called in its storage.",
            show_default="<SWEEP>",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        count_option(
            "--jobs", "N", 1, "Worker processes, 1 unless said; they share the processors.", _SWEEP
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything and show what would be searched; train nothing.",
            rich_help_panel=_SWEEP,
        ),
    ] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    quiet: QuietOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Search the best values of config keys: a grid, at random, or by TPE, on Optuna.

    Every trial is a checkpoint of its own. The same command again goes on where a sweep was
    stopped or killed: no trial is lost, and none is run twice.
    """
    del debug  # acted on when it was parsed
    from mnistcli.commands.sweep.supervisor import SweepInterrupted, plan_sweep, run_sweep
    from mnistcli.output.logs import announce
    from mnistcli.output.results import TrialLine, TrialResult
    from mnistcli.output.terminal import choose_progress, emit, ignore_broken_pipe, print_json

    form = choose_form(json=json or jsonl, quiet=quiet)
    if dry_run:
        emit(plan_sweep(source), form)
        return

    def print_trial(trial: TrialResult) -> None:
        print_json(TrialLine(**trial.model_dump()))

    with ignore_broken_pipe():
        try:
            result = run_sweep(
                source,
                output=output,
                storage=storage,
                study=study,
                jobs=jobs or 1,
                data_dir=data_dir,
                progress=choose_progress(progress, silent=quiet or jsonl or json),
                on_trial_end=print_trial if jsonl else None,
            )
        except SweepInterrupted as interrupted:
            command = _format_resume_command(source, output, storage, study, jobs, data_dir)
            announce(str(interrupted))
            announce(f"next  {command}")
            raise
        emit(result, form)
        _note_best(result, data_dir)


def _note_best(result: SweepResult, data_dir: Path | None) -> None:
    """Show where the best trial's checkpoint is, and how to evaluate it."""
    from mnistcli.output.logs import note
    from mnistcli.output.terminal import format_command

    best = result.best
    if best is None:
        return
    where = f" on {best.host}" if best.host else ""
    note(f"best  {best.checkpoint}{where}")
    if best.host is None and best.checkpoint:
        note(f"next  {format_command('evaluate', best.checkpoint, data_dir=data_dir)}")


def _format_resume_command(
    source: str,
    output: Path | None,
    storage: str | None,
    study: str | None,
    jobs: int | None,
    data_dir: Path | None,
) -> str:
    """Return the command that resumes a sweep, without the database's password."""
    from mnistcli.output.terminal import format_command

    words = ["sweep", source]
    words += [] if output is None else ["-o", str(output)]
    words += [] if study is None else ["--study", study]
    words += [] if jobs in (None, 1) else ["--jobs", str(jobs)]
    if storage is not None:
        from mnistcli.commands.sweep.study import format_url

        words += ["--storage", format_url(storage)]
    command = format_command(*words, data_dir=data_dir)
    return command.replace(shlex.quote("***"), "***")
