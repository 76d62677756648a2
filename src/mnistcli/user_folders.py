"""Finds the user's home and cache folders, and makes those that nobody else can change."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path


def find_home() -> Path | None:
    """Return the home directory; None in containers that run as users without one."""
    home = expand_home(Path("~"))
    return home if home.is_absolute() else None


def expand_home(path: Path) -> Path:
    """Expand `~` or `~user` at the beginning; without such a home the path stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def find_cache(environment: Mapping[str, str]) -> Path:
    """Return mnistcli's cache folder, which may not exist yet.

    It is `$XDG_CACHE_HOME/mnistcli`, `~/.cache/mnistcli`, or a folder of the user's in the
    system's temporary folder where there is no home. Links that lead to the folder it is in are
    resolved; `make_private_folder` follows none.
    """
    # The XDG specification asks to ignore a relative path.
    from_environment = Path(environment.get("XDG_CACHE_HOME", ""))
    if from_environment.is_absolute():
        return _resolve(from_environment) / "mnistcli"
    if home := find_home():
        return _resolve(home / ".cache") / "mnistcli"
    return _resolve(Path(tempfile.gettempdir())) / f"mnistcli-{os.getuid()}"


def make_private_folder(path: Path) -> None:
    """Make a folder that nobody else can change, or require that an existing one is such.

    Every part of its path has to be a real folder, no link, that belongs to this user or to root
    and that others cannot write to. On the way there may be folders like /tmp, where everybody may
    make files, but only their owners remove them. What holds when this returns goes on holding, as
    only this user and root can change it.

    Args:
        path: of the folder; parts that are missing are made, for this user only.

    Raises:
        OSError: a part is a link, or others can change it; or it cannot be made.
    """
    path = path.absolute()
    trusted = {os.geteuid(), 0, Path("/").stat().st_uid}  # who owns / can change all below it
    for part in (*reversed(path.parents), path):
        status = _stat_or_make(part)
        if stat.S_ISLNK(status.st_mode):
            why = "is a link"
        elif not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(part))
        elif status.st_uid not in trusted:
            why = "belongs to another user"
        elif _is_shared(status) and (part == path or not status.st_mode & stat.S_ISVTX):
            why = "can be changed by other users"
        else:
            continue
        raise PermissionError(errno.EPERM, f"{part} {why}", str(part))


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _stat_or_make(folder: Path) -> os.stat_result:
    try:
        return folder.lstat()
    except FileNotFoundError:
        folder.mkdir(mode=0o700, exist_ok=True)  # another process may have been faster
        return folder.lstat()


def _is_shared(status: os.stat_result) -> bool:
    """Return whether users that we do not trust may write to a folder."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_gid)


def _is_private_group(group: int) -> bool:
    """Return whether a group is this user's alone, as many systems give one to each, or root's."""
    user = os.geteuid()
    if user == 0 or group == 0:
        return user != 0
    try:
        return grp.getgrgid(group).gr_name == pwd.getpwuid(user).pw_name
    except KeyError:  # containers have users without names
        return False
