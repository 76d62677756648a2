"""Custom images: the rows of a folder, its identity, and what is refused."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.commands import run_python_command
from helpers.custom_images import make_square, write_picture, write_squares
from helpers.dataset_files import npy, write_members
from mnistcli.config.schema import FilesConfig
from mnistcli.datasets import image_folder
from mnistcli.datasets.base import Dataset, SplitName, split_validation
from mnistcli.datasets.folder_listing import list_image_files
from mnistcli.datasets.memory_map import find_mmap
from mnistcli.errors import DataError, ResourceError
from mnistcli.models.input_scaling import fit_preprocessing

BOTH: frozenset[SplitName] = frozenset({"train", "test"})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def read(path: Path, **keys: object) -> Dataset:
    config = FilesConfig.model_validate({"name": "files", "path": str(path), **keys})
    return image_folder.read_dataset(config, BOTH, path.parent / "cache", lambda *_: None)


def test_pictures_are_rows_in_the_order_of_their_names(tmp_path: Path) -> None:
    dataset = read(write_squares(tmp_path / "pets"))

    expected = np.stack([make_square(level) for level in (1, 2, 3, 101, 102)])
    np.testing.assert_array_equal(dataset.train.images, expected)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(dataset.test.images[1], make_square(103))
    assert (dataset.info.title, dataset.info.class_names) == ("pets", ("cat", "dog"))
    assert (dataset.info.train_count, dataset.info.test_count) == (5, 2)
    arrays = dataset.identity.arrays
    assert arrays["x_train"] == hashlib.sha256(expected.tobytes()).hexdigest()
    assert dataset.identity.held_out == 0.0

    swapped = read(tmp_path / "pets", classes=["dog", "cat"])
    assert swapped.train.labels.tolist() == [1, 1, 1, 0, 0]
    assert swapped.identity.arrays["x_train"] == arrays["x_train"]
    assert swapped.identity.sha256 != dataset.identity.sha256


def test_an_archive_with_the_same_arrays_is_the_same_data(tmp_path: Path) -> None:
    folder = read(write_squares(tmp_path / "pets"))
    parts = {f"x_{n}": folder.splits[n].images for n in BOTH}
    parts |= {f"y_{n}": folder.splits[n].labels for n in BOTH}
    np.savez(tmp_path / "stored.npz", **parts)
    wide = {
        name: a.astype(np.int64) if name[0] == "y" else a[..., None] for name, a in parts.items()
    }
    np.savez_compressed(tmp_path / "small.npz", **wide)

    stored, small = read(tmp_path / "stored.npz"), read(tmp_path / "small.npz")
    assert stored.identity.sha256 == small.identity.sha256 == folder.identity.sha256
    assert stored.info.class_names == ("0", "1")
    assert small.info.image_shape == (4, 6)
    for dataset in (folder, stored, small):
        assert find_mmap(dataset.train.images) is not None  # they need not fit into memory
    assert not stored.notes
    assert "is kept" in small.notes[-1]


def test_pictures_are_brought_to_a_size(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "pets")
    wide = make_square(40, 9, 20, colour=True)
    write_picture(root / "train/cat/wide.png", wide)
    turned = Image.fromarray(make_square(60, 6, 4))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(root / "train/cat/turned.png", exif=exif)

    dataset = read(root, size=[4, 6, 3])
    assert dataset.train.images.shape == (7, 4, 6, 3)
    grey = np.repeat(make_square(1)[..., None], 3, axis=2)
    np.testing.assert_array_equal(dataset.train.images[0], grey)  # not resampled
    np.testing.assert_array_equal(
        dataset.train.images[4],
        np.asarray(Image.fromarray(wide).resize((6, 4), Image.Resampling.LANCZOS)),
    )
    upright = np.asarray(turned.transpose(Image.Transpose.ROTATE_270).convert("RGB"))
    np.testing.assert_array_equal(dataset.train.images[3], upright)

    with pytest.raises(DataError) as caught:
        read(root)
    assert "wide.png: it is 20 x 9 in colour, and " in str(caught.value)
    assert "1.png is 6 x 4 in grey. Bring all to one size: --set 'dataset.size=[4, 6]'" in str(
        caught.value
    )


def test_a_fifth_is_held_out_by_name_where_nothing_says_what_is_for_testing(
    tmp_path: Path,
) -> None:
    for name in ("cat", "dog"):
        for number in range(10):
            write_picture(tmp_path / "pets" / name / f"{number}.png", make_square(number))
    listing = list_image_files(tmp_path / "pets", None, BOTH)
    held_out = [p.path.name for p in listing.files["test"]]
    assert held_out == ["0.png", "6.png"] * 2
    assert len(listing.files["train"]) == 16

    write_picture(tmp_path / "pets/cat/new.png", make_square(99))
    again = list_image_files(tmp_path / "pets", None, BOTH)
    assert [p.path.name for p in again.files["test"]] == held_out  # one more moves none
    dataset = read(tmp_path / "pets")
    assert dataset.identity.held_out == 0.2
    assert "a fifth of each class, chosen by file name" in dataset.notes[0]


def test_rows_are_kept_and_made_again_where_they_are_damaged_or_the_pictures_changed(
    tmp_path: Path,
) -> None:
    root, rows = write_squares(tmp_path / "pets"), tmp_path / "cache" / "rows"
    first = read(root)
    kept = sorted(rows.iterdir())
    assert len(kept) == 2
    assert "is kept" in first.notes[0]
    np.testing.assert_array_equal(np.load(kept[0]), np.load(kept[0], mmap_mode="r"))

    sized = read(root, size=[4, 6])  # as a resumed run asks
    assert not sized.notes
    assert sorted(rows.iterdir()) == kept

    for path in kept:
        contents = bytearray(path.read_bytes())
        contents[-1] ^= 1
        path.write_bytes(contents)
    mended = read(root)
    assert mended.identity == first.identity
    assert sorted(rows.iterdir()) == kept

    write_picture(root / "train/cat/1.png", make_square(7))
    changed = read(root)
    assert changed.identity.sha256 != first.identity.sha256
    np.testing.assert_array_equal(changed.train.images[0], make_square(7))

    old = next(p for p in kept if p.stem.endswith(first.identity.arrays["x_train"]))
    os.utime(old, (0, 0))
    unfinished = rows / f".{old.stem[:32]}.mnistcli-abcdefgh.tmp"
    unfinished.touch()
    os.utime(unfinished, (0, 0))
    write_picture(root / "train/cat/1.png", make_square(8))
    read(root)
    assert not {old, unfinished} & set(rows.iterdir())


def test_parts_and_statistics_of_mapped_rows_are_those_of_rows_in_memory(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for level in range(40):
        write_picture(root / f"train/{'ab'[level % 2]}/{level}.png", make_square(level))
        write_picture(root / f"test/{'ab'[level % 2]}/{level}.png", make_square(level))
    mapped = read(root).train
    loaded = replace(mapped, images=np.array(mapped.images))
    parts = zip(split_validation(mapped, 0.3, 1), split_validation(loaded, 0.3, 1), strict=True)
    for one, other in parts:
        np.testing.assert_array_equal(one.images, other.images)
        assert find_mmap(one.images) is not None
        assert find_mmap(other.images) is None
    assert fit_preprocessing("standard", mapped.images, 255) == fit_preprocessing(
        "standard", loaded.images, 255
    )


def remove(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for path in sorted((root / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (root / name).rmdir()

    return change


def write(name: str, contents: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(contents)

    return change


def truncate(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    write_picture(root / "train/dog/102.png", noise)
    path = root / "train/dog/102.png"
    path.write_bytes(path.read_bytes()[:900])


def link_to_itself(root: Path) -> None:
    (root / "train/dog/again").symlink_to(root / "train/dog")


def make_many_classes(root: Path) -> None:
    for number in range(260):
        (root / f"train/{number}").mkdir()


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "no test": (
        remove("test"), {},
        "pets: it has a folder train and none for testing. To hold out a fifth of train for",
    ),
    "no training images of a class": (
        lambda root: (remove("train/dog")(root), (root / "train/dog").mkdir()), {},
        "pets/train/dog: the folder holds no images. Put images into it, or remove it",
    ),
    "a class in test alone": (
        write("test/cow/1.png", b""), {},
        "pets/test/cow: {root}/train has no such class. Name both alike",
    ),
    "a class that is not named": (
        lambda _: None, {"classes": ["cat", "cow"]},
        "pets/train/dog: dataset.classes does not name it. Add it there, or move it away",
    ),
    "a class without a folder": (
        lambda _: None, {"classes": ["cat", "cow", "dog"]},
        "pets/train: it has no folder for the class cow. Its folders are cat, dog",
    ),
    "one class": (
        lambda root: (remove("train/dog")(root), remove("test/dog")(root)), {},
        "pets/train: 1 class, where 2 to 256 can be told apart",
    ),
    "many classes": (make_many_classes, {}, "262 classes, where 2 to 256 can be told apart"),
    "an unprintable class": (
        write("train/c\x1b[31m/1.png", b""), {},
        "c\\x1b[31m: the name is too long for a class, or cannot be printed. Rename the folder",
    ),
    "no image": (
        write("train/dog/102.png", b"no image"), {},
        "pets/train/dog/102.png: is a text file, not an image that can be read",
    ),
    "cut short": (truncate, {}, "pets/train/dog/102.png: the image is damaged or cut short"),
    "a folder too deep": (
        write("train/dog/more/1.png", b""), {},
        "pets/train/dog/more: a folder within the folder of a class",
    ),
    "a class of lost images": (
        lambda root: (remove("test/cat")(root), (root / "test/cat").mkdir(),
                      (root / "test/cat/4.png").symlink_to("nowhere")), {},
        "pets/test/cat: it holds no images, but links that lead nowhere: ",
    ),
    "a lost class": (
        lambda root: (root / "train/cow").symlink_to("nowhere"), {},
        "pets/train/cow: this link leads nowhere, and a class may be lost. Mend or remove it",
    ),
    "a lost class in test": (
        lambda root: (remove("test/cat")(root), (root / "test/cat").symlink_to("nowhere")), {},
        "pets/test/cat: this link leads nowhere, and a class may be lost",
    ),
    "a link round and round": (
        lambda root: (root / "train/cow").symlink_to(root / "train/cow"), {},
        "pets/train/cow: this link leads nowhere",
    ),
    "nothing for testing": (
        lambda root: (remove("test/cat")(root), remove("test/dog")(root)), {},
        "pets/test: the folder holds no images. Put images into it, or remove it",
    ),
    "nothing to hold out": (
        lambda root: (remove("train")(root), (root / "test").rename(root / "inner"),
                      (root / "inner/cat").rename(root / "cat"),
                      (root / "inner/dog").rename(root / "dog"), (root / "inner").rmdir()), {},
        "pets: no image is left for testing: each class has one. Add images, or make folders",
    ),
    "photographs of a telephone": (
        lambda root: (remove("train/dog")(root), write("train/dog/1.heic", b"")(root)), {},
        "pets/train/dog: the folder holds no images, but {root}/train/dog/1.heic. Images are read",
    ),
    "a published data set": (
        lambda root: (remove("train")(root), remove("test")(root),
                      write("train-images.idx3-ubyte", b"")(root)), {},
        "The folder of a published data set is given with --data-dir {root}",
    ),
    "an archive in a folder": (
        lambda root: (remove("train")(root), remove("test")(root), write("own.npz", b"")(root)), {},
        "pets: it holds no folders, but {root}/own.npz. Give --data {root}/own.npz",
    ),
    "a link to itself": (link_to_itself, {}, "dog/again: a folder within the folder of a class"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_folder_that_cannot_be_learned_from_is_refused(case: str, tmp_path: Path) -> None:
    root = write_squares(tmp_path / "pets")
    change, keys, message = BAD_FOLDERS[case]
    change(root)
    with pytest.raises(DataError) as caught:
        read(root, **keys)
    assert message.format(root=root) in str(caught.value)


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "pets")
    remove("test/dog")(root)
    for name in ("extra/x.png", "train/notes.txt", "train/cat/a.txt", "train/cat/b.txt"):
        write(name, b"")(root)
    for name in (".hidden", "train/cat/.DS_Store"):
        write(name, b"")(root)
    for name in ("__MACOSX/train/cat/._1.png", "train/__MACOSX/a", "test/cat/Thumbs.db"):
        write(name, b"")(root)
    listing = list_image_files(root, None, BOTH)
    assert listing.notes == (
        f"left out, being neither train nor test: {root}/extra",
        f"left out, being no images of a class: {root}/train/notes.txt and 2 more",
        "no test images of dog",
    )
    assert listing.warnings == ()


def test_links_that_lead_nowhere_are_warned_of(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "pets")
    for name, target in {"gone": "nowhere", "lost": "nowhere", "round": "round.png"}.items():
        (root / f"train/dog/{name}.png").symlink_to(target)
    dataset = read(root)
    assert dataset.warnings == (
        f"left out, being links that lead nowhere: {root}/train/dog/gone.png and 2 more",
    )
    assert len(dataset.train) == 5


def turn_round(root: Path) -> None:
    for path in sorted(root.glob("*/*")):
        path.rename(root / f"{path.parent.name} {path.name}")
    for name in ("train", "test"):
        (root / name).rmdir()
    for path in sorted(root.iterdir()):
        split, _, name = path.name.partition(" ")
        (root / name).mkdir(exist_ok=True)
        path.rename(root / name / split)


def rename(**names: str) -> Callable[[Path], None]:
    return lambda root: [(root / old).rename(root / new) for old, new in names.items()] and None


def make_deeper(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        root.rename(root.parent / "inner")
        root.mkdir()
        (root.parent / "inner").rename(root / name)

    return change


def make_classes_deeper(root: Path) -> None:
    for path in sorted(root.glob("*/*")):
        path.rename(root / "inner")
        path.mkdir()
        (root / "inner").rename(path / "my images")


def flatten(
    table: str, text: str, row: str = "", folder: str = ".", into: str = "{cls}-{name}"
) -> Callable[[Path], None]:
    """All images in one folder, and a table that tells what they show."""

    def change(root: Path) -> None:
        for path in sorted(root.glob("*/*/*.png")):
            name = into.format(cls=path.parent.name, name=path.name)
            (root / folder).mkdir(exist_ok=True)
            path.rename(root / folder / name)
            if row:
                stem = name.removesuffix(".png")
                text_of[0] += row.format(name=name, stem=stem, cls=path.parent.name)
        for name in ("train", "test"):
            remove(name)(root)
        if row:
            (root / table).write_text(text_of[0])

    text_of = [text]
    return change


LAYOUTS: dict[str, tuple[Callable[[Path], object], tuple[int, int]]] = {
    "class, then split": (turn_round, (5, 2)),
    "train and val": (rename(test="val"), (5, 2)),
    "Training and Testing": (rename(train="Training", test="Testing_set"), (5, 2)),
    "train and test images": (rename(test="test_images"), (5, 2)),
    "train alone": (remove("test"), (3, 2)),
    "one folder deeper": (make_deeper("pets"), (5, 2)),
    "one folder deeper, without splits": (
        lambda root: (remove("test")(root), rename(train="all my pets")(root)), (3, 2),
    ),
    "each class one folder deeper": (make_classes_deeper, (5, 2)),
    "a table": (flatten("labels.csv", "file,label\n", "{name},{cls}\n"), (5, 2)),
    "a table of names without endings": (
        flatten("labels.csv", "id,breed\n", "{stem},{cls}\n"), (5, 2),
    ),
    "a table without a head, the label first": (flatten("l.txt", "", "{cls}\t{name}\n"), (5, 2)),
    "a table with more columns and paths": (
        flatten("a b.csv", "n;file;width;class\n", '1;"x/{name}";6;{cls}\n\n', "images"), (5, 2),
    ),
    "classes in the names": (flatten("", "", into="{cls}.{name}"), (5, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_command_that_an_error_suggests_rearranges_a_folder(case: str, tmp_path: Path) -> None:
    root = write_squares(tmp_path / "my pets")
    arrange, counts = LAYOUTS[case]
    arrange(root)
    with pytest.raises(DataError) as caught:
        read(root)
    hint = caught.value.hint
    if given := re.search("give --data ('[^']*'|[^ :]*)", hint):
        [root] = map(Path, shlex.split(given[1]))
    if (command := hint.partition(": ")[2]) or not given:
        subprocess.run(command, shell=True, check=True, cwd="/")
    dataset = read(root)
    assert (len(dataset.train), len(dataset.test)) == counts
    assert dataset.info.class_names == ("cat", "dog")
    expected = {1: 0, 2: 0, 3: 0, 4: 0, 101: 1, 102: 1, 103: 1}
    for split in dataset.splits.values():
        assert [expected[255 - level] for level in split.images[:, 0, 0].tolist()] == (
            split.labels.tolist()
        )


X = np.arange(6 * 12, dtype=np.uint8).reshape(6, 3, 4)
GOOD = {"x_train": X, "y_train": np.arange(6) % 3, "x_test": X[:3], "y_test": np.arange(3)}


def damage_stored(path: Path) -> None:
    large = {"x_train": np.repeat(X, 100, axis=0), "y_train": np.arange(600) % 3}
    np.savez(path, **(GOOD | large))
    contents = path.read_bytes()
    place = contents.index(large["x_train"].tobytes()) + 7000
    path.write_bytes(contents[:place] + b"\xff" + contents[place + 1 :])


def claim_too_much(path: Path) -> None:
    members = {name: npy(array) for name, array in GOOD.items()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 3, 4)}
    )
    write_members(path, **(members | {"x_train": header.getvalue() + X.tobytes()}))


def write_archive(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"contents")


def save(**changed: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez_compressed(path, allow_pickle=True, **(GOOD | changed))


def save_without(name: str) -> Callable[[Path], None]:
    kept = {other: array for other, array in GOOD.items() if other != name}
    return lambda path: np.savez_compressed(path, **kept)


BAD_ARCHIVES: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "no archive": (lambda path: path.write_bytes(b"\0no"), {}, "is damaged or no .npz file"),
    "half an archive": (
        lambda path: (save()(path), os.truncate(path, 500)), {},
        "is damaged or no .npz file (File is not a zip file). Replace it by a sound copy",
    ),
    "a web page": (
        lambda path: path.write_text("<!DOCTYPE html>"), {},
        "is an HTML page, not an .npz file. Download the file itself",
    ),
    "a config": (
        lambda path: path.write_text("dataset:\n  name: mnist\n"), {},
        "is a config, not an .npz file. Train with it: mnistcli train {root}/own.npz",
    ),
    "an archive of images": (
        lambda path: write_archive(path, "cat/1.png"), {},
        "is a zip archive, not an .npz file. Unpack it first",
    ),
    "missing": (
        save_without("x_test"), {},
        "holds no array x_test, but x_train (6, 3, 4), y_train (6,), y_test (3,)",
    ),
    "other arrays": (
        lambda path: np.savez(path, a=X[0]), {},
        "holds no array x_train, but a (3, 4). Write it with numpy.savez(",
    ),
    "not a number": (
        save(x_train=np.full((6, 3, 4), np.nan)), {},
        "x_train holds float64 from nan to nan, not uint8 from 0 to 255. Images are whole numbers",
    ),
    "objects": (
        save(x_train=np.array([{}, {}])), {},
        "x_train holds Python objects, which are never unpickled. Where it is made, save",
    ),
    "texts": (save(x_train=np.full((6, 3, 4), "a")), {}, "x_train holds texts, not images"),
    "flat": (
        save(x_train=X.reshape(6, 12)[:, :10]), {}, "x_train has shape (6, 10). Images are (count,",
    ),
    "grey and colour": (
        save(x_test=X[:3, ..., None].repeat(3, 3)), {},
        "images of x_train are (3, 4), of x_test (3, 4, 3). Both have to be of one size",
    ),
    "several classes": (
        save(y_train=np.ones((6, 2), int)), {},
        "y_train has shape (6, 2): a vector of 2 numbers for each image, some of several classes",
    ),
    "too many classes": (
        save(x_train=np.repeat(X, 50, 0), y_train=np.arange(300)), {},
        "holds the label 256; classes are 0 to at most 255. Labels tell 2 to 256 classes apart",
    ),
    "one class": (save(y_train=np.full(6, 3)), {}, "y_train has one class alone. Two can be"),
    "many axes": (
        save(x_train=np.zeros([1] * 40)), {}, "x_train has 40 axes. Images are (count, height,",
    ),
    "empty": (lambda path: path.touch(), {}, "the file is empty. Replace it by a sound copy"),
    "halves of labels": (save(y_train=np.arange(6) / 4), {}, "by whole numbers from 0"),
    "no labels": (save(y_train=np.arange(0)), {}, "y_train is empty. Labels are"),
    "another size": (save(), {"size": [4, 3]}, "its images are (3, 4), dataset.size is (4, 3)"),
    "too few labels": (
        save(y_train=np.arange(5)), {}, "y_train has shape (5,), x_train (6, 3, 4)",
    ),
    "a negative label": (save(y_train=np.arange(6) - 1), {}, "y_train holds the label -1"),
    "a label too large": (save(y_train=np.arange(6) * 99), {}, "y_train holds the label 297"),
    "a class in test alone": (
        save(y_train=np.arange(6) % 2), {},
        "y_train has no example of the class 2, which y_test has. Leave it out of a copy and give",
    ),
    "a name too many": (
        save(), {"classes": ["a", "b", "c", "d"]}, "y_train has no example of the class 3 (d)",
    ),
    "too few names": (
        save(), {"classes": ["a", "b"]}, "there are 3 classes, and dataset.classes names 2",
    ),
    "a damaged stored array": (damage_stored, {}, "x_train is damaged: its check sum is another"),
    "a claim": (claim_too_much, {}, "x_train claims 13194139533440 bytes and has 200"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_learned_from_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    make, keys, message = BAD_ARCHIVES[case]
    make(path)
    with pytest.raises(DataError) as caught:
        read(path, **keys)
    assert str(caught.value).startswith(str(path))
    assert message.replace("{root}", str(tmp_path)) in str(caught.value)


SMALL = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
SMALL[0, 0, :2] = 0, 255
COLOUR = np.random.default_rng(1).integers(0, 256, (9, 4, 4, 3), np.uint8)
NINE = np.arange(9) % 3
TEXTS = np.array(["cat", "dog", "it's a cow"])
TEXT_ORDER = '--set \'dataset.classes=["cat", "dog", "it\'"\'"\'s a cow"]\''
MENDED_ARRAYS: dict[str, dict[str, np.ndarray]] = {
    "0 to 1": {"x": SMALL / 255},
    "0 to 1 in half precision": {"x": (SMALL / 255).astype(np.float16)},
    "-1 to 1": {"x": SMALL / 127.5 - 1},
    "standardized": {"x": SMALL / 80 - 1.6},
    "wide integers": {"x": SMALL.astype(np.int64)},
    "floats to 255": {"x": SMALL.astype(np.float32)},
    "flat": {"x": SMALL.reshape(9, 64)},
    "flat colours": {"x": COLOUR.transpose(0, 3, 1, 2).reshape(9, 48)},
    "channels first": {"x": COLOUR.transpose(0, 3, 1, 2)},
    "one channel first": {"x": SMALL[:, None]},
    "count last": {"x": COLOUR.transpose(1, 2, 3, 0)},
    "with transparency": {"x": np.concatenate([COLOUR, COLOUR[..., :1]], axis=3)},
    "column by column": {"x": np.asfortranarray(SMALL)},
    "from 1": {"y": NINE + 1},
    "a gap": {"y": NINE * 2},
    "negative": {"y": NINE - 1},
    "large": {"y": NINE * 1000},
    "floats": {"y": NINE / 1.0},
    "one-hot": {"y": np.eye(3)[NINE]},
    "one-hot column": {"y": np.eye(3, dtype=bool)[NINE]},
    "texts": {"y": TEXTS[NINE]},
    "bytes": {"y": TEXTS[NINE].astype("S")},
}


@pytest.mark.parametrize("case", MENDED_ARRAYS)
def test_the_command_that_an_error_suggests_mends_an_archive(case: str, tmp_path: Path) -> None:
    changed = MENDED_ARRAYS[case]
    x, y = changed.get("x", SMALL), changed.get("y", NINE)
    right = COLOUR if 3 in x.shape or 48 in x.shape or 4 in x.shape else SMALL
    path = tmp_path / "my own.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    mended = follow_hint(path)
    np.testing.assert_array_equal(mended.train.images, right)
    np.testing.assert_array_equal(mended.test.images, right)
    assert mended.train.labels.tolist() == mended.test.labels.tolist() == NINE.tolist()


def follow_hint(path: Path) -> Dataset:
    """Run the command that an error about an archive suggests, and read what it makes."""
    with pytest.raises(DataError) as caught:
        read(path)
    hint = caught.value.hint
    assert ("texts" in caught.value.what) == (TEXT_ORDER in hint)
    command = hint.partition(f"give {path.stem}-mended.npz: ")[2] or hint.partition("]': ")[2]
    run_python_command(command)
    return read(path.with_name(f"{path.stem}-mended.npz"))


NAMED_ARRAYS = {
    "in order": ("arr_0", "arr_1", "arr_2", "arr_3"),
    "capitals": ("X_train", "Y_train", "X_test", "Y_test"),
    "MedMNIST's": ("train_images", "train_labels", "test_images", "test_labels"),
    "with quotes": ('x"1', "y'1", "x 2", "y\\2"),
}


@pytest.mark.parametrize("case", NAMED_ARRAYS)
def test_the_command_that_an_error_suggests_renames_arrays(case: str, tmp_path: Path) -> None:
    arrays = (SMALL, NINE, SMALL[:6], NINE[:6])
    named = dict(zip(NAMED_ARRAYS[case], arrays, strict=True))
    backwards = dict(reversed(named.items())) if "test" in "".join(named) else named
    np.savez(tmp_path / "own.npz", val_images=SMALL[:3], val_labels=NINE[:3], **backwards)
    mended = follow_hint(tmp_path / "own.npz")
    np.testing.assert_array_equal(mended.train.images, SMALL)
    np.testing.assert_array_equal(mended.test.images, SMALL[:6])
    assert mended.test.labels.tolist() == NINE[:6].tolist()


def test_the_commands_that_errors_suggest_divide_and_resize_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=SMALL.repeat(3, 0), labels=NINE.repeat(3))
    divided = follow_hint(tmp_path / "one.npz")
    assert (len(divided.train), len(divided.test)) == (22, 5)
    large = SMALL.repeat(2, 1).repeat(2, 2)
    np.savez(tmp_path / "two.npz", x_train=SMALL, y_train=NINE, x_test=large, y_test=NINE)
    assert follow_hint(tmp_path / "two.npz").test.images.shape == (9, 8, 8)
    np.savez(tmp_path / "more.npz", x_train=SMALL, y_train=NINE, x_test=SMALL, y_test=NINE + 1)
    left = follow_hint(tmp_path / "more.npz")
    assert left.test.labels.tolist() == [1, 2, 1, 2, 1, 2]


def test_an_archive_that_inflates_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    save()(path)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("x_train.npy").file_size
    bomb = npy(X) + bytes(10**6)
    write_members(path, **({n: npy(a) for n, a in GOOD.items()} | {"x_train": bomb}))
    contents = path.read_bytes()
    path.write_bytes(contents.replace(len(bomb).to_bytes(4, "little"), size.to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"x_train|damaged"):
        read(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "pets")
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ResourceError, match="rows cannot be kept there: Permission denied"):
        read(root)


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "pets")
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(ResourceError, match=r"rows cannot be kept there: .*XDG_CACHE_HOME"):
        read(root)
