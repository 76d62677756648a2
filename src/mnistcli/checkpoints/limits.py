"""How large a checkpoint may be: nothing is trained, or written, that would not be read again."""

from __future__ import annotations

from mnistcli.checkpoints.untrusted.contents import MAX_FILE_BYTES
from mnistcli.config.schema import TrainingConfig
from mnistcli.errors import ResourceError
from mnistcli.models.architecture import Architecture
from mnistcli.models.memory import FLOAT_BYTES, count_slots, format_bytes

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
    copies = 1 + count_slots(training.optimizer) + (stopping is not None and stopping.restore_best)
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
