"""The embedded data set: digits that the tool draws itself, kept in a cache once drawn.

What they are worth (generator 1): an MLP of 128 units, trained for 5 epochs on them alone,
classifies 89 % of MNIST's 60,000 training images correctly; none of MNIST's is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import Dataset, DatasetInfo, Identity, Split, SplitName
from mnistcli.datasets.drawing import FRAME_SIZE, GENERATOR_VERSION, draw_digits
from mnistcli.datasets.identity import hash_splits

__all__ = ["GENERATOR_VERSION", "INFO", "SEED", "draw_digits", "read_dataset"]

SEED: int = 0
"""The data set is one and the same for everybody; an experiment's seed does not touch it."""

INFO = DatasetInfo(
    name="synthetic",
    title="synthetic digits",
    image_shape=(FRAME_SIZE, FRAME_SIZE),
    class_names=tuple(str(digit) for digit in range(10)),
    train_count=10_000,
    test_count=2_000,
)

_COUNTS: dict[SplitName, int] = {"train": INFO.train_count, "test": INFO.test_count}


def read_dataset(splits: frozenset[SplitName], cache_directory: Path) -> Dataset:
    """Read the synthetic digits from the cache, or draw them and keep them there.

    Classes are balanced and in random order; the splits come from different random streams.
    A cache that is missing or damaged is drawn anew, one that cannot be written is done without.

    Args:
        splits: which splits to return.
        cache_directory: where the cache file is or will be; made where it does not exist.

    Returns:
        Images uint8 [10000 or 2000, 28, 28], white (255) on black (0); labels uint8 [count],
        0 to 9. `identity.sha256` stands for generator version and seed, because the bits of
        drawn pixels may differ between processors; `identity.arrays` has the pixels' own hashes.
    """
    path = cache_directory / f"synthetic-generator{GENERATOR_VERSION}-seed{SEED}.npz"
    read = _read_cache(path, splits)
    if read is None:
        drawn = {name: _draw_split(name) for name in _COUNTS}
        _write_cache(path, drawn)
        read = {name: drawn[name] for name in drawn if name in splits}
    return Dataset(info=INFO, identity=_identify(read), splits=read)


def _draw_split(name: SplitName) -> Split:
    """Draw a split from its own random stream, so that neither depends on the other's size."""
    generator = np.random.default_rng([GENERATOR_VERSION, SEED, list(_COUNTS).index(name)])
    class_count = len(INFO.class_names)
    labels = np.repeat(np.arange(class_count, dtype=np.uint8), _COUNTS[name] // class_count)
    generator.shuffle(labels)
    return Split(draw_digits(labels, generator), labels)


def _identify(splits: dict[SplitName, Split]) -> Identity:
    """Name the generator, and record what it drew here."""
    generator = f"generator {GENERATOR_VERSION} seed {SEED}"
    return Identity(
        name=INFO.name,
        sha256=hashlib.sha256(f"{INFO.name} {generator}".encode()).hexdigest(),
        arrays=hash_splits(splits),
        known_as=f"{INFO.title}, generator {GENERATOR_VERSION}, seed {SEED}",
        location="drawn by mnistcli",
    )


def _name_arrays(splits: dict[SplitName, Split]) -> dict[str, NDArray[np.uint8]]:
    """Give arrays the names that they have in `mnist.npz`."""
    images = {f"x_{name}": split.images for name, split in splits.items()}
    return images | {f"y_{name}": split.labels for name, split in splits.items()}


def _read_cache(path: Path, splits: frozenset[SplitName]) -> dict[SplitName, Split] | None:
    """The splits, or None where the file is missing or anything about it is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read_split(archive, name) for name in _COUNTS if name in splits}
    # What zipfile raises for damage, by what is damaged; RuntimeError is a flag that says
    # "encrypted", or a compression that does not exist.
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _read_split(archive: zipfile.ZipFile, name: SplitName) -> Split:
    """Read a split; ValueError where it is not what the generator writes."""
    images, labels = _read_array(archive, f"x_{name}"), _read_array(archive, f"y_{name}")
    count = _COUNTS[name]
    if images.shape != (count, *INFO.image_shape) or labels.shape != (count,):
        raise ValueError(f"shapes {images.shape} and {labels.shape} in the cache")
    if images.dtype != np.uint8 or labels.dtype != np.uint8:
        raise ValueError(f"dtypes {images.dtype} and {labels.dtype} in the cache")
    return Split(images, labels)


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    """Read one array; its checksum is verified before NumPy parses a byte of it."""
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: NDArray[np.uint8] = np.load(content, allow_pickle=False)
    return array


def _write_cache(path: Path, splits: dict[SplitName, Split]) -> None:
    """Keep what was drawn; the cache only saves time, so that failing to write it is no failure."""
    content = io.BytesIO()
    np.savez(content, **_name_arrays(splits))  # type: ignore[arg-type]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content.getbuffer())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
