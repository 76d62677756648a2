"""The synthetic digits: their statistics, a classifier trained on them, and their cache."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistcli.datasets.base import Dataset, SplitName
from mnistcli.datasets.synthetic import (
    GENERATOR_VERSION,
    INFO,
    SKELETONS,
    draw_digits,
    read_dataset,
)

BOTH: frozenset[SplitName] = frozenset({"train", "test"})
CACHE_NAME = "synthetic-generator1-seed0.npz"
ONE_OF_EACH = np.arange(10, dtype=np.uint8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "on" / "demand"


@pytest.fixture(scope="module")
def drawn(cache: Path) -> Dataset:
    return read_dataset(BOTH, cache)


@pytest.fixture(scope="module")
def real_training_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    path = Path(os.environ.get("MNISTCLI_DATA_DIR", "")) / "mnist.npz"
    if not path.is_file():
        pytest.skip("needs mnist.npz in the folder that MNISTCLI_DATA_DIR names")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["x_train"], arrays["y_train"]


def assert_same_digits(left: Dataset, right: Dataset) -> None:
    assert left.identity == right.identity
    for name in BOTH:
        np.testing.assert_array_equal(left.splits[name].images, right.splits[name].images)
        np.testing.assert_array_equal(left.splits[name].labels, right.splits[name].labels)


def find_mass_centres(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    weights = images / images.sum(axis=(1, 2), keepdims=True)
    pixels = np.arange(28)
    return np.stack([weights.sum(axis=2) @ pixels, weights.sum(axis=1) @ pixels], axis=1)


def measure_boxes(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Height and width of what is not black, [n, 2]."""
    sides = []
    for axis in (2, 1):
        inked = images.max(axis=axis) > 0
        sides.append(28 - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1))
    return np.stack(sides, axis=1)


def test_there_are_10000_training_and_2000_test_digits_balanced_and_shuffled(
    drawn: Dataset,
) -> None:
    assert drawn.info == INFO
    assert drawn.train.images.shape == (10_000, 28, 28)
    assert drawn.test.images.shape == (2_000, 28, 28)
    assert drawn.train.images.dtype == drawn.train.labels.dtype == np.uint8
    assert drawn.test.images.dtype == drawn.test.labels.dtype == np.uint8
    assert np.bincount(drawn.train.labels).tolist() == [1000] * 10
    assert np.bincount(drawn.test.labels).tolist() == [200] * 10
    for split in (drawn.train, drawn.test):
        # A shuffled label equals its successor about one time in ten; a sorted one always.
        assert np.mean(split.labels[1:] == split.labels[:-1]) < 0.15


def test_no_digit_is_drawn_twice_within_or_across_the_splits(drawn: Dataset) -> None:
    images = np.concatenate([drawn.train.images, drawn.test.images])
    assert len({image.tobytes() for image in images}) == 12_000


def test_digits_are_framed_as_mnist_frames_them(drawn: Dataset) -> None:
    images = np.concatenate([drawn.train.images, drawn.test.images])
    heights_and_widths = measure_boxes(images)
    assert heights_and_widths.max() == 20
    assert np.mean(heights_and_widths.max(axis=1) >= 19) > 0.99
    distances = np.abs(find_mass_centres(images) - 14).max(axis=1)
    assert distances.max() < 1.5
    assert np.mean(distances <= 0.5) > 0.999


def test_grey_values_are_those_of_mnist_training_images(drawn: Dataset) -> None:
    images = drawn.train.images
    assert images.mean() == pytest.approx(33.3, abs=1.5)
    assert np.mean(images > 0) == pytest.approx(0.191, abs=0.01)
    assert np.mean(images[images > 0] >= 250) == pytest.approx(0.385, abs=0.03)


def test_the_generator_alone_decides_what_is_drawn() -> None:
    digits = np.repeat(ONE_OF_EACH, 30)
    first = draw_digits(digits, np.random.default_rng(7))
    np.testing.assert_array_equal(draw_digits(digits, np.random.default_rng(7)), first)
    other = draw_digits(digits, np.random.default_rng(8))
    assert not np.any(np.all(first == other, axis=(1, 2)))


def test_images_stand_in_the_order_of_the_digits() -> None:
    generator = np.random.default_rng(0)
    digits = generator.integers(0, 2, 400, dtype=np.uint8)
    middle = draw_digits(digits, generator)[:, 12:16, 12:16].max(axis=(1, 2))
    # The middle of a 0 is empty but for a few thick ones; a 1 has its ink there.
    assert np.mean(middle[digits == 0] > 128) < 0.3
    assert np.mean(middle[digits == 1] > 128) > 0.95


def test_drawing_nothing_gives_no_images() -> None:
    nothing = np.empty(0, dtype=np.uint8)
    assert draw_digits(nothing, np.random.default_rng(0)).shape == (0, 28, 28)


def test_a_digit_above_nine_is_refused() -> None:
    with pytest.raises(ValueError, match="received: 10"):
        draw_digits(np.array([3, 10], dtype=np.uint8), np.random.default_rng(0))


def test_people_write_each_digit_in_several_ways_that_pass_through_their_points() -> None:
    for ways in SKELETONS:
        assert len(ways) >= 4
        for skeleton in ways:
            np.testing.assert_allclose(skeleton.segment_ends.sum(axis=1), 1)
            curve = skeleton.segment_ends @ skeleton.control_points
            for point in skeleton.control_points:
                assert np.linalg.norm(curve - point, axis=1).min() < 1e-12


def test_identity_is_the_generators_and_records_what_was_drawn(drawn: Dataset) -> None:
    identity = drawn.identity
    assert GENERATOR_VERSION == 1
    assert identity.name == "synthetic"
    assert identity.known_as == "synthetic digits, generator 1, seed 0"
    assert identity.location == "drawn by mnistcli"
    assert identity.sha256 == hashlib.sha256(b"synthetic generator 1 seed 0").hexdigest()
    assert identity.arrays == {
        "x_train": hashlib.sha256(drawn.train.images.tobytes()).hexdigest(),
        "y_train": hashlib.sha256(drawn.train.labels.tobytes()).hexdigest(),
        "x_test": hashlib.sha256(drawn.test.images.tobytes()).hexdigest(),
        "y_test": hashlib.sha256(drawn.test.labels.tobytes()).hexdigest(),
    }


def test_a_cached_data_set_is_read_and_not_drawn_again(drawn: Dataset, cache: Path) -> None:
    before = (cache / CACHE_NAME).stat()
    assert_same_digits(read_dataset(BOTH, cache), drawn)
    after = (cache / CACHE_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [path.name for path in cache.iterdir()] == [CACHE_NAME]


def test_only_the_split_that_was_asked_for_is_returned_and_hashed(
    drawn: Dataset, cache: Path, tmp_path: Path
) -> None:
    for directory in (cache, tmp_path):
        alone = read_dataset(frozenset({"test"}), directory)
        assert set(alone.splits) == {"test"}
        np.testing.assert_array_equal(alone.test.images, drawn.test.images)
        assert set(alone.identity.arrays) == {"x_test", "y_test"}
        assert alone.identity.sha256 == drawn.identity.sha256


def damage_one_pixel(cached: bytes) -> bytes:
    return cached[:5_000_000] + bytes([cached[5_000_000] ^ 1]) + cached[5_000_001:]


def truncate(cached: bytes) -> bytes:
    return cached[: len(cached) // 2]


@pytest.mark.parametrize("damage", [damage_one_pixel, truncate])
def test_a_damaged_cache_is_drawn_anew_and_replaced(
    damage: Callable[[bytes], bytes], drawn: Dataset, cache: Path, tmp_path: Path
) -> None:
    good = (cache / CACHE_NAME).read_bytes()
    (tmp_path / CACHE_NAME).write_bytes(damage(good))
    assert_same_digits(read_dataset(BOTH, tmp_path), drawn)
    assert (tmp_path / CACHE_NAME).stat().st_size == len(good)
    assert_same_digits(read_dataset(BOTH, tmp_path), drawn)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_test": np.zeros((2_000, 28, 28), np.uint8)},
        {"x_test": np.zeros((5, 28, 28), np.uint8), "y_test": np.zeros(5, np.uint8)},
        {"x_test": np.zeros((2_000, 28, 28)), "y_test": np.zeros(2_000, np.uint8)},
        {"x_test": np.array([None]), "y_test": np.zeros(2_000, np.uint8)},
    ],
    ids=["array missing", "other count", "other dtype", "pickled objects"],
)
def test_a_cache_with_other_contents_is_drawn_anew(
    arrays: dict[str, NDArray[np.generic]], drawn: Dataset, tmp_path: Path
) -> None:
    np.savez(tmp_path / CACHE_NAME, **arrays)  # type: ignore[arg-type]
    read = read_dataset(frozenset({"test"}), tmp_path)
    np.testing.assert_array_equal(read.test.images, drawn.test.images)


def test_a_directory_that_cannot_hold_the_cache_is_done_without(
    drawn: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert_same_digits(read_dataset(BOTH, file / "cache"), drawn)

    occupied = tmp_path / "occupied"
    (occupied / CACHE_NAME).mkdir(parents=True)
    assert_same_digits(read_dataset(BOTH, occupied), drawn)
    assert [path.name for path in occupied.iterdir()] == [CACHE_NAME]


def test_a_cache_that_cannot_be_written_whole_leaves_nothing_behind(
    drawn: Dataset, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        read = read_dataset(BOTH, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same_digits(read, drawn)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_start_together_share_one_whole_cache(drawn: Dataset, tmp_path: Path) -> None:
    read: list[Dataset] = []
    runs = [
        threading.Thread(target=lambda: read.append(read_dataset(BOTH, tmp_path))) for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(read) == 3
    for dataset in [*read, read_dataset(BOTH, tmp_path)]:
        assert_same_digits(dataset, drawn)
    assert [path.name for path in tmp_path.iterdir()] == [CACHE_NAME]


def fit_ridge_regression(
    images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> NDArray[np.floating]:
    inputs = images.reshape(-1, 784) / 255
    targets = np.eye(10)[labels] - 0.1
    return np.linalg.solve(inputs.T @ inputs + 100 * np.eye(784), inputs.T @ targets)


def test_a_linear_classifier_learns_real_digits_from_drawn_ones(
    drawn: Dataset, real_training_digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    """Ridge regression on 10,000 real digits scores 0.84 here, on ours 0.78, by chance 0.1."""
    images, labels = real_training_digits
    weights = fit_ridge_regression(drawn.train.images, drawn.train.labels)
    predicted = (images.reshape(-1, 784) / 255 @ weights).argmax(axis=1)
    assert np.mean(predicted == labels) > 0.76
    recall = [np.mean(predicted[labels == digit] == digit) for digit in range(10)]
    assert min(recall) > 0.45
