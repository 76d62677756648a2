"""Parsing TF_CONFIG, and refusing invalid values."""

from __future__ import annotations

import json

import pytest

from conftest import Run
from mnistcli.errors import UsageError
from mnistcli.training.distributed.cluster import Cluster, read_cluster


def read(cluster: object, task: object = None) -> Cluster | None:
    config = {"cluster": cluster} | ({} if task is None else {"task": task})
    return read_cluster({"TF_CONFIG": json.dumps(config)})


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": 0}, (("a:1", "b:2"), 0)),
        ({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": 1}, (("a:1", "b:2"), 1)),
        (
            {"chief": ["c:0"], "worker": ["a:1", "b:2"]},
            {"type": "worker", "index": "1"},  # as some operators write it
            (("c:0", "a:1", "b:2"), 2),
        ),
        (
            {"worker": ["a:1"], "chief": ["c:0"]},
            {"type": "chief", "index": 0},
            (("c:0", "a:1"), 0),
        ),
    ],
)
def test_the_chief_comes_first(cluster: object, task: object, expected: tuple[object, int]) -> None:
    found = read(cluster, task)
    assert found is not None
    assert (found.addresses, found.number) == expected
    assert found.is_chief is (expected[1] == 0)


@pytest.mark.parametrize("text", ["", " ", "{}", '{"environment": "cloud", "cluster": {}}'])
def test_without_a_cluster_a_process_trains_alone(text: str) -> None:
    assert read_cluster({"TF_CONFIG": text}) is None
    assert read_cluster({}) is None
    assert read({"worker": ["a:1"]}, {"type": "worker", "index": 0}) is None
    assert read({"chief": ["a:1"]}, {"type": "chief", "index": 0}) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "it is not a JSON object"),
        ("[" * 100_000, "it is not a JSON object"),
        ("7", "it is not a JSON object"),
        ('{"cluster": {"worker": "a:1"}}', "cluster.worker: input should be a valid tuple"),
        ('{"cluster": {"worker": [1, 2]}}', "cluster.worker.0: input should be a valid string"),
        (
            '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"index": 0}}',
            "task.type: field required",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
            "its cluster has no worker 2, its task",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "evaluator", "index": 0}}',
            "its cluster has no evaluator 0, its task",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}}',
            "its cluster has tasks of the type 'ps', known are chief and worker",
        ),
        ('{"cluster": {"chief": ["a:1", "b:2"]}}', "its cluster has 2 chiefs"),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}}',
            "two of its workers have the same address",
        ),
    ],
)
def test_what_is_malformed_is_named(text: str, what: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_cluster({"TF_CONFIG": text})
    assert (raised.value.where, raised.value.what) == ("TF_CONFIG", what)


TWO = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}'


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("--repeat", 2), "--repeat"),
        (("--dry-run",), "--dry-run"),
        (("--overfit-one-batch",), "--overfit-one-batch"),
    ],
)
def test_what_one_process_does_is_refused_to_several(
    run: Run, words: tuple[object, ...], flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", TWO)
    ended = run("train", "xor", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == (
        f"mnistcli: error: {flag}: TF_CONFIG names 2 workers, and this takes one."
        " Start it once, without TF_CONFIG"
    )


def test_a_malformed_cluster_ends_a_run_before_it_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", "worker-0")
    ended = run("train", "xor")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "mnistcli: error: TF_CONFIG: it is not a JSON object."
        ' Write {"cluster": {"worker": ["host0:2222", "host1:2222"]},'
        ' "task": {"type": "worker", "index": 0}}, or unset it\n'
    )
