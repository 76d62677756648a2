"""`mnistcli summary`: a network's layers, and where a checkpoint comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.completion import complete_source, has_checkpoint_name
from mnistcli.cli.options import Debug, Json, choose_form

if TYPE_CHECKING:
    from mnistcli.output.results import SummaryResult

EXAMPLES = """
mnistcli summary mlp.h5
mnistcli summary mnist-mlp
mnistcli summary mlp.h5 --weights --json
"""


def summary(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL.h5|CONFIG",
            help="A checkpoint, a YAML file or a recipe.",
            autocompletion=complete_source,
        ),
    ],
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Print the arrays too.", rich_help_panel="Output"),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a network's layers and parameters, and the run that a checkpoint comes from."""
    del debug
    if has_checkpoint_name(source):
        answer = _summarize_checkpoint(Path(source), weights)
    else:
        answer = _summarize_config(source, weights)
    from mnistcli.output.terminal import emit

    emit(answer, choose_form(json=json))


def _summarize_checkpoint(path: Path, with_weights: bool) -> SummaryResult:
    """Read only what is asked for: the record is small, the arrays may not be."""
    from mnistcli.checkpoints.untrusted.sandbox import ParserProcess

    child = ParserProcess(path, "weights" if with_weights else "none")
    from mnistcli.checkpoints.reader import parse_checkpoint
    from mnistcli.commands.summary import add_weights, describe_training, summarize_plan
    from mnistcli.output.logs import warn

    checkpoint = parse_checkpoint(path, child.result())
    for warning in checkpoint.warnings:
        warn(warning)
    record = checkpoint.record
    training = describe_training(record, checkpoint) if record is not None else None
    summary = summarize_plan(checkpoint.architecture, training)
    return add_weights(summary, checkpoint) if with_weights else summary


def _summarize_config(source: str, with_weights: bool) -> SummaryResult:
    """Plan the network that a config would train."""
    from mnistcli.commands.summary import summarize_plan
    from mnistcli.config.loading import load_config
    from mnistcli.datasets.registry import get_info
    from mnistcli.errors import UsageError
    from mnistcli.models.architecture import plan_architecture

    if with_weights:
        hint = "give a checkpoint: mnistcli summary MODEL.h5 --weights"
        raise UsageError("--weights", f"{source} is a config and has no weights yet", hint)
    config = load_config(source).config
    info = get_info(config.dataset)
    return summarize_plan(plan_architecture(config.model, info.image_shape, len(info.class_names)))
