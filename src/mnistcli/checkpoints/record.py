"""What the bits of a result depend on besides config, data and seed.

How large a checkpoint may be: nothing is trained, or written, that would not be read again.

What a checkpoint keeps of the run it came from, next to Keras' own data.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from mnistcli import __version__
from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.checkpoints.run_state import PlateauState, StoppingState
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
_STRUCTURE_BYTES = 4 << 20  # HDF5's own and the record's texts; a few kilobytes each array
_HINT = "use a smaller network (--hidden), or an optimizer that keeps less (--optimizer sgd)"


def estimate_file_size(architecture: Architecture, training: TrainingConfig) -> int:
    """Return at most how many bytes a run's checkpoint will have at its end.

    Args:
        architecture: the network.
        training: its optimizer's slots, what early stopping keeps, and the histories count.
    """
    stopping = training.early_stopping
    copies = 1 + training.optimizer.slots + (stopping is not None and stopping.restore_best)
    histories = _MAX_HISTORIES * training.epochs * _VALUE_BYTES
    return architecture.parameter_count * FLOAT_BYTES * copies + histories + _STRUCTURE_BYTES


def check_run_size(architecture: Architecture, training: TrainingConfig) -> None:
    """Refuse a run whose checkpoints could not be read.

    Raises:
        ResourceError: its network or its file would be too large.
    """
    count = architecture.parameter_count
    if count > MAX_PARAMETERS:
        what = f"this network has {count:,} parameters, at most {MAX_PARAMETERS:,} are read back"
        raise ResourceError("checkpoint", what, "use a smaller network (--hidden)")
    check_file_size(estimate_file_size(architecture, training), "checkpoint")


def check_file_size(size_bytes: int, where: str) -> None:
    """Refuse a file that is too large to be read back.

    Raises:
        ResourceError: it is.
    """
    if size_bytes > MAX_FILE_BYTES:
        size, most = format_bytes(size_bytes), format_bytes(MAX_FILE_BYTES)
        what = f"this run's file would have {size}, files of at most {most} are read back"
        raise ResourceError(where, what, _HINT)


def _check_printable(text: str) -> str:
    """Keep control characters away from terminals."""
    if not text.isprintable():
        raise ValueError("not a printable text")
    return text


PrintableText = Annotated[str, Field(max_length=200), AfterValidator(_check_printable)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


_Kind = TypeVar("_Kind", bound="RunMetadata")


class _Part(BaseModel):
    """A frozen part of the record; later versions may add keys that this one ignores."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Environment(_Part):
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


class ProgressRecord(_Part):
    """How far the run has come; the histories are arrays beside it."""

    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    best_epoch: int = Field(ge=0)
    elapsed_s: FiniteFloat = Field(ge=0)


class RunningState(_Part):
    """What Keras' format has no place for.

    Attributes:
        generators: the dropout generators' states by Keras path, two integers each.
        metrics: the running sums of the epoch under way by Keras path.
    """

    generators: dict[str, tuple[Int64, Int64]]
    metrics: dict[str, float]


class TestSetScore(_Part):
    """The result on the test set when the file was last written at the end of a run."""

    __test__ = False

    count: int = Field(ge=0)
    loss: float | None
    accuracy: float = Field(ge=0, le=1)


RecordedTrialState = Literal["running", "complete", "pruned", "failed"]


class TrialMark(_Part):
    """Which trial of which sweep a run is.

    Attributes:
        study: the sweep's name.
        number: the trial's, from 0.
        state: what came of it; one that was stopped or killed is still `running`.
    """

    study: PrintableText
    number: int = Field(ge=0)
    state: RecordedTrialState


class RunMetadata(_Part):
    """What a list of runs shows of each: `contents.RUN_METADATA_FIELDS`.

    Attributes:
        format_version: of this record.
        config: resolved; everything that was decided.
        dataset: which data it was trained on.
        progress: how far it has come.
        test: the score on the test set, once there is one.
        trial: of a sweep; null for other runs.
    """

    format_version: Literal[1] = 1
    config: Config
    dataset: Identity
    progress: ProgressRecord
    test: TestSetScore | None = None
    trial: TrialMark | None = None

    @model_validator(mode="after")
    def _check_dataset(self) -> Self:
        """Refuse an unknown data set."""
        if self.dataset.name not in get_args(AnyDatasetName):
            raise ValueError("no such data set")
        return self


class Record(RunMetadata):
    """The run. Each field is one JSON attribute of the group `/mnistcli`.

    Attributes:
        class_names: in class order.
        preprocessing: the pair that new inputs need too.
        running: random generators and metric sums.
        early_stopping: what it remembers; null where the run has none.
        reduce_on_plateau: likewise.
        environment: versions, processor, threads, devices.
        init_from: the checkpoint that gave the first weights; null for none.
        init_weights_sha256: of those weights' bytes; null for none.
    """

    class_names: tuple[PrintableText, ...] = Field(max_length=10_000)
    preprocessing: Preprocessing
    running: RunningState
    early_stopping: StoppingState | None = None
    reduce_on_plateau: PlateauState | None = None
    environment: Environment
    init_from: str | None = None
    init_weights_sha256: str | None = None

    @model_validator(mode="after")
    def _check_preprocessing(self) -> Self:
        """Refuse a pair that turns pixels into anything but numbers."""
        offset, scale = self.preprocessing.offset, self.preprocessing.scale
        if not (math.isfinite(offset) and math.isfinite(scale) and scale != 0):
            raise ValueError("preprocessing is not finite")
        return self


def parse_record(parts: Mapping[str, str], kind: type[_Kind], where: str) -> _Kind:
    """Validate the record's parts, each a JSON text.

    Args:
        parts: the texts by the name of their field.
        kind: the whole `Record`, or an excerpt.
        where: the file, for messages.

    Raises:
        CheckpointError: it is damaged, or of a later version.
    """
    try:
        version = json.loads(parts.get("format_version") or "null")
        if isinstance(version, int) and version > kind.model_fields["format_version"].default:
            raise CheckpointError(
                where, f"written by a later mnistcli (format {version})", "upgrade mnistcli"
            )
        pairs = (f"{json.dumps(key)}:{value}" for key, value in parts.items())
        return kind.model_validate_json("{" + ",".join(pairs) + "}")
    except (ValueError, RecursionError):
        raise refuse_record(where) from None


def refuse_record(where: str) -> CheckpointError:
    """Say that the run cannot be told from the file."""
    return CheckpointError(where, "its record of the run is damaged", RESTORE_HINT)


_LIBRARIES = ("keras", "tensorflow", "numpy")
_FEATURES = ("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_tile")


def count_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_version(library: str) -> str | None:
    """Return an installed library's version without importing it; null where it is missing."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


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


def describe_devices(environment: Environment) -> str:
    """Say on how many devices a run trained; nothing where that was one."""
    devices, workers = environment.devices, environment.workers
    if workers > 1:
        return f"{workers} workers" + (f" with {devices} devices each" if devices > 1 else "")
    return f"{devices} devices" if devices > 1 else ""


def list_differences(recorded: Environment, present: Environment) -> tuple[str, ...]:
    """Say what may change the bits of a result: `keras 3.15.1 -> 3.16.0` for example.

    Python's own version does no arithmetic here, and threads are applied again as recorded.

    Args:
        recorded: where a run was made.
        present: where it goes on.
    """
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


def read_processor_features() -> tuple[str, ...]:
    """Name the vector instructions that decide how products are summed, where Linux tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return tuple(name for name in _FEATURES if name in flags)
