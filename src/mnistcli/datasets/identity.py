"""Which data this is, whatever archive it came in: hashes of the arrays themselves."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import Dataset, DatasetInfo, Identity, Split, SplitName
from mnistcli.errors import escape_name

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")
"""The four named arrays, in the order in which `Identity.sha256` joins their hashes."""


def hash_splits(splits: dict[SplitName, Split]) -> dict[str, str]:
    """The sha256 hex digest of each array's bytes in C order, by array name.

    Arrays are hashed at the same time: hashlib lets go of the interpreter meanwhile.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, split in splits.items():
        arrays |= {f"x_{name}": split.images, f"y_{name}": split.labels}
    names = [name for name in ARRAY_NAMES if name in arrays]
    with ThreadPoolExecutor(max_workers=len(ARRAY_NAMES)) as pool:
        return dict(zip(names, pool.map(hash_array, (arrays[name] for name in names)), strict=True))


def join_hashes(arrays: dict[str, str]) -> str | None:
    """The data set's own sha256: over the four hex digests, `ARRAY_NAMES` order, as ASCII.

    Returns:
        The hex digest; None where one of the four was not read.
    """
    if any(name not in arrays for name in ARRAY_NAMES):
        return None
    return hashlib.sha256("".join(arrays[name] for name in ARRAY_NAMES).encode("ascii")).hexdigest()


def make_dataset(
    info: DatasetInfo,
    splits: dict[SplitName, Split],
    arrays: dict[str, str],
    location: str,
    *,
    is_canonical: bool,
) -> Dataset:
    """Join what was read with what is known of it; unknown contents come with a warning.

    Args:
        info: of the data set.
        splits: those that were read.
        arrays: their hashes, from `hash_splits`.
        location: the file or folder that was read.
        is_canonical: True where everything that was read is as published.
    """
    identity = Identity(
        name=info.name,
        sha256=join_hashes(arrays),
        arrays=arrays,
        known_as=f"canonical {info.title}" if is_canonical else None,
        location=escape_name(location),
    )
    warning = f"{location} is not canonical {info.title}: figures may differ from published ones"
    return Dataset(info, identity, splits, warnings=() if is_canonical else (warning,))


def hash_array(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
