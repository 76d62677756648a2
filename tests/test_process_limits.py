"""Limits on address space, threads and processes: exit code 7, and what was short."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Train

# The limit on processes does not hold for root, who becomes a user that may still read the code.
RIGHTS = "-all,+dac_read_search,+dac_override"
AS_USER = (
    "setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups",
    f"--inh-caps={RIGHTS}", f"--ambient-caps={RIGHTS}",
)  # fmt: skip


def run_limited(environment: dict[str, str], limit: str, *words: str) -> tuple[int, str, str]:
    """Run a command line under `ulimit`, without root's rights where the limit needs that."""
    prefix = AS_USER if limit.startswith("-u") and os.getuid() == 0 else ()
    if prefix and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("setpriv may not change the user here")
    command = shlex.join([*prefix, sys.executable, "-m", "mnistcli", *words])
    ended = subprocess.run(
        ["bash", "-c", f"ulimit {limit}; exec {command}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


ADDRESS_SPACE = ("address space", "raise the limit: ulimit -v unlimited")
THREADS = (
    "threads and processes",
    "end other programs, or raise the limit: ulimit -u, or pids.max of a control group",
)


@pytest.mark.parametrize(
    ("limit", "where", "hint"),
    [("-v 150000", *ADDRESS_SPACE), ("-u 1", *THREADS)],
    ids=["address space", "threads"],
)
def test_commands_that_cannot_start_say_what_is_short(
    environment: dict[str, str], train_once: Train, limit: str, where: str, hint: str
) -> None:
    train_once("xor", "--epochs", 1).chmod(0o644)
    Path().chmod(0o755)
    for words in (("evaluate", "model.h5"), ("predict", "model.h5", "--input", "0,1")):
        code, out, err = run_limited(environment, limit, *words, "--json")
        error = json.loads(out)["error"]
        assert (code, error["where"], error["hint"]) == (7, where, hint)
        assert err.startswith(f"mnistcli: error: {where}: ")
    code, _, err = run_limited(environment, limit, "summary", "model.h5")
    assert (code, err.count("\n")) == (7, 1)


@pytest.mark.parametrize(
    ("limit", "where"),
    [("-v 2000000", "address space"), ("-u 12", "threads and processes")],
    ids=["address space", "threads"],
)
def test_a_run_that_cannot_start_leaves_nothing(
    environment: dict[str, str], tmp_path: Path, limit: str, where: str
) -> None:
    tmp_path.chmod(0o777)
    code, out, err = run_limited(environment, limit, "train", "xor", "-o", "m.h5")
    assert (code, out) == (7, "")
    assert err.startswith(f"mnistcli: error: {where}: ")
    assert list(tmp_path.iterdir()) == []
