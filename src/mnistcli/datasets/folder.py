"""A folder of pictures, a folder for each class, as a data set."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import FilesConfig
from mnistcli.datasets.base import SplitName
from mnistcli.datasets.image_folder import Listing, Picture, list_pictures
from mnistcli.datasets.memory_map import FoundRows, OnProgress, RowSource, load_rows
from mnistcli.errors import DataError
from mnistcli.images.decoding import decode_image, fit_image

_FORMAT = 1  # of the rows; another one where pictures are brought to their size in another way
_CHUNK = 512  # pictures decoded at a time


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder, and what they are brought to.

    Attributes:
        path: the folder.
        listing: which pictures there are.
        image_shape: of one row.
        is_given: the shape was asked for; else it is the first picture's, and must be every one's.
    """

    path: Path
    listing: Listing
    image_shape: tuple[int, ...]
    is_given: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """In class order."""
        return self.listing.class_names

    @property
    def held_out(self) -> float:
        """The share of each class that was taken for testing."""
        return self.listing.held_out

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should hear."""
        return self.listing.notes

    def count(self, split: SplitName) -> int:
        """Count the pictures of a split; 0 where it was not asked for."""
        return len(self.listing.pictures.get(split, ()))

    def read_labels(self, split: SplitName) -> NDArray[np.uint8]:
        """Return the classes of the pictures, uint8 [count]."""
        return np.array([p.label for p in self.listing.pictures[split]], np.uint8)

    def read_rows(self, split: SplitName, cache: Path, on_progress: OnProgress) -> FoundRows:
        """Return the pictures as rows, decoded now or another time; see `load_rows`.

        Raises:
            DataError: a picture is damaged, or of another size where none was given.
            ResourceError: the cache cannot be written.
        """
        pictures = self.listing.pictures[split]
        shape = (len(pictures), *self.image_shape)
        same, fitted = (self._make_key(pictures, is_given=given) for given in (False, True))
        first = next(iter(self.listing.pictures.values()))[0]
        return load_rows(
            RowSource(
                (same, fitted) if self.is_given else (same,),
                shape,
                lambda: self._decode(pictures, first.path),
            ),
            cache,
            on_progress,
        )

    def _make_key(self, pictures: Sequence[Picture], *, is_given: bool) -> str:
        """Sum up what the rows depend on: the files as the folder lists them, shape, decoder.

        Rows of pictures that all had their shape before are good for runs that ask for it too.
        """
        about = (_FORMAT, version("pillow"), self.image_shape, is_given)
        digest = hashlib.sha256(repr(about).encode())
        for picture in pictures:
            stamp = f"\0{picture.size_bytes}\0{picture.changed_ns}\0"
            digest.update(os.fsencode(picture.path) + stamp.encode())
        return digest.hexdigest()[:32]

    def _decode(self, pictures: Sequence[Picture], first: Path) -> Iterator[NDArray[np.uint8]]:
        """Decode pictures side by side, in order."""

        def read(picture: Picture) -> NDArray[np.uint8]:
            pixels = decode_image(picture.path, str(picture.path))
            if not self.is_given and pixels.shape != self.image_shape:
                raise _refuse_other_size(picture.path, pixels.shape, first, self.image_shape)
            return fit_image(pixels, self.image_shape)

        with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
            # the decoder's own way to silence warnings restores what another thread has set
            for start in range(0, len(pictures), _CHUNK):
                yield np.stack(list(pool.map(read, pictures[start : start + _CHUNK])))


def open_folder(config: FilesConfig, path: Path, splits: frozenset[SplitName]) -> PictureFolder:
    """List a folder, and look at one picture where no size is given.

    Raises:
        DataError: see `list_pictures`; or that picture is damaged.
    """
    listing = list_pictures(path, config.classes, splits)
    if config.size is not None:
        return PictureFolder(path, listing, config.size, is_given=True)
    first = next(iter(listing.pictures.values()))[0].path
    return PictureFolder(path, listing, decode_image(first, str(first)).shape, is_given=False)


def _refuse_other_size(
    path: Path, shape: tuple[int, ...], first: Path, wanted: tuple[int, ...]
) -> DataError:
    """Name two pictures that differ, and the key that brings all to one size."""
    size = ", ".join(map(str, wanted))
    what = f"it is {_describe(shape)}, and {first} is {_describe(wanted)}"
    return DataError(str(path), what, f"bring all to one size: --set dataset.size=[{size}], say")


def _describe(shape: tuple[int, ...]) -> str:
    """Write a picture's shape for people, width first."""
    return f"{shape[1]} x {shape[0]} in {'colour' if len(shape) == 3 else 'grey'}"
