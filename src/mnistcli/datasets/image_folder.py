"""Custom images: a folder with a folder for each class, or an .npz file, as a data set.

Decoded images are kept in a cache.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import FilesConfig
from mnistcli.datasets.base import (
    BOTH_SPLITS,
    Dataset,
    DatasetInfo,
    Identity,
    Split,
    SplitName,
    hash_array,
    join_hashes,
)
from mnistcli.datasets.download import OnDownload
from mnistcli.datasets.folder_listing import FolderListing, ImageFile, list_image_files
from mnistcli.datasets.memory_map import CachedRows, OnProgress, RowSource, load_rows
from mnistcli.datasets.npz import ImageArchive, open_archive
from mnistcli.errors import DataError, escape_name, make_printable, quote_words
from mnistcli.file_kinds import explain_missing
from mnistcli.images.decoding import decode_image, fit_image, open_decoded
from mnistcli.images.options import ImageKind
from mnistcli.images.preparation import read_image

_FORMAT = 1  # of the cached images: increased when images are resized in another way
_CHUNK_FILES, _CHUNK_BYTES = 512, 1 << 26  # images decoded at a time, at most
ROWS_FOLDER = "rows"


@dataclass(frozen=True)
class ImageFolder:
    """Custom images in a folder.

    Attributes:
        path: the folder.
        listing: its image files.
        image_shape: of one image.
        is_given: whether the shape is the config's; else it is that of the first image, and all
            must have it.
        image_kind: how the images are prepared: `custom` are only resized.
    """

    path: Path
    listing: FolderListing
    image_shape: tuple[int, ...]
    is_given: bool
    image_kind: ImageKind

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in class order."""
        return self.listing.class_names

    @property
    def held_out(self) -> float:
        """The fraction of each class that is held out for testing."""
        return self.listing.held_out

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages to the user."""
        return self.listing.notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of images that are missing."""
        return self.listing.warnings

    def count(self, split: SplitName) -> int:
        """Count the images of a split; 0 where it was not asked for."""
        return len(self.listing.files.get(split, ()))

    def read_labels(self, split: SplitName) -> NDArray[np.uint8]:
        """Return the classes of the images, uint8 [count]."""
        return np.array([p.label for p in self.listing.files[split]], np.uint8)

    def read_rows(self, split: SplitName, cache: Path, on_progress: OnProgress) -> CachedRows:
        """Return the images, memory-mapped in the cache; decode them if they are not there.

        Raises:
            DataError: an image is damaged, or of another size where none was given.
            ResourceError: the cache cannot be written.
        """
        files = self.listing.files[split]
        shape = (len(files), *self.image_shape)
        first = next(iter(self.listing.files.values()))[0]
        return load_rows(
            RowSource(
                self._list_keys(files),
                shape,
                lambda: self._decode(files, first.path),
            ),
            cache,
            on_progress,
        )

    def _list_keys(self, files: Sequence[ImageFile]) -> tuple[str, ...]:
        """Return the cache keys: hashes of the files as listed, the shape and the preparation.

        Images that all had their shape before are used by runs with that size in their config too.
        """
        if self.image_kind != "custom":
            return (self._make_key(files, self.image_kind),)
        same = self._make_key(files, False)
        return (same, self._make_key(files, True)) if self.is_given else (same,)

    def _make_key(self, files: Sequence[ImageFile], preparation: object) -> str:
        about = (_FORMAT, version("pillow"), self.image_shape, preparation)
        digest = hashlib.sha256(repr(about).encode())
        for file in files:
            stamp = f"\0{file.size_bytes}\0{file.changed_ns}\0"
            digest.update(os.fsencode(file.path) + stamp.encode())
        return digest.hexdigest()[:32]

    def _decode(self, files: Sequence[ImageFile], first: Path) -> Iterator[NDArray[np.uint8]]:
        """Decode images in parallel, and yield them in order."""

        def read(file: ImageFile) -> NDArray[np.uint8]:
            where = str(file.path)
            if self.image_kind != "custom":
                return read_image(file.path, where, self.image_shape, kind=self.image_kind).pixels
            with open_decoded(file.path, where) as pixels:
                if not self.is_given and pixels.shape != self.image_shape:
                    raise _make_size_error(file.path, pixels.shape, first, self.image_shape)
                return fit_image(pixels, self.image_shape)

        count = max(1, min(_CHUNK_FILES, _CHUNK_BYTES // math.prod(self.image_shape)))

        with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
            # the decoder's own way to silence warnings restores what another thread has set
            for start in range(0, len(files), count):
                yield np.stack(list(pool.map(read, files[start : start + count])))


def locate_data(config: FilesConfig) -> Path:
    """Return the absolute path of the folder or file in a config.

    Raises:
        DataError: it does not exist.
    """
    # no method of Path leaves both links and an unknown user's ~ alone
    path = Path(os.path.abspath(os.path.expanduser(config.path)))  # noqa: PTH100, PTH111
    if str(path) != escape_name(str(path)):
        raise DataError(config.path, "its name is no UTF-8 text", "rename it")
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        what = "there is no such folder or file"
        what, hint = explain_missing(config.path, what, "say where the data are with --data PATH")
        raise DataError(config.path, what, hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"cannot be read: {reason}"
        raise DataError(config.path, what, "check the path and its permissions") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        what = "neither a folder nor a file"
        raise DataError(config.path, what, "name another with --data PATH")
    return path


def get_info(config: FilesConfig) -> DatasetInfo:
    """Return the facts that a folder's listing or a file's headers tell.

    Raises:
        DataError: the data are missing or not laid out as expected.
    """
    return _make_info(_open(config, locate_data(config), BOTH_SPLITS))


def get_recorded_info(config: FilesConfig) -> DatasetInfo:
    """Return the facts in a recorded config; the images are not counted, and may be gone."""
    return DatasetInfo(
        name=config.name,
        title=_choose_title(Path(config.path)),
        image_shape=config.size or (),
        class_names=config.classes or (),
        train_count=0,
        test_count=0,
        image_kind="custom",
    )


def read_dataset(
    config: FilesConfig,
    splits: frozenset[SplitName],
    cache_directory: Path,
    on_preparation: OnDownload,
    required_arrays: Mapping[str, str] | None = None,
    image_kind: ImageKind = "custom",
) -> Dataset:
    """Read splits of custom images; they are memory-mapped and need not fit into memory.

    Args:
        config: says where they are.
        splits: the splits to read.
        cache_directory: decoded or unpacked images are kept in a folder of it.
        on_preparation: called while they are decoded or unpacked: title, bytes so far and in total.
        required_arrays: the sha256 that each array has to have, by its name; None for any. The
            labels, which names and numbers of files tell, are compared before an image is opened.
        image_kind: how pictures are prepared; arrays are used as they are.

    Raises:
        DataError: they are missing, damaged, not laid out as expected, or not those required.
        ResourceError: the cache cannot be written.
    """
    path = locate_data(config)
    source = _open(config, path, splits, image_kind)
    info, notes = _make_info(source), list(source.notes)
    read: dict[SplitName, Split] = {}
    arrays: dict[str, str] = {}
    if image_kind != "custom" and isinstance(source, ImageFolder):
        notes.append(f"pictures of {info.title} are prepared as predict does it for this network")
    made_bytes, cache = 0, cache_directory / ROWS_FOLDER
    names = sorted(splits, reverse=True)
    labels_of = {name: source.read_labels(name) for name in names}
    arrays |= {f"y_{name}": hash_array(labels_of[name]) for name in names}
    _check_arrays(path, arrays, required_arrays)
    for name in names:
        rows = source.read_rows(
            name, cache, partial(on_preparation, f"{name} split of {info.title}")
        )
        made_bytes += rows.images.nbytes if rows.is_new else 0
        read[name] = Split(rows.images, labels_of[name])
        arrays[f"x_{name}"] = rows.sha256
    _check_arrays(path, arrays, required_arrays)
    if made_bytes:
        size = f"{made_bytes / 1e6:,.1f} MB"
        notes.append(f"what was decoded of {info.title} is kept ({size}) in {cache}")
    identity = Identity(
        name=info.name,
        sha256=join_hashes(arrays),
        arrays=arrays,
        known_as=f"{info.title} ({info.name})",
        location=str(path),
        held_out=source.held_out,
    )
    return Dataset(info, identity, read, source.warnings, tuple(notes))


def _check_arrays(path: Path, found: Mapping[str, str], required: Mapping[str, str] | None) -> None:
    if required is not None and any(required.get(name) != found[name] for name in found):
        what = "not the images that the checkpoint recorded for this place"
        raise DataError(str(path), what, "name those that you mean with --data PATH")


def resolve_files_config(config: FilesConfig, dataset: Dataset) -> FilesConfig:
    """Return the config with absolute path, size and classes, so that they are found again."""
    found = {
        "path": dataset.identity.location,
        "size": dataset.info.image_shape,
        "classes": dataset.info.class_names,
    }
    return config.model_copy(update=found)


def open_folder(
    config: FilesConfig,
    path: Path,
    splits: frozenset[SplitName],
    image_kind: ImageKind = "custom",
) -> ImageFolder:
    """List a folder, and decode its first image where the config has no size.

    Raises:
        DataError: see `list_image_files`; or that image is damaged.
    """
    listing = list_image_files(path, config.classes, splits)
    if config.size is not None:
        return ImageFolder(path, listing, config.size, is_given=True, image_kind=image_kind)
    first = next(iter(listing.files.values()))[0].path
    shape = decode_image(first, str(first)).shape
    return ImageFolder(path, listing, shape, is_given=False, image_kind=image_kind)


def _open(
    config: FilesConfig, path: Path, splits: frozenset[SplitName], image_kind: ImageKind = "custom"
) -> ImageFolder | ImageArchive:
    if path.is_dir():
        return open_folder(config, path, splits, image_kind)
    return open_archive(config, path)


def _make_info(source: ImageFolder | ImageArchive) -> DatasetInfo:
    return DatasetInfo(
        name="files",
        title=_choose_title(source.path),
        image_shape=source.image_shape,
        class_names=source.class_names,
        train_count=source.count("train"),
        test_count=source.count("test"),
        image_kind="custom",
    )


def _choose_title(path: Path) -> str:
    """Return the title of custom images: the name of their folder or file."""
    return make_printable(path.stem if path.suffix == ".npz" else path.name) or str(path)


def _make_size_error(
    path: Path, shape: tuple[int, ...], first: Path, wanted: tuple[int, ...]
) -> DataError:
    size = ", ".join(map(str, wanted))
    what = f"it is {_describe(shape)}, and {first} is {_describe(wanted)}"
    flag = quote_words("--set", f"dataset.size=[{size}]")
    return DataError(str(path), what, f"bring all to one size: {flag}")


def _describe(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} in {'colour' if len(shape) == 3 else 'grey'}"
