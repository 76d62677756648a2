"""The memory estimate of a run, against literal sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Run
from mnistcli.config.schema import Config
from mnistcli.datasets.base import DatasetInfo
from mnistcli.datasets.registry import get_info
from mnistcli.errors import ResourceError
from mnistcli.models.architecture import Architecture, plan_architecture
from mnistcli.models.memory import MemoryEstimate, check_memory, estimate_memory, format_bytes

MNIST_ROW = 785  # 28 x 28 pixels and a label


def plan(config: Config) -> tuple[Config, Architecture, DatasetInfo]:
    info = get_info(config.dataset)
    return config, plan_architecture(config.model, info.image_shape, len(info.class_names)), info


def estimate(**blocks: object) -> MemoryEstimate:
    return estimate_memory(*plan(Config.model_validate(blocks)))


def test_the_default_run_in_numbers() -> None:
    found = estimate()
    assert found.weights == 7850 * 4
    assert found.optimizer == 0
    assert found.data == 4 * 60_000 * MNIST_ROW + 10_000 * MNIST_ROW
    assert found.working == 3 * 1024 * 784 * 4  # evaluating takes more than such a small step
    assert found.total == found.libraries + 31_400 + 196_250_000 + 9_633_792


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ("sgd", 0), ({"name": "sgd", "momentum": 0.9}, 1), ("rmsprop", 1),
        ({"name": "rmsprop", "momentum": 0.9}, 2), ("adam", 2), ("nadam", 2), ("adamw", 2),
    ],
)  # fmt: skip
def test_optimizers_keep_so_many_arrays_for_each_weight(optimizer: object, slots: int) -> None:
    assert estimate(training={"optimizer": optimizer}).optimizer == slots * 7850 * 4


@pytest.mark.parametrize(
    ("blocks", "rows"),
    [
        ({"training": {"shuffle": False}}, 2 * 60_000 + 10_000),
        ({"dataset": {"validation": 0.1}}, 5 * 60_000 + 10_000),
        ({"dataset": {"validation": "test"}}, 4 * 60_000 + 2 * 10_000),
    ],
    ids=["file order", "held out", "test monitored"],
)
def test_copies_of_the_data_are_counted(blocks: dict[str, object], rows: int) -> None:
    assert estimate(**blocks).data == rows * MNIST_ROW


def test_a_batch_is_never_larger_than_the_training_set() -> None:
    mlp = {"type": "mlp", "hidden": [5000]}
    whole, more = (estimate(model=mlp, training={"batch_size": n}) for n in (60_000, 1_000_000))
    assert whole == more
    assert whole.working > 2 * 60_000 * 5000 * 4


def test_what_a_run_keeps_of_its_best_epoch_is_counted() -> None:
    model = {"type": "mlp", "hidden": [10_000]}
    weights = estimate(model=model).weights
    held_out = {"validation": 0.1}
    plain, chosen, stopping = (
        estimate(model=model, dataset=held_out if blocks else {}, training=blocks or {}).working
        for blocks in ({}, {"seed": 1}, {"early_stopping": {}})
    )
    assert (chosen - plain, stopping - chosen) == (weights, 2 * weights)


def test_a_run_that_does_not_fit_is_refused_with_the_estimate(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.commands.train.prepare.read_available_memory", lambda: 2 * 10**9)
    words = ("--model", "mlp", "--hidden", "12000,12000", "--optimizer", "adam", "-o", "m.h5")
    ended = run("train", *words)
    assert (ended.code, ended.out, list(Path().iterdir())) == (7, "", [])
    assert ended.err.splitlines()[-1] == (
        "mnistcli: error: memory: this run needs"
        f" {estimate(model={'type': 'mlp', 'hidden': [12000, 12000]}, training={'optimizer': 'adam'}).describe()},"  # noqa: E501
        " 2.0 GB are available. Use a smaller network, batch (--batch-size) or data set, or end"
        " other programs"
    )


def test_windows_are_counted_where_rows_are_streamed() -> None:
    config = Config.model_validate({"dataset": {"name": "files", "path": "x"}})
    info = DatasetInfo("files", "x", (32, 32, 3), tuple("ab"), 1_000_000, 100_000, "custom")
    network = plan_architecture(config.model, info.image_shape, 2)
    resident = estimate_memory(config, network, info)
    streamed = estimate_memory(config, network, info, placement="streamed")
    assert resident.data == 3 * 1_000_000 * 3073  # placed, and in the order of two epochs
    window = 10 * 1024 * 3073  # 32 MiB, in whole batches
    assert streamed.data == 5 * window + 1_000_000 * 20
    assert streamed.working == resident.working


def test_the_total_is_the_sum_of_the_parts_on_several_devices_too() -> None:
    config = Config.model_validate({"training": {"optimizer": "adam"}})
    found = estimate_memory(*plan(config), devices=3)
    parts = found.libraries + found.data + found.weights + found.optimizer + found.working
    assert (found.weights, found.optimizer) == (3 * 31_400, 6 * 31_400)
    assert found.total == parts


def test_what_is_not_known_refuses_nothing() -> None:
    found = MemoryEstimate(total=15, libraries=1, data=2, weights=3, optimizer=4, working=5)
    check_memory(found, None)
    check_memory(found, 15)
    with pytest.raises(ResourceError, match="needs about 0 MB of memory"):
        check_memory(found, 14)


def test_a_dry_run_shows_the_estimate(run: Run) -> None:
    ended = run("train", "--dry-run")
    assert f"needs {estimate().describe()}" in ended.err
    memory = run("train", "--dry-run", "--json").json["memory"]
    assert set(memory) == {
        "total", "libraries", "data", "weights", "optimizer", "working", "available",
    }  # fmt: skip
    assert (memory["total"], memory["weights"]) == (estimate().total, 31_400)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 MB"), (31_400, "0 MB"), (999_499_999, "999 MB"), (999_500_000, "1.0 GB"),
     (12_345_678_901, "12.3 GB")],
)  # fmt: skip
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text
