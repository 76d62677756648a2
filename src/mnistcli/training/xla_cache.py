"""Compiled programs, kept from one run to the next.

XLA compiles a run's programs in one to three seconds; TensorFlow can keep them in a folder and
find them again by what they compute. What it finds it executes, and where it cannot read or write
the folder it fails. So the folder is used only where nobody else may write, each file is sealed
with its sha256 and checked before TensorFlow sees it, and programs made by other versions or for
another processor lie in other folders.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.atomic_files import replace_file
from mnistcli.checkpoints.record import read_cpuinfo
from mnistcli.checkpoints.run_state import Progress
from mnistcli.training.callbacks import Callback

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer

SWITCH = "MNISTCLI_PROGRAM_CACHE"  # 0 turns the cache off
MAX_PROGRAMS = 50
MAX_AGE_S = 30 * 24 * 3600.0
MAX_UNSEALED_S = 60.0

_FLAGS = "TF_XLA_FLAGS"
_PROBE_BYTES = 1 << 20
_SEAL = ".sha256"


@dataclass
class ProgramCache(Callback):
    """A folder in which TensorFlow keeps compiled programs; a callback that seals what it adds.

    Attributes:
        folder: of this processor and these versions.
        opened_at_s: Unix time since when TensorFlow uses it.
    """

    folder: Path
    opened_at_s: float
    _is_sealed: bool = field(default=False, init=False)

    def on_train_begin(self, trainer: Trainer) -> None:  # noqa: ARG002
        """Expect new programs."""
        self._is_sealed = False

    def on_epoch_end(self, progress: Progress) -> None:  # noqa: ARG002
        """Seal the programs after the run's first epoch: then all are compiled."""
        if not self._is_sealed:
            self.seal()
        self._is_sealed = True

    def seal(self) -> None:
        """Write down the sums of the programs added since; without one they are soon removed."""
        for program in self._list_programs():
            try:
                if program.stat().st_mtime >= self.opened_at_s and not _is_sound(program):
                    replace_file(_name_seal(program), [_compute_sha256(program).encode()])
            except OSError:
                return

    def clean(self) -> None:
        """Remove what is not what was written, and the oldest programs beyond the limit."""
        sound = [program for program in self._list_programs() if _is_sound(program)]
        sound.sort(key=lambda program: program.stat().st_mtime, reverse=True)
        kept = set(sound[:MAX_PROGRAMS])
        kept |= {_name_seal(program) for program in kept}
        for path in self.folder.iterdir():
            if path not in kept and (_name_seal(path).exists() or not _is_recent(path)):
                path.unlink(missing_ok=True)

    def _list_programs(self) -> list[Path]:
        """TensorFlow names its files so."""
        return list(self.folder.glob("*.pb"))


def use_program_cache(parent: Path) -> ProgramCache | None:
    """Let TensorFlow, which must not have been imported yet, keep its programs under a folder.

    Args:
        parent: holds one folder per processor and set of versions; made where it is missing.

    Returns:
        The cache, to be sealed after compilation; None where it cannot be used: switched off,
        flags of the user's own, TensorFlow loaded already, or a folder that is not writable, full
        or open to others.
    """
    if os.environ.get(SWITCH) == "0" or _FLAGS in os.environ or "tensorflow" in sys.modules:
        return None
    cache = ProgramCache(parent / _describe_machine(), time.time())
    try:
        cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(cache.folder):
            return None
        os.utime(cache.folder)
        _probe(cache.folder)
        cache.clean()
        _forget(parent.iterdir(), time.time() - MAX_AGE_S)
    except OSError:
        return None
    os.environ[_FLAGS] = f"--tf_xla_persistent_cache_directory={cache.folder}"
    return cache


def _describe_machine() -> str:
    """Name what compiled code depends on besides the program."""
    switches = [os.environ.get(name, "") for name in ("XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS")]
    parts = [version("tensorflow"), *switches, *_list_processor_facts()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _list_processor_facts() -> list[str]:
    """Return the processor's model and every instruction set it has, where Linux tells."""
    facts = [platform.machine(), platform.processor(), str(os.cpu_count())]
    if hasattr(os, "sched_getaffinity"):
        facts.append(str(len(os.sched_getaffinity(0))))
    return facts + [line for line in read_cpuinfo() if line.startswith(("model", "flags"))]


def _is_private(folder: Path) -> bool:
    """Tell whether nobody else may put code here."""
    status = folder.stat()
    owned = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return owned and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _probe(folder: Path) -> None:
    """Find out now, rather than in the middle of a compilation, that nothing can be written."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_PROBE_BYTES))
        file.flush()


def _name_seal(program: Path) -> Path:
    """Say where a program's sum is written down."""
    return program.with_name(program.name + _SEAL)


def _is_sound(program: Path) -> bool:
    """Tell whether a program is what was written."""
    try:
        return _name_seal(program).read_text(encoding="ascii") == _compute_sha256(program)
    except (OSError, ValueError):
        return False


def _compute_sha256(path: Path) -> str:
    """Hash a file, which is small."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_recent(path: Path) -> bool:
    """Tell whether another run may be at work on a file that has no sum yet."""
    return time.time() - path.stat().st_mtime < MAX_UNSEALED_S


def _forget(folders: Iterable[Path], before: float) -> None:
    """Remove what other versions left behind and nobody has used since."""
    for folder in folders:
        if folder.stat().st_mtime < before:
            shutil.rmtree(folder, ignore_errors=True)
