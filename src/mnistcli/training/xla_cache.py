"""A cache of compiled XLA programs on disk, from one run to the next.

XLA compiles a run's programs in one to three seconds; TensorFlow can keep them in a folder and
find them again by what they compute. It executes what it finds, and fails where it cannot read or
write the folder. So the folder is used only where no other user can change it, each file gets a
checksum that is verified before TensorFlow sees it, and each set of versions and processor has a
folder of its own. What is removed is named like a program, and in these folders themselves.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import stat
import subprocess
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
from mnistcli.errors import ResourceError
from mnistcli.training.callbacks import Callback
from mnistcli.user_folders import make_private_folder

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer

SWITCH = "MNISTCLI_PROGRAM_CACHE"  # 0 turns the cache off
MAX_PROGRAMS = 50
MAX_AGE_S = 30 * 24 * 3600.0
MAX_UNVERIFIED_S = 60.0  # that a program without a checksum may be another run's

_XLA_FLAGS, _FLAGS = _VARIABLES = ("XLA_FLAGS", "TF_XLA_FLAGS")
# The libraries' own parsers, in a tenth of the time that TensorFlow takes to compile something. If
# another version names them differently, nothing is found out.
_PARSE = """
import ctypes, importlib.util, os
folder = importlib.util.find_spec("tensorflow").submodule_search_locations[0]
def load(name):
    return ctypes.CDLL(os.path.join(folder, name), ctypes.RTLD_GLOBAL)
framework = load("libtensorflow_framework.so.2")
if os.environ.get("XLA_FLAGS"):
    options = ctypes.create_string_buffer(1 << 16)  # xla::DebugOptions, many times its size
    framework._ZN3xla24GetDebugOptionsFromFlagsEv(options)
if os.environ.get("TF_XLA_FLAGS"):
    load("libtensorflow_cc.so.2").TF_GetXlaConstantFoldingDisabled()
"""
_REFUSALS = {
    r"Unknown flags? in (?P<name>\w+): (?P<value>.*)": "TensorFlow does not know {}",
    r'Could not open file "(?P<value>.*?)".* variable "(?P<name>\w+)"': (
        "{} is no file with flags, and no flag, which begins with --"
    ),
    r"Flag parsing failed\.\s+usage: (?P<value>.*)": "TensorFlow does not take {}",
}
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


def check_xla_flags(cache: XlaCache | None = None) -> None:
    """Check the user's flags for XLA, over which TensorFlow would end the process as it compiles.

    Args:
        cache: of this process, whose folder TensorFlow has been told by one of the variables.

    Raises:
        ResourceError: a variable holds what TensorFlow does not take.
    """
    names = _VARIABLES if cache is None else (_XLA_FLAGS,)
    if given := tuple((name, os.environ[name]) for name in names if os.environ.get(name)):
        _try_flags(given)


@functools.cache
def _try_flags(given: tuple[tuple[str, str], ...]) -> None:
    """Have these flags parsed in a process of its own, which ends over those that are wrong."""
    others = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    tried = subprocess.run(
        [sys.executable, "-P", "-c", _PARSE],
        env={**others, **dict(given)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    reasons = tried.stderr.decode(errors="replace") if tried.returncode else ""
    for pattern, what in _REFUSALS.items():
        if found := re.search(pattern, reasons):
            name = found["name"] if "name" in found.groupdict() else " or ".join(dict(given))
            hint = f"correct it, or take it away: unset {name.replace(' or', '')}"
            raise ResourceError(name, what.format(found["value"]), hint)


def _describe_machine() -> str:
    """Return a hash of what compiled code depends on besides the program."""
    switches = [os.environ.get(name, "") for name in (_XLA_FLAGS, "TF_ENABLE_ONEDNN_OPTS")]
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
