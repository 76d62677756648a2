"""The recorded environment: what results depend on besides config, data and seed."""

from __future__ import annotations

import importlib.metadata

from mnistcli.checkpoints.record import (
    Environment,
    describe_environment,
    find_version,
    list_differences,
)

THERE = Environment(
    versions={"mnistcli": "0.1.0", "keras": "3.15.1", "tensorflow": "2.21.0", "python": "3.11.1"},
    processor="x86_64",
    processor_features=("avx", "avx2", "fma"),
    threads=8,
    onednn=True,
)


def test_nothing_differs_where_nothing_was_changed() -> None:
    assert list_differences(THERE, THERE) == ()
    assert list_differences(describe_environment(2), describe_environment(2)) == ()


def test_every_difference_that_can_change_bits_is_named() -> None:
    here = Environment(
        versions={"mnistcli": "0.1.0", "keras": "3.16.0", "numpy": "2.4.6", "python": "3.11.1"},
        processor="aarch64",
        processor_features=("avx", "amx_tile"),
        threads=8,
        onednn=False,
    )
    assert list_differences(THERE, here) == (
        "keras 3.15.1 -> 3.16.0",
        "numpy unknown -> 2.4.6",
        "tensorflow 2.21.0 -> unknown",
        "processor x86_64 -> aarch64",
        "TF_ENABLE_ONEDNN_OPTS 1 -> 0",
        "processor features -avx2 -fma +amx_tile",
    )


def test_pythons_version_and_threads_change_no_bits() -> None:
    here = THERE.model_copy(
        update={"versions": {**THERE.versions, "python": "3.13.0"}, "threads": 2}
    )
    assert list_differences(THERE, here) == ()


def test_versions_are_found_without_an_import() -> None:
    assert find_version("numpy") == importlib.metadata.version("numpy")
    assert find_version("no-such-library-anywhere") is None
