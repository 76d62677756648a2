"""A cache of compiled XLA programs on disk, from one run to the next.

XLA compiles a run's programs in one to three seconds; TensorFlow can keep them in a folder and
find them again by what they compute. It executes what it finds, and fails where it cannot read or
write the folder. So the folder is used only where no other user can change it, each file gets a
checksum that is verified before TensorFlow sees it, and each set of versions and processor has a
folder of its own. What is removed is named like a program, and in these folders themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.atomic_files import open_scratch_file, replace_file
from mnistcli.checkpoints.record import read_cpuinfo
from mnistcli.checkpoints.run_state import Progress
from mnistcli.training.callbacks import Callback
from mnistcli.user_folders import make_private_folder

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer

SWITCH = "MNISTCLI_PROGRAM_CACHE"  # 0 turns the cache off
MAX_PROGRAMS = 50
MAX_AGE_S = 30 * 24 * 3600.0
MAX_UNVERIFIED_S = 60.0  # that a program without a checksum may be another run's

_FLAGS = "TF_XLA_FLAGS"
_PROBE_BYTES = 1 << 20
_SUFFIX = ".sha256"
_NAME = re.compile(r"\.?xla_compile_cache.*|.+\.pb(\.sha256)?")  # unfinished ones included


@dataclass
class XlaCache(Callback):
    """A folder of compiled programs; a callback that writes the checksums of a run's programs.

    Attributes:
        folder: of this processor and these versions.
        opened_at_s: Unix time since when TensorFlow uses it.
    """

    folder: Path
    opened_at_s: float
    _is_written: bool = field(default=False, init=False)

    def on_train_begin(self, trainer: Trainer) -> None:  # noqa: ARG002
        """Expect the programs of a new run."""
        self._is_written = False

    def on_epoch_end(self, progress: Progress) -> None:  # noqa: ARG002
        """Write the checksums after the run's first epoch: then all programs are compiled."""
        if not self._is_written:
            self.write_checksums()
        self._is_written = True

    def write_checksums(self) -> None:
        """Write the checksums of the programs added since; without one they are soon removed."""
        for program in self._list_programs():
            try:
                if program.stat().st_mtime >= self.opened_at_s and not _is_intact(program):
                    replace_file(_checksum_path(program), [_compute_sha256(program).encode()])
            except OSError:
                return

    def clean(self) -> None:
        """Remove programs that do not match their checksum, and the oldest beyond the limit."""
        sound = [program for program in self._list_programs() if _is_intact(program)]
        sound.sort(key=lambda program: program.stat().st_mtime, reverse=True)
        kept = set(sound[:MAX_PROGRAMS])
        kept |= {_checksum_path(program) for program in kept}
        for path in _list_own(self.folder):
            if path not in kept and (_checksum_path(path).exists() or not _is_recent(path)):
                path.unlink(missing_ok=True)

    def _list_programs(self) -> list[Path]:
        return list(self.folder.glob("*.pb"))


def open_xla_cache(parent: Path) -> XlaCache | None:
    """Make TensorFlow, which must not have been imported yet, cache its programs in a folder.

    Args:
        parent: holds one folder per processor and set of versions; made where it is missing.

    Returns:
        The cache; None where it cannot be used: it is switched off, the user has set XLA flags,
        TensorFlow is loaded already, or the folder is not writable, full or open to others.
    """
    if os.environ.get(SWITCH) == "0" or _FLAGS in os.environ or "tensorflow" in sys.modules:
        return None
    cache = XlaCache(parent / _describe_machine(), time.time())
    try:
        make_private_folder(parent)
        make_private_folder(cache.folder)
        if cache.folder.stat().st_mode & stat.S_IWGRP:  # even a group of the user's alone
            return None
        os.utime(cache.folder)
        _probe(cache.folder)
        cache.clean()
        _remove_unused(parent, time.time() - MAX_AGE_S)
    except OSError:
        return None
    os.environ[_FLAGS] = f"--tf_xla_persistent_cache_directory={cache.folder}"
    return cache


def _describe_machine() -> str:
    """Return a hash of what compiled code depends on besides the program."""
    switches = [os.environ.get(name, "") for name in ("XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS")]
    parts = [version("tensorflow"), *switches, *_list_processor_facts()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _list_processor_facts() -> list[str]:
    """Return the processor's model and every instruction set it has, where Linux tells."""
    facts = [platform.machine(), platform.processor(), str(os.cpu_count())]
    if hasattr(os, "sched_getaffinity"):
        facts.append(str(len(os.sched_getaffinity(0))))
    return facts + [line for line in read_cpuinfo() if line.startswith(("model", "flags"))]


def _probe(folder: Path) -> None:
    """Fail now, rather than in the middle of a compilation, where nothing can be written."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_PROBE_BYTES))
        file.flush()


def _checksum_path(program: Path) -> Path:
    return program.with_name(program.name + _SUFFIX)


def _is_intact(program: Path) -> bool:
    try:
        with os.fdopen(open_scratch_file(_checksum_path(program), os.O_RDONLY), "rb") as file:
            return file.read(65).decode("ascii") == _compute_sha256(program)
    except (OSError, ValueError):
        return False


def _compute_sha256(path: Path) -> str:
    with os.fdopen(open_scratch_file(path, os.O_RDONLY), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_recent(path: Path) -> bool:
    """Return whether a file without a checksum may be another run's, which still compiles."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime < MAX_UNVERIFIED_S


def _list_own(folder: Path) -> Iterator[Path]:
    """Yield what is named like programs, their checksums, and unfinished files of either."""
    return (path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _remove_unused(parent: Path, before: float) -> None:
    """Remove the programs of other versions that have not been used since, and their folders."""
    for folder in parent.iterdir():
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_mtime < before:
            with contextlib.suppress(OSError):  # a folder that holds anything else stays
                for path in _list_own(folder):
                    path.unlink()
                folder.rmdir()
