"""docs/scaling.md: its scripts set the variables that are read, and its figures are computed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from mnistcli.training.distributed.cluster import Cluster, read_cluster

TEXT = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
SCRIPT = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)[0]
MANIFEST = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0])
FAKES = {
    "scontrol": 'test "$*" = "show hostnames node[07-09]" && printf "node07\\nnode08\\nnode09\\n"',
    "srun": 'test "$1" = --kill-on-bad-exit=1 && shift\n'
    'for rank in 0 1 2; do SLURM_PROCID=$rank "$@"; done',
    "mnistcli": 'echo "$*"; echo "$TF_CONFIG"',
}


@pytest.mark.parametrize("has_begun", [False, True])
def test_the_slurm_script_gives_each_worker_its_place(tmp_path: Path, has_begun: bool) -> None:
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    if has_begun:
        (tmp_path / "mlp.h5").touch()
    job = {"SLURM_JOB_NODELIST": "node[07-09]", "SLURM_JOB_ID": "1234567"}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SCRIPT],
        env={**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    words = (
        "train --resume mlp.h5"
        if has_begun
        else "train mnist-mlp --batch-size 4096 --epochs 100 -o mlp.h5"
    )
    assert lines[::2] == [words] * 3
    addresses = ("node07:34567", "node08:34567", "node09:34567")
    found = [read_cluster({"TF_CONFIG": line}) for line in lines[1::2]]
    assert found == [Cluster(addresses, number) for number in range(3)]


def test_the_shell_line_names_a_cluster() -> None:
    (line,) = re.findall(r"^export (TF_CONFIG=.*)$", TEXT, re.MULTILINE)
    (assignment,) = shlex.split(line)
    found = read_cluster({"TF_CONFIG": assignment.removeprefix("TF_CONFIG=")})
    assert found == Cluster(("host0:2222", "host1:2222"), 0)


def test_the_manifest_starts_workers_that_go_on_where_a_run_has_begun() -> None:
    assert (MANIFEST["kind"], MANIFEST["apiVersion"]) == ("TFJob", "kubeflow.org/v1")
    (kind,) = MANIFEST["spec"]["tfReplicaSpecs"]
    assert kind == "Worker"
    pod = MANIFEST["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "tensorflow"
    assert all(isinstance(variable["value"], str) for variable in container["env"])
    shell, flag, program = container["command"]
    assert (shell, flag) == ("sh", "-c")
    commands = re.findall(r"exec (mnistcli .*)", program)
    assert commands == re.findall(r"exec (mnistcli .*)", SCRIPT)
    subprocess.run(["sh", "-n", "-c", program], check=True)
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]


def test_the_figures_on_paper_are_those_of_the_formula() -> None:
    rows = re.findall(r"^\| [\w -]+ \| ([\d,]+) \| ((?:[\d.]+ \| ?){6})$", TEXT, re.MULTILINE)
    assert rows
    for parameters, cells in rows:
        count, shown = int(parameters.replace(",", "")), cells.replace(" ", "").split("|")[:6]
        alone_s = 6 * count * 8192 / 150e9
        together_s = [
            alone_s / n + 8 * count * (n - 1) / (n * wire) + 3e-3
            for wire in (125e6, 1250e6)
            for n in (2, 4, 8)
        ]
        assert shown == [f"{alone_s / seconds:.2f}" for seconds in together_s]
