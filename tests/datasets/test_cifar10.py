"""CIFAR-10 from folders and archives; damaged and malicious pickles."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from helpers.dataset_files import (
    BATCH_NAMES,
    CIFAR_FOLDER,
    Call,
    archive_batches,
    make_batch,
    pickle_as_python_2,
    write_batches,
)  # fmt: skip
from mnistcli.datasets import cifar10
from mnistcli.datasets.cifar10 import find_files, read_dataset, unpickle_batch
from mnistcli.errors import DataError

BOTH = frozenset({"train", "test"})


def assert_holds_batches(path: Path) -> None:
    dataset = read_dataset(path, BOTH)
    assert dataset.train.images.shape == (10, 32, 32, 3)
    assert dataset.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert dataset.train.images[::2, 31, 31].tolist() == [[10 + n, 100, 200] for n in range(5)]
    assert dataset.test.images[0, 0, 0].tolist() == [15, 100, 200]
    red_green_blue = [32 + 1, (1024 + 32 + 1) % 256, (2048 + 32 + 1) % 256]
    assert dataset.test.images[1, 1, 1].tolist() == red_green_blue
    assert dataset.test.labels.tolist() == [5, 9]
    assert dataset.test.images.dtype == dataset.test.labels.dtype == np.uint8


@pytest.mark.parametrize("folder", [".", CIFAR_FOLDER, f"{CIFAR_FOLDER}-target/{CIFAR_FOLDER}"])
def test_a_folder_of_batches_is_found_and_read(tmp_path: Path, folder: str) -> None:
    write_batches(tmp_path / folder)
    assert find_files(tmp_path) == tmp_path / folder
    assert_holds_batches(tmp_path / folder)


@pytest.mark.parametrize(
    "name", ["cifar-10-python.tar.gz", f"{CIFAR_FOLDER}.tar.gz", f"{CIFAR_FOLDER}-target_archive"]
)
def test_an_archive_is_read_without_being_extracted(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    archive_batches(tmp_path / "data" / name, write_batches(tmp_path / "batches"))
    assert find_files(tmp_path / "data") == tmp_path / "data" / name
    assert_holds_batches(tmp_path / "data" / name)
    assert list((tmp_path / "data").iterdir()) == [tmp_path / "data" / name]


def test_an_archive_that_a_browser_has_unpacked_is_read(tmp_path: Path) -> None:
    path = archive_batches(tmp_path / "cifar-10-python.tar.gz", write_batches(tmp_path / "b"))
    path.write_bytes(gzip.decompress(path.read_bytes()))
    assert_holds_batches(path)


def test_folder_and_archive_have_the_same_identity(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / CIFAR_FOLDER)
    from_folder = read_dataset(folder, BOTH)
    from_archive = read_dataset(archive_batches(tmp_path / "c.tar.gz", folder), BOTH)
    assert from_folder.identity.sha256 is not None
    assert from_folder.identity.sha256 == from_archive.identity.sha256
    assert from_folder.identity.known_as is None
    assert from_folder.warnings == (
        f"{folder} is not canonical CIFAR-10: figures may differ from published ones",
    )


def test_the_test_split_needs_only_its_own_batch(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / CIFAR_FOLDER)
    for name in BATCH_NAMES[:5]:
        (folder / name).unlink()
    dataset = read_dataset(folder, frozenset({"test"}))
    assert list(dataset.identity.arrays) == ["x_test", "y_test"]
    assert dataset.identity.sha256 is None
    with pytest.raises(DataError, match="data_batch_1: is missing beside the other files"):
        read_dataset(folder, BOTH)


def test_published_checksums_name_the_contents_and_end_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_batches(tmp_path / CIFAR_FOLDER)
    (folder / "the rest").write_bytes(os.urandom(4 * 10**6))
    archive = archive_batches(tmp_path / "c.tar.gz", folder)
    break_checksum(archive)  # at the archive's end, which nobody needs to see
    with pytest.raises(DataError, match="CRC check failed"):
        read_dataset(archive, BOTH)
    for name in BATCH_NAMES:
        md5 = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(cifar10._CANONICAL_MD5, name, md5)
    for path in (folder, archive):
        dataset = read_dataset(path, BOTH)
        assert dataset.identity.known_as == "canonical CIFAR-10"
        assert dataset.warnings == ()
    (folder / "test_batch").write_bytes(pickle_as_python_2(make_batch(0)))
    assert read_dataset(folder, frozenset({"train"})).identity.known_as == "canonical CIFAR-10"
    assert read_dataset(folder, BOTH).identity.known_as is None


@pytest.mark.parametrize("protocol", range(6))
def test_batches_of_every_protocol_of_pickle_are_read(tmp_path: Path, protocol: int) -> None:
    batch = {"data": make_batch(5)[b"data"], "labels": np.array([5, 9])}
    written = [pickle.dumps(batch | {"data": x}, protocol)
               for x in (batch["data"], np.asfortranarray(batch["data"]))]  # fmt: skip
    written += [pickle.dumps(make_batch(5), protocol)]
    written += [pickle.dumps(batch | {"labels": list(batch["labels"])}, protocol)]
    written += [pickle_as_python_2(make_batch(5), protocol)] if protocol < 3 else []
    for contents in written:
        read = unpickle_batch(tmp_path, contents)
        assert np.array_equal(read.data, batch["data"])
        assert read.labels.tolist() == [5, 9]


def change_batch(**changes: object) -> bytes:
    batch = make_batch(0) | {key.encode(): value for key, value in changes.items()}
    return pickle_as_python_2(batch)


def make_deep_key() -> bytes:
    """A dict whose key is a tuple in a tuple in a tuple …: hashing it would end the process."""
    return b"\x80\x02})" + pickle.TUPLE1 * 200_000 + pickle.NONE + pickle.SETITEM + pickle.STOP


def make_blown_up_bytes() -> bytes:
    """One text, encoded again and again: 8 bytes of pickle for each 100 kB of memory."""
    encode = b"c_codecs\nencode\nq\0X" + struct.pack("<I", 10**5) + b"a" * 10**5 + b"q\1"
    again = b"h\0h\1" + b"X\6\0\0\0latin1" + pickle.TUPLE2 + pickle.REDUCE
    return b"\x80\x02" + encode + again * 10**4 + pickle.STOP


IMAGES = make_batch(0)[b"data"]
HOSTILE = {
    "empty": (b"", "is not a pickled batch, or is damaged (EOFError"),
    "no pickle": (b"<html>404</html>", "is an HTML page"),
    "cut short": (change_batch()[:-500], "is not a pickled batch, or is damaged"),
    "a command": (
        pickle.dumps({b"data": Call(os.system, "touch pwned")}, 2),
        "it refers to posix.system, which no batch needs",
    ),
    "eval": (
        pickle.dumps({b"data": Call(eval, "1")}, 2),
        "it refers to __builtin__.eval, which no batch needs",
    ),
    "NumPy's way to code": (
        b"\x80\x02cnumpy.f2py.crackfortran\nmyeval\n.",
        "it refers to numpy.f2py.crackfortran.myeval, which no batch needs",
    ),
    "an attribute set on a function": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\1\0\0\0ac_codecs\nencode\nsb.",
        "it sets the state of something that is no array",
    ),
    "a memo index that would fill the memory": (
        b"\x80\x02}r\xff\xff\xff\xff.",
        "holds no data",
    ),
    "a length that would fill the memory": (
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
        "is not a pickled batch",
    ),
    "labels that are measured": (
        pickle.dumps({b"data": IMAGES, b"labels": [np.float64(1), np.float64(2)]}, 2),
        "is not a pickled batch, or is damaged (ValueError: its dtype is another one)",
    ),
    "a key that cannot be one": (b"(](I1\nd.", "is not a pickled batch, or is damaged"),
    "a million lines": (
        b"(" + b"I1\n" * 10**6 + b"l.",
        "it has more instructions than any batch",
    ),
    "an array of protocol 5 in an order of its own": (
        pickle.dumps({b"data": IMAGES.reshape(2, 2, 1536).transpose(1, 0, 2)}, 5),
        "its data are no array of integers (an order of axes that no batch has)",
    ),
    "bytes blown up": (make_blown_up_bytes(), "bytes that are not written as NumPy writes them"),
    "a deep key": (make_deep_key(), "it has a key that is no string"),
    "a million dicts": (
        b"\x80\x02" + pickle.EMPTY_DICT * 10**6 + pickle.STOP,
        "it has more instructions than any batch",
    ),
    "a million dicts in a frame": (
        b"\x80\x04\x95" + struct.pack("<Q", 10**6) + pickle.EMPTY_DICT * 10**6 + pickle.STOP,
        "it has more instructions than any batch",
    ),
    "an array of very many axes": (
        change_batch(data=np.zeros((2, *[1] * 9), dtype=np.uint8)),
        "its data are no array of integers (an impossible shape)",
    ),
    "a list": (pickle.dumps([1, 2], 2), "is a pickle, but not of a batch"),
    "no labels": (pickle.dumps({b"data": IMAGES}, 2), "holds no labels"),
    "objects": (
        change_batch(data=np.array([[None] * 3072], dtype=object)),
        "its data are no array of integers (its dtype is another one)",
    ),
    "floats": (
        change_batch(data=np.zeros((2, 3072), dtype=np.float32)),
        "its data are no array of integers (its dtype is another one)",
    ),
    "wide integers": (
        change_batch(data=np.zeros((2, 3072), dtype=np.int16)),
        "x_train has dtype int16, not uint8",
    ),
    "a dtype that NumPy would evaluate": (
        change_batch().replace(b"X\1\0\0\0|", b"X\1\0\0\0,"),
        "its data are no array of integers (its dtype is another one)",
    ),
    "a shape larger than its bytes": (
        change_batch().replace(b"K\x02M\x00\x0c", b"K\xffM\x00\x0c"),
        "fewer or more bytes than its shape says",
    ),
    "grey images": (
        change_batch(data=np.zeros((2, 1024), dtype=np.uint8)),
        "its data have shape (2, 1024), not (count, 3072)",
    ),
    "labels that are text": (
        change_batch(labels=[b"cat", b"dog"]),
        "its labels are neither an array nor a list of integers",
    ),
    "labels that are true": (
        change_batch(labels=[True, False]),
        "its labels are neither an array nor a list of integers",
    ),
    "labels of CIFAR-100": (
        change_batch(labels=[3, 99]),
        "y_train holds the label 99; classes are 0 to 9",
    ),
    "a label of 2000 bits": (
        change_batch(labels=[3, 2**2000]),
        "its labels hold impossible numbers",
    ),
    "too few labels": (change_batch(labels=[3]), "x_train has 2 images, y_train 1 label"),
    "no images": (
        change_batch(data=np.zeros((0, 3072), dtype=np.uint8), labels=[]),
        "x_train is empty",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_batch_is_named_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    contents, what = HOSTILE[kind]
    folder = write_batches(tmp_path / CIFAR_FOLDER)
    (folder / "data_batch_3").write_bytes(contents)
    with pytest.raises(DataError) as caught:
        read_dataset(folder, BOTH)
    assert caught.value.where == str(folder / "data_batch_3")
    assert what in caught.value.what
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "data_batch_3").read_bytes() == contents


def test_a_batch_larger_than_any_is_not_opened(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / CIFAR_FOLDER)
    os.truncate(folder / "test_batch", 10**9)
    with pytest.raises(
        DataError, match="test_batch: has 1000000000 bytes, more than the 134217728"
    ):
        read_dataset(folder, BOTH)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def break_checksum(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))


def leave_out_batch_4(path: Path) -> None:
    (path.parent / "batches" / "data_batch_4").unlink()
    archive_batches(path, path.parent / "batches")


def link_batch_4(path: Path) -> None:
    """A link out of the archive is not followed."""
    batch = path.parent / "batches" / "data_batch_4"
    batch.unlink()
    batch.symlink_to("/etc/hostname")
    archive_batches(path, path.parent / "batches")


def claim_huge_batch(path: Path) -> None:
    member = tarfile.TarInfo(f"{CIFAR_FOLDER}/test_batch")
    member.size = 10**12
    path.write_bytes(gzip.compress(member.tobuf() + bytes(10**6)))


def claim_huge_header(path: Path) -> None:
    """A name of 1 GB, which tarfile would read whole."""
    member = tarfile.TarInfo("name")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 10**9
    zeros = gzip.compress(bytes(10**8), compresslevel=1)  # members of a gzip file follow each other
    path.write_bytes(gzip.compress(member.tobuf()) + zeros * 10)


DAMAGED_ARCHIVES = {
    "cut short": (shorten, "is damaged or incomplete"),
    "a wrong checksum": (break_checksum, "is damaged or incomplete (CRC check failed"),
    "no gzip": (lambda path: path.write_text("<html>"), "is an HTML page"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged or incomplete"),
    "no tar": (lambda path: path.write_bytes(gzip.compress(b"text" * 500)), "is damaged or"),
    "missing batch": (leave_out_batch_4, "holds no cifar-10-batches-py/data_batch_4"),
    "linked batch": (link_batch_4, "holds no cifar-10-batches-py/data_batch_4"),
    "huge batch": (
        claim_huge_batch,
        "cifar-10-batches-py/test_batch has 1000000000000 bytes, 134217728 allowed",
    ),
    "huge header": (claim_huge_header, "it inflates to more than 268435456 bytes"),
}


@pytest.mark.parametrize("kind", DAMAGED_ARCHIVES)
def test_a_damaged_archive_is_named(tmp_path: Path, kind: str) -> None:
    damage, what = DAMAGED_ARCHIVES[kind]
    path = tmp_path / "cifar-10-python.tar.gz"
    archive_batches(path, write_batches(tmp_path / "batches"))
    damage(path)
    with pytest.raises(DataError) as caught:
        read_dataset(path, BOTH)
    assert caught.value.where == str(path)
    assert what in caught.value.what
    assert path.exists()
