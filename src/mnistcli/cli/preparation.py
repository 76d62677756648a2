"""Everything about a run that can be known, checked or refused before TensorFlow is imported."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnistcli.architecture import Architecture, plan_architecture
from mnistcli.backend import start_loading
from mnistcli.checkpoint.reading import Checkpoint, read_checkpoint
from mnistcli.cli.data import choose_splits, open_dataset
from mnistcli.cli.output_file import OutputFile, choose_output, continue_output, name_output
from mnistcli.config import LoadedConfig, Override, load_config, parse_assignment
from mnistcli.config.models import Config
from mnistcli.console.streams import Output
from mnistcli.datasets.dataset import Dataset, Split, SplitName
from mnistcli.environment import count_processors
from mnistcli.errors import CheckpointError, ConfigError, DataError, Problem, UsageError
from mnistcli.preprocessing import Preprocessing, fit_preprocessing
from mnistcli.state import Array

BOTH_SPLITS: frozenset[SplitName] = frozenset({"train", "test"})


@dataclass(frozen=True)
class Request:
    """What the command line of `train` asked for, not yet checked.

    Attributes:
        source: YAML file or recipe; null for the default recipe or with `resume`.
        flags: flag to (dotted config key, text as typed; null where it was not given).
        assignments: the texts after `--set`.
    """

    source: str | None = None
    flags: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()
    output: Path | None = None
    overwrite: bool = False
    resume: Path | None = None
    more: int | None = None
    init_from: Path | None = None
    dry_run: bool = False
    data_dir: Path | None = None
    json: bool = False
    jsonl: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Plan:
    """A run that can begin.

    Attributes:
        config: resolved: the data set is the one that is used, never `auto`.
        dataset: its two splits in memory.
        train: what is trained on.
        validation: what is monitored after each epoch.
        output: where the checkpoint goes.
        threads: for TensorFlow.
        start: the checkpoint to go on from, with `--resume`.
        initial_weights: with `--init-from`.
        init_from: the path that they came from.
    """

    config: Config
    dataset: Dataset
    architecture: Architecture
    preprocessing: Preprocessing
    train: Split
    validation: Split | None
    output: OutputFile
    threads: int
    start: Checkpoint | None = None
    initial_weights: tuple[Array, ...] | None = None
    init_from: str | None = None

    @property
    def chooses(self) -> bool:
        """Tell whether a validation set of its own chooses the best model."""
        return self.validation is not None and self.config.dataset.validation != "test"


def prepare_run(request: Request, console: Output) -> Plan:
    """Return the plan of a new run or of one that is resumed.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError, ResourceError: it cannot begin.
    """
    if request.resume is not None:
        return _prepare_resumed(request, request.resume, console)
    if request.more is not None:
        raise UsageError("--more", "it adds epochs to a run", "name the run: --resume FILE.h5")
    return _prepare_new(request, console)


def _list_overrides(request: Request) -> Iterator[Override]:
    """Turn flags into overrides; their values are YAML like those of `--set`."""
    problems = []
    for flag, (key, text) in request.flags.items():
        if text is None:
            continue
        try:
            yield Override(key, parse_assignment(f"{key}={text}").value, flag)
        except UsageError as error:
            problems.append(Problem(flag, error.what, error.hint))
    if problems:
        raise ConfigError(problems)
    for text in request.assignments:
        yield parse_assignment(text)


def load_request(request: Request, console: Output) -> LoadedConfig:
    """Return the config that a request means, and tell what it changed on the way."""
    loaded = load_config(request.source, list(_list_overrides(request)))
    for notice in loaded.notices:
        console.note(notice)
    return loaded


def _prepare_new(request: Request, console: Output) -> Plan:
    """Plan a run from a config."""
    config = load_request(request, console).config.with_lengths()
    chooses = config.dataset.validation not in (0.0, "test")
    output = None
    if request.output is not None:
        output = choose_output(request.output, overwrite=request.overwrite, writes_best=chooses)
    initial = None if request.init_from is None else read_checkpoint(request.init_from)
    plan = _load_data(config, request, console, output)
    if initial is None:
        return plan
    return _with_initial_weights(plan, initial)


def _load_data(
    config: Config, request: Request, console: Output, output: OutputFile | None
) -> Plan:
    """Read the data, and plan what follows from them."""
    if not request.dry_run:
        start_loading()
    dataset = open_dataset(config.dataset.name, BOTH_SPLITS, request.data_dir, console)
    config = _resolve_dataset(config, dataset)
    train, validation = choose_splits(config, dataset)
    return Plan(
        config=config,
        dataset=dataset,
        architecture=plan_architecture(
            config.model, dataset.info.image_shape, len(dataset.info.class_names)
        ),
        preprocessing=fit_preprocessing(config.dataset.normalization, dataset.train.images),
        train=train,
        validation=validation,
        output=output or name_output(config),
        threads=count_processors(),
    )


def _resolve_dataset(config: Config, dataset: Dataset) -> Config:
    """Write down which data set `auto` turned out to be."""
    named = config.dataset.model_copy(update={"name": dataset.info.name})
    return config.model_copy(update={"dataset": named})


def _with_initial_weights(plan: Plan, initial: Checkpoint) -> Plan:
    """Check that the weights are those of such a network."""
    wanted = [weight.shape for stage in plan.architecture.walk() for weight in stage.weights]
    found = [values.shape for values in initial.weights]
    if wanted != found:
        raise CheckpointError(
            str(initial.path),
            f"its weights {found} do not fit this network's {wanted}",
            "use the config that it was trained with",
        )
    return replace(plan, initial_weights=initial.weights, init_from=str(initial.path))


def _prepare_resumed(request: Request, path: Path, console: Output) -> Plan:
    """Plan to go on with a run: its own config rules."""
    given = [flag for flag, (_, text) in request.flags.items() if text is not None]
    given += ["--set"] * bool(request.assignments) + ["CONFIG"] * (request.source is not None)
    given += ["--output"] * (request.output is not None)
    given += ["--init-from"] * (request.init_from is not None)
    given += ["--overwrite"] * request.overwrite
    if foreign := [flag for flag in given if flag != "--epochs"]:
        raise UsageError(
            foreign[0],
            "a resumed run goes on in its own file with its own config",
            "give only --epochs or --more with --resume",
        )
    checkpoint = read_checkpoint(path, "all")
    record = checkpoint.record
    if record is None or checkpoint.state is None:
        for warning in checkpoint.warnings:
            console.warn(warning)
        start = f"mnistcli train CONFIG --init-from {shlex.quote(str(path))}"
        what, hint = (
            "no run of mnistcli's to go on with",
            f"start a new one from its weights: {start}",
        )
        raise CheckpointError(str(path), what, hint)
    config = _extend(record.config, request, record.progress.epoch)
    plan = _load_data(config, request, console, continue_output(path))
    if plan.dataset.identity.sha256 != record.dataset.sha256:
        raise DataError(
            plan.dataset.identity.location,
            f"not the {plan.dataset.info.title} that {path} was trained on",
            "point --data-dir to the data of that run",
        )
    if request.more is not None or request.flags.get("--epochs", ("", None))[1] is not None:
        checkpoint = replace(checkpoint, state=checkpoint.state.without_stop())
    return replace(
        plan, start=checkpoint, threads=record.environment.threads, init_from=record.init_from
    )


def _extend(config: Config, request: Request, completed: int) -> Config:
    """Set the total number of epochs of a resumed run."""
    text = request.flags.get("--epochs", ("", None))[1]
    if text is not None and request.more is not None:
        raise UsageError(
            "--more", "--epochs says the total already", "give one of --epochs and --more"
        )
    epochs = config.training.epochs
    if request.more is not None:
        epochs = completed + request.more
    elif text is not None:
        override = Override("training.epochs", parse_assignment(f"epochs={text}").value, "--epochs")
        epochs = load_config(None, [override]).config.training.epochs
        if epochs < completed:
            what = f"{epochs} is less than the {completed} epochs that are done"
            raise UsageError("--epochs", what, "give a larger total, or --more N")
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"training": training})
