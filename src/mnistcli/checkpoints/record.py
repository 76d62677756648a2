"""What a checkpoint records of its run beside Keras' own data: the group `/mnistcli`.

Also the environment that a run's bits depend on, and the largest run whose file can be read back.
"""

# Without `from __future__ import annotations`: pydantic would parse their text, which takes longer.
import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from mnistcli import __version__
from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.checkpoints.run_state import EarlyStoppingState, ReduceLROnPlateauState, RunState
from mnistcli.checkpoints.untrusted.protocol import MAX_FILE_BYTES
from mnistcli.config.schema import AnyDatasetName, Config, TrainingConfig
from mnistcli.datasets.base import Identity
from mnistcli.errors import CheckpointError, ResourceError
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import FLOAT_BYTES, format_bytes

MAX_PARAMETERS = 200_000_000

_MAX_HISTORIES = 7  # loss and accuracy, twice; learning rate, durations; and one to spare
_VALUE_BYTES = 8
_STRUCTURE_BYTES = 4 << 20  # HDF5's own and the record's texts; a few kilobytes for each array
_MAX_SHOWN = 100  # characters of what is wrong with a record
_SIZE_HINT = "use a smaller network (--hidden), or an optimizer that keeps less (--optimizer sgd)"
_LIBRARIES = ("keras", "tensorflow", "numpy")
# The vector instructions that decide in which order products are summed.
_FEATURES = ("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_tile")


def _check_printable(text: str) -> str:
    # Control characters of an untrusted file must not reach the terminal.
    if not text.isprintable():
        raise ValueError("not a printable text")
    return text


PrintableText = Annotated[str, Field(max_length=200), AfterValidator(_check_printable)]
# JSON has null for what is not finite.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Count = Annotated[int, Field(ge=0, le=10**9)]
RecordedTrialState = Literal["running", "complete", "pruned", "failed"]


class _RecordPart(BaseModel):
    # Later versions may add keys, which this one ignores.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Environment(_RecordPart):
    """What the bits of a result depend on besides config, data and seed.

    Attributes:
        versions: of Python and of the libraries that compute.
        processor: its architecture.
        processor_features: its vector instructions.
        threads: TensorFlow's.
        onednn: whether TensorFlow may use oneDNN.
        devices: on which each worker trained; more than one is another program than one.
        workers: processes that trained together.
    """

    versions: dict[str, str]
    processor: str
    processor_features: tuple[str, ...]
    threads: int = Field(ge=1, le=4096)
    onednn: bool
    devices: int = Field(1, ge=1, le=4096)
    workers: int = Field(1, ge=1, le=4096)


class ProgressRecord(_RecordPart):
    """How far the run has come; the histories are stored as arrays."""

    epoch: _Count
    step: _Count
    best_epoch: _Count
    elapsed_s: FiniteFloat = Field(ge=0)


class RunningState(_RecordPart):
    """State for which Keras' format has no place.

    Attributes:
        generators: states of the dropout generators by Keras path, two integers each.
        metrics: running sums of the current epoch by Keras path.
    """

    generators: dict[str, tuple[Int64, Int64]]
    metrics: dict[str, float]


class TestScore(_RecordPart):
    """The score on the test set.

    Attributes:
        loss: mean loss; NaN where JSON has null.
        accuracy: share of correct predictions, 0 to 1.
    """

    loss: Number
    accuracy: float = Field(ge=0, le=1)


class _ImageCount(_RecordPart):
    count: _Count


# In a record `count` comes first: the fields of the last base do.
class TestSetScore(TestScore, _ImageCount):
    """The score on the test set from the end of the run, and its number of images, `count`."""


class TrialMark(_RecordPart):
    """Which trial of which sweep a run is.

    Attributes:
        study: the sweep's name.
        number: the trial's number, from 0.
        state: its outcome; a trial that was stopped or killed is still `running`.
    """

    study: PrintableText
    number: _Count
    state: RecordedTrialState


class RunMetadata(_RecordPart):
    """The part of a record that `ls` reads: its fields are `protocol.RUN_METADATA_FIELDS`.

    Attributes:
        format_version: of the record.
        config: the complete config, with every default.
        dataset: the data set that the run was trained on.
        progress: how far the run has come.
        test: the score on the test set; None before the end of the run.
        trial: the run's place in a sweep; None for other runs.
        early_stopping: the callback's state; None for a run without it.
        reduce_on_plateau: likewise.
    """

    format_version: Literal[1] = 1
    config: Config
    dataset: Identity
    progress: ProgressRecord
    test: TestSetScore | None = None
    trial: TrialMark | None = None
    early_stopping: EarlyStoppingState | None = None
    reduce_on_plateau: ReduceLROnPlateauState | None = None

    @property
    def is_stopped_early(self) -> bool:
        """Whether early stopping has ended the run."""
        return self.early_stopping is not None and self.early_stopping.is_stopped

    @property
    def weights_epoch(self) -> int:
        """The epoch (from 1) after which the network had the weights that the file holds.

        The best one where early stopping has put its weights back, else the last completed one.
        """
        return self.restored_epoch or self.progress.epoch

    @property
    def restored_epoch(self) -> int | None:
        """The epoch (from 1) whose weights early stopping has put back; None without."""
        stopping = self.early_stopping
        return stopping.best_epoch + 1 if stopping is not None and stopping.is_restored else None

    @model_validator(mode="after")
    def _check_dataset(self) -> Self:
        if self.dataset.name not in get_args(AnyDatasetName):
            raise ValueError("no such data set")
        return self


class Record(RunMetadata):
    """The record of a run. Each field is stored as a JSON text, an attribute of `/mnistcli`.

    Attributes:
        class_names: in class order.
        preprocessing: how images become network input.
        running: states of random generators, and sums of metrics.
        environment: versions, processor, threads, devices.
        init_from: path of the checkpoint that gave the initial weights; None if they were drawn.
        init_weights_sha256: hash of those weights' bytes; None if they were drawn.
    """

    class_names: tuple[PrintableText, ...] = Field(max_length=10_000)
    preprocessing: Preprocessing
    running: RunningState
    environment: Environment
    init_from: str | None = None
    init_weights_sha256: str | None = None


_Model = TypeVar("_Model", bound=RunMetadata)


def make_record(
    state: RunState,
    *,
    config: Config,
    dataset: Identity,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
    environment: Environment,
    elapsed_s: float,
    test: TestSetScore | None = None,
    trial: TrialMark | None = None,
    init_from: str | None = None,
    init_weights_sha256: str | None = None,
) -> Record:
    """Return the record that is stored with a run's state.

    Args:
        state: the run at the moment of saving.
        config: the complete config.
        dataset: the data set that the run is trained on.
        class_names: in class order.
        preprocessing: how images become network input.
        environment: from `describe_environment`.
        elapsed_s: wall seconds of training so far, those before a resume included.
        test: the score on the test set, if this state was evaluated.
        trial: the run's place in a sweep.
        init_from: path of the checkpoint that gave the initial weights.
        init_weights_sha256: hash of those weights' bytes.
    """
    network, progress = state.network, state.progress
    return Record(
        config=config,
        dataset=dataset,
        class_names=class_names,
        preprocessing=preprocessing,
        progress=ProgressRecord(
            epoch=progress.epoch,
            step=progress.step,
            best_epoch=progress.best_epoch,
            elapsed_s=elapsed_s,
        ),
        running=RunningState(
            generators={array.name: tuple(array.values.tolist()) for array in network.generators},
            metrics={array.name: float(array.values) for array in network.metrics},
        ),
        early_stopping=state.callbacks.early_stopping,
        reduce_on_plateau=state.callbacks.reduce_on_plateau,
        environment=environment,
        init_from=init_from,
        init_weights_sha256=init_weights_sha256,
        test=test,
        trial=trial,
    )


def parse_record(parts: Mapping[str, str], model: type[_Model], where: str) -> _Model:
    """Validate the JSON texts of a record.

    Args:
        parts: the texts by the name of their field.
        model: `Record`, or `RunMetadata` for a part of it.
        where: the file, for messages.

    Raises:
        CheckpointError: the record is damaged, or of a later version.
    """
    try:
        format_version = json.loads(parts.get("format_version") or "null")
        latest = model.model_fields["format_version"].default
        if isinstance(format_version, int) and format_version > latest:
            what = f"written by a later mnistcli (format {format_version})"
            raise CheckpointError(where, what, "upgrade mnistcli")
        pairs = (f"{json.dumps(key)}:{value}" for key, value in parts.items())
        return model.model_validate_json("{" + ",".join(pairs) + "}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))[:_MAX_SHOWN]
        what = ": ".join(filter(None, (path, first["msg"][:_MAX_SHOWN])))
        raise make_damaged_record_error(where, what) from None
    except (ValueError, RecursionError):
        raise make_damaged_record_error(where, "no JSON") from None


def make_damaged_record_error(where: str, what: str) -> CheckpointError:
    """Return the error for a record that is invalid, or cannot be true; `what` names the part."""
    return CheckpointError(where, f"its record of the run is damaged ({what})", RESTORE_HINT)


def estimate_file_size(architecture: Architecture, training: TrainingConfig) -> int:
    """Return an upper bound of a checkpoint's size at the end of the run, in bytes.

    Args:
        architecture: the network.
        training: gives the optimizer's slots, the weights that early stopping keeps, and the
            length of the histories.
    """
    stopping = training.early_stopping
    copies = 1 + training.optimizer.slots + (stopping is not None and stopping.restore_best)
    histories = _MAX_HISTORIES * training.epochs * _VALUE_BYTES
    return architecture.parameter_count * FLOAT_BYTES * copies + histories + _STRUCTURE_BYTES


def check_run_size(architecture: Architecture, training: TrainingConfig) -> None:
    """Refuse to train a run whose checkpoints could not be read back.

    Raises:
        ResourceError: its network or its file would be too large.
    """
    count = architecture.parameter_count
    if count > MAX_PARAMETERS:
        what = f"this network has {count:,} parameters, at most {MAX_PARAMETERS:,} are read back"
        raise ResourceError("checkpoint", what, "use a smaller network (--hidden)")
    check_checkpoint_size(estimate_file_size(architecture, training), "checkpoint")


def check_checkpoint_size(size_bytes: int, where: str) -> None:
    """Refuse to write a file that is too large to be read back.

    Raises:
        ResourceError: it is.
    """
    if size_bytes > MAX_FILE_BYTES:
        size, most = format_bytes(size_bytes), format_bytes(MAX_FILE_BYTES)
        what = f"this run's file would have {size}, files of at most {most} are read back"
        raise ResourceError(where, what, _SIZE_HINT)


def describe_environment(threads: int, devices: int = 1, workers: int = 1) -> Environment:
    """Return versions, processor, threads and devices as a checkpoint records them."""
    versions = {name: version(name) for name in _LIBRARIES}
    return Environment(
        versions={"mnistcli": __version__, **versions, "python": platform.python_version()},
        processor=platform.machine(),
        processor_features=read_processor_features(),
        threads=threads,
        onednn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
        devices=devices,
        workers=workers,
    )


def list_differences(recorded: Environment, present: Environment) -> tuple[str, ...]:
    """List what may change the bits of a result: `keras 3.15.1 -> 3.16.0` for example.

    Args:
        recorded: the environment of a run.
        present: the environment in which it is resumed or reproduced.
    """
    # Python's own version does no arithmetic here, and the recorded thread count is applied again.
    names = sorted((recorded.versions.keys() | present.versions.keys()) - {"python"})
    pairs = [
        (name, recorded.versions.get(name, "unknown"), present.versions.get(name, "unknown"))
        for name in names
    ]
    before, after = set(recorded.processor_features), set(present.processor_features)
    features = [f"-{name}" for name in sorted(before - after)]
    features += [f"+{name}" for name in sorted(after - before)]
    pairs.append(("processor", recorded.processor, present.processor))
    pairs.append(("devices", str(recorded.devices), str(present.devices)))
    pairs.append(("workers", str(recorded.workers), str(present.workers)))
    pairs.append(("TF_ENABLE_ONEDNN_OPTS", str(int(recorded.onednn)), str(int(present.onednn))))
    differences = [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]
    return (*differences, *([f"processor features {' '.join(features)}"] if features else []))


def describe_devices(environment: Environment) -> str:
    """Return the number of devices and workers as a text; empty for one device."""
    devices, workers = environment.devices, environment.workers
    if workers > 1:
        return f"{workers} workers" + (f" with {devices} devices each" if devices > 1 else "")
    return f"{devices} devices" if devices > 1 else ""


def count_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_version(library: str) -> str | None:
    """Return an installed library's version without importing it; None if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def read_processor_features() -> tuple[str, ...]:
    """Return the vector instructions that affect sums of products; empty where not on Linux."""
    flags = next((line for line in read_cpuinfo() if line.startswith("flags")), "").split()
    return tuple(name for name in _FEATURES if name in flags)


def read_cpuinfo() -> list[str]:
    """Return what /proc/cpuinfo says of the first processor, a line per fact; [] elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    return text.partition("\n\n")[0].splitlines()
