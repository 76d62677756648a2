"""Options that several commands share, each declared once, and the checks of their values."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import typer

from mnistcli import __version__
from mnistcli.cli.completion import (
    SHELLS,
    complete_assignment,
    complete_data,
    complete_directory,
    install_completion,
    show_completion,
)
from mnistcli.config.allowed_values import (
    SPLITS,
    check_choice,
    get_choices,
    get_description,
    get_tags,
    list_dataset_names,
)
from mnistcli.config.schema import (
    AnyDatasetName,
    DatasetConfig,
    MlpModel,
    Model,
    Optimizer,
    TrainingConfig,
)
from mnistcli.errors import UsageError, redact
from mnistcli.output.logs import DEFAULT_FILE_LEVEL, DEFAULT_LEVEL, LEVELS, open_log
from mnistcli.output.terminal import PROGRAM, Form, ProgressMode
from mnistcli.process_limits import check_start
from mnistcli.tensorflow_import import DEBUG_VARIABLE

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


def _enable_debug(value: bool) -> None:
    """Set the environment variable that does the same as the flag."""
    if value:
        os.environ[DEBUG_VARIABLE] = "1"


def _if_given(act: Callable[[str], None]) -> Callable[[str | None], None]:
    """Return a callback that acts on a flag's value; Typer calls it without one too."""

    def call(value: str | None) -> None:
        if value is not None:
            act(value)

    return call


def format_metavar(names: Sequence[str]) -> str:
    """Format names as help texts show them: `[a|b|c]`."""
    return f"[{'|'.join(names)}]"


def complete_words(words: Sequence[str]) -> Callable[[], list[str]]:
    """Return a completion that offers fixed words."""
    return lambda: list(words)


def count_from(lowest: int, flag: str) -> Callable[[str], int]:
    """Return the parser of a flag that takes a whole number from `lowest` on."""

    def parse(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text) or int(text) < lowest:
            what = f"expected a whole number from {lowest}, received {text!r}"
            raise UsageError(flag, what, f"for example {flag} {max(lowest, 3)}")
        return int(text)

    return parse


def count_option(flag: str, letter: str, lowest: int, meaning: str, panel: str) -> Any:
    """Declare a flag that takes a whole number.

    Args:
        flag: with its dashes.
        letter: stands for the number in the help.
        lowest: the lowest number that is accepted.
        meaning: the help.
        panel: the group in the help.
    """
    return typer.Option(
        flag, metavar=letter, parser=count_from(lowest, flag), help=meaning, rich_help_panel=panel
    )


def choice_option(words: Sequence[str], meaning: str, panel: str) -> Any:
    """Declare a flag with choices that the help and completion show; named after its parameter."""
    return typer.Option(
        metavar=format_metavar(words),
        help=meaning,
        rich_help_panel=panel,
        autocompletion=complete_words(words),
    )


def refuse_combination(values: Mapping[str, object], where: str = "") -> None:
    """Refuse flags that exclude each other.

    Args:
        values: the value of each by its name; None and False are not given.
        where: what the message names; the flags that are given, where it is empty.

    Raises:
        UsageError: two or more of them are given.
    """
    given = [name for name, value in values.items() if value is not None and value is not False]
    if len(given) > 1:
        raise UsageError(
            where or " and ".join(given), "they exclude each other", "give one of them"
        )


def choose_form(
    *, json: bool, jsonl: bool | None = None, csv: bool | None = None, quiet: bool = False
) -> Form:
    """Return the form of a result; one for scripts takes precedence over `-q`.

    Args:
        json: as each of these, whether its flag is given; None: the command has no such flag.
        jsonl: `--jsonl`.
        csv: `--csv`.
        quiet: `-q`.

    Raises:
        UsageError: more than one of the forms for scripts is asked for.
    """
    forms: dict[Form, bool | None] = {"json": json, "jsonl": jsonl, "csv": csv}
    flags = {f"--{form}": is_given for form, is_given in forms.items() if is_given is not None}
    refuse_combination(flags, ", ".join(flags))
    return next(
        (form for form, is_given in forms.items() if is_given), "quiet" if quiet else "text"
    )


def exclude_json(*, show: bool, json: bool) -> None:
    """Refuse a drawing and JSON on the same stream; UsageError."""
    if show and json:
        hint = "give one of them; with --json a picture goes into a file"
        raise UsageError("--show and --json", "both want stdout", hint)


def _parse_progress(text: str) -> ProgressMode:
    if text not in get_args(ProgressMode):  # Typer parses the default too
        check_choice(text, get_args(ProgressMode), "--progress")
    return cast("ProgressMode", text)


SplitOption = Annotated[str, choice_option(SPLITS, "Which part of the data.", "Data")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The folder of the published data sets, searched alone and downloaded into; otherwise"
        " MNISTCLI_DATA_DIR, then Keras' cache. MNISTCLI_OFFLINE=1 forbids downloads.",
        autocompletion=complete_directory,
        rich_help_panel="Data",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Images of your own, a folder or an .npz file; where a checkpoint's lie now.",
        autocompletion=complete_data,
        rich_help_panel="Data",
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar=format_metavar(list_dataset_names()),
        help="The data set, where the file doesn't say or another one is meant.",
        autocompletion=complete_words(list_dataset_names()),
        rich_help_panel="Data",
    ),
]
NormalizationOption = Annotated[
    str | None,
    typer.Option(
        "--normalization",
        metavar=format_metavar(get_choices(DatasetConfig, "normalization")),
        help="How pixels become numbers, where the file doesn't say.",
        autocompletion=complete_words(get_choices(DatasetConfig, "normalization")),
        rich_help_panel="Data",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel="Output"),
]
JsonlOption = Annotated[
    bool,
    typer.Option(
        "--jsonl",
        help="Print one JSON object a line as results come, then the whole.",
        rich_help_panel="Output",
    ),
]
CsvOption = Annotated[
    bool, typer.Option("--csv", help="Print CSV with a header line.", rich_help_panel="Output")
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Say nothing but the answer, warnings and errors.",
        rich_help_panel="Output",
    ),
]
ProgressOption = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        metavar=format_metavar(get_args(ProgressMode)),
        parser=_parse_progress,
        autocompletion=complete_words(get_args(ProgressMode)),
        help="How progress is shown on stderr; auto: a bar on a terminal, lines off it, nothing"
        " under -q and --jsonl.",
        rich_help_panel="Output",
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_enable_debug,
        is_eager=True,
        expose_value=True,
        help=f"Show tracebacks, and what TensorFlow prints; {DEBUG_VARIABLE}=1 does the same.",
        rich_help_panel="Output",
    ),
]
ShowCompletionOption = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        metavar=format_metavar(tuple(SHELLS)),
        callback=_if_given(show_completion),
        is_eager=True,
        help="Print the script by which this shell completes mnistcli's command lines.",
        autocompletion=complete_words(tuple(SHELLS)),
    ),
]
InstallCompletionOption = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        metavar=format_metavar(tuple(SHELLS)),
        callback=_if_given(install_completion),
        is_eager=True,
        help="Write that script where this shell looks for it.",
        autocompletion=complete_words(tuple(SHELLS)),
    ),
]
PictureFileOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Draw into this file, whose ending says how: .png or .svg.",
        rich_help_panel="Output",
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the file if it exists.", rich_help_panel="Output"),
]
ShowOption = Annotated[
    bool,
    typer.Option("--show", help="Draw in the terminal.", rich_help_panel="Output"),
]


_EXPERIMENT = "Experiment (each takes precedence over CONFIG)"
_OPTIMIZERS = get_tags(Optimizer, "name")
_MODELS = get_tags(Model, "type")

EpochsOption = Annotated[
    str | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help=get_description(TrainingConfig, "epochs"),
        rich_help_panel=_EXPERIMENT,
    ),
]
BatchSizeOption = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help=get_description(TrainingConfig, "batch_size"),
        rich_help_panel=_EXPERIMENT,
    ),
]
OptimizerOption = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        metavar="NAME",
        help=f"{', '.join(_OPTIMIZERS)}; a new one takes its own default learning rate.",
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_words(_OPTIMIZERS),
    ),
]
LearningRateOption = Annotated[
    str | None,
    typer.Option(
        "--learning-rate",
        metavar="RATE",
        help="Size of the optimizer's step.",
        rich_help_panel=_EXPERIMENT,
    ),
]
TrainDatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar=format_metavar(get_args(AnyDatasetName)),
        help=get_description(DatasetConfig, "name"),
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_words(get_args(AnyDatasetName)),
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar=format_metavar(_MODELS),
        help="The kind of network.",
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_words(_MODELS),
    ),
]
HiddenOption = Annotated[
    str | None,
    typer.Option(
        "--hidden",
        metavar="256,128",
        help="Units of an MLP's hidden layers, first to last.",
        rich_help_panel=_EXPERIMENT,
    ),
]
ActivationOption = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="NAME",
        help=get_description(MlpModel, "activation"),
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_words(get_choices(MlpModel, "activation")),
    ),
]
DropoutOption = Annotated[
    str | None,
    typer.Option(
        "--dropout",
        metavar="RATE",
        help=get_description(MlpModel, "dropout"),
        rich_help_panel=_EXPERIMENT,
    ),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="FRACTION|test",
        help=get_description(DatasetConfig, "validation"),
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_words(["test"]),
    ),
]
SeedOption = Annotated[
    str | None,
    typer.Option(
        "--seed",
        metavar="N",
        help=get_description(TrainingConfig, "seed"),
        rich_help_panel=_EXPERIMENT,
    ),
]
AssignmentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the config, dotted: model.l2=1e-4. Repeatable.",
        rich_help_panel=_EXPERIMENT,
        autocompletion=complete_assignment,
    ),
]


TensorBoardDirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Write metrics, histograms of the weights and misclassified images for TensorBoard"
        " here, under the checkpoint's name.",
        autocompletion=complete_directory,
        rich_help_panel="Run",
    ),
]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="N",
        parser=count_from(1, "--devices"),
        help="Cut each batch into N shards, and train on as many GPUs at a time; without a GPU, on"
        " N parts of the processor. Several machines train together where TF_CONFIG names them. No"
        " key of the config: what is trained is the same, but for the rounding of sums. The"
        " checkpoint records it, and --resume uses as many again.",
        show_default="1",
        rich_help_panel="Run",
    ),
]
OverfitOneBatchOption = Annotated[
    bool,
    typer.Option(
        "--overfit-one-batch",
        help="Only see whether the network can learn at all: train on the first (at most 32)"
        " images of the run's first batch, again and again, without validation, dropout,"
        " penalties, label smoothing, class weights and schedule, until every image is right and"
        " the loss a tenth of what it was; exit code 3 if it is not after 2,000 steps. No"
        " checkpoint is written.",
        rich_help_panel="Run",
    ),
]
StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Keep only parts of the training set in memory, to the same bits; done by itself where"
        " all of it does not fit.",
        rich_help_panel="Data",
    ),
]


_LEVEL, _FILE = "--log-level", "--log-file"
_QUIET_FLAGS = ("quiet", "json", "jsonl", "csv")  # stderr has no notes with any of them
_KIND = inspect.Parameter.KEYWORD_ONLY

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

LogLevelOption = Annotated[
    str | None,
    typer.Option(
        _LEVEL,
        metavar=format_metavar(LEVELS),
        help="How much of what happens, and why, is logged on stderr.",
        autocompletion=complete_words(LEVELS),
        show_default=f"{DEFAULT_LEVEL}; {DEFAULT_FILE_LEVEL} with {_FILE}",
        rich_help_panel="Output",
    ),
]
LogFileOption = Annotated[
    Path | None,
    typer.Option(
        _FILE,
        metavar="FILE",
        help="Append the log to this file instead, with times; warnings stay on stderr too.",
        rich_help_panel="Output",
    ),
]


@dataclass(frozen=True)
class Invocation:
    """A command line, and the log flags before the command's name."""

    words: tuple[str, ...] = ()
    level: str | None = None
    file: Path | None = None


def drop_log_flags(words: Sequence[str]) -> Sequence[str]:
    """Return a command line without the log flags before the command's name."""
    while words and words[0].split("=")[0] in (_LEVEL, _FILE):
        words = words[1 if "=" in words[0] else 2 :]
    return words


def with_log(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the log flags too, and opens its log first."""

    @functools.wraps(command)
    def logged(
        context: typer.Context, log_level: str | None, log_file: Path | None, **values: Any
    ) -> None:
        invocation = context.obj if isinstance(context.obj, Invocation) else Invocation()
        level = _choose(_LEVEL, invocation.level, log_level)
        file = _choose(_FILE, invocation.file, log_file)
        if level is not None:
            check_choice(level, LEVELS, _LEVEL)
        is_quiet = any(values.get(flag) for flag in _QUIET_FLAGS)
        open_log(level, file, shows_notes=not is_quiet)
        words = [redact(re.sub(r"\s", "%20", w)) if "://" in w else w for w in invocation.words]
        _LOG.info("%s %s: %s", PROGRAM, __version__, shlex.join(words))
        check_start()
        command(**values)

    added = [
        inspect.Parameter("log_level", _KIND, default=None, annotation=LogLevelOption),
        inspect.Parameter("log_file", _KIND, default=None, annotation=LogFileOption),
        inspect.Parameter("context", _KIND, annotation=typer.Context),
    ]
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [p.replace(kind=_KIND) for p in own] + added
    logged.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return logged


def _choose(flag: str, before: _T | None, after: _T | None) -> _T | None:
    """Return the value that was given; of two one would be lost."""
    if before is not None and after is not None:
        raise UsageError(flag, "given before the command and behind it", "give it once")
    return after if before is None else before
