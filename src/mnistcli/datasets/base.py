"""What a data set is, once it is in memory; and what is known of it before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SplitName = Literal["train", "test"]

WHITE = 255


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that hold wherever its files came from.

    Attributes:
        name: as in the config, `mnist` for example.
        title: as people write it, `MNIST` for example.
        image_shape: of one example: (28, 28), (32, 32, 3), or (2,) for `xor`.
        class_names: one label a class, in class order.
        train_count: number of training examples; 0 where none were counted.
        test_count: number of test examples, likewise.
        max_value: the largest that is stored, white; `unit` divides by it.
    """

    name: str
    title: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_count: int
    test_count: int
    max_value: int = WHITE

    @property
    def is_binary(self) -> bool:
        """True where one output unit decides between two classes."""
        return len(self.class_names) == 2

    def brighten(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return stored images as they are drawn, from 0 (black) to 255 (white)."""
        if self.max_value == WHITE:
            return images
        shares = np.minimum(images, self.max_value) / self.max_value
        return np.rint(shares * WHITE).astype(np.uint8)


@dataclass(frozen=True)
class Split:
    """Examples and their classes, in the order of the file.

    Attributes:
        images: uint8 [count, *image_shape], values 0 to `DatasetInfo.max_value`.
        labels: uint8 [count], class indices.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Identity:
    """Which data this is, whatever archive it came in.

    Attributes:
        name: the data set's name.
        sha256: over the hex digests of the four named arrays; null where not all were read.
        arrays: array name (x_train, y_train, x_test, y_test) to the sha256 of its bytes
            in C order; only those that were read.
        known_as: "canonical MNIST" for example; null for contents that nobody has named.
        location: the file or folder that was read, or how it was made.
        held_out: the share of each class that was taken for testing where the files themselves
            do not say what is for testing; 0 where they do.
    """

    name: str
    sha256: str | None
    arrays: dict[str, str]
    known_as: str | None
    location: str
    held_out: float = 0.0


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
        info: what holds for every copy of it.
        identity: what holds for this copy.
        splits: those that were asked for.
        warnings: what the user should hear about this copy; one line each.
        notes: what is good to know and no reason to worry, likewise.
    """

    info: DatasetInfo
    identity: Identity
    splits: dict[SplitName, Split]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Split:
        """The training set; KeyError where it was not asked for."""
        return self.splits["train"]

    @property
    def test(self) -> Split:
        """The test set; KeyError where it was not asked for."""
        return self.splits["test"]
