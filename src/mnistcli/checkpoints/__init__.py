"""Checkpoint files: what they hold, reading and writing them, and reading untrusted ones."""

from pathlib import PurePath

SUFFIXES = (".h5", ".hdf5", ".keras")


def has_checkpoint_name(path: object) -> bool:
    """Tell whether a path ends like a checkpoint's, of mnistcli or of Keras."""
    return PurePath(str(path)).suffix.lower() in SUFFIXES
