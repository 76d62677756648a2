"""Bad input of every kind, in one table: the command, its exit code and its one error line.

Every line names the place, the mistake and the way out; a script gets the same as one object; and
nothing is written, changed or lost.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer.main
from PIL import Image

from conftest import Ended, Run, Train
from helpers.checkpoints import make_run, write_dense
from helpers.dataset_files import (
    ARRAYS,
    CIFAR_FOLDER,
    HUGE_HEADER,
    Call,
    archive_batches,
    claim_small_size,
    flip_a_byte_of_x_train,
    leave_out,
    make_batch,
    npy,
    pickle_as_python_2,
    replace_array,
    replace_member,
    shorten,
    write_batches,
    write_idx,
    write_npz,
)  # fmt: skip
from mnistcli.checkpoints.writer import create_checkpoint
from mnistcli.cli import app

Prepare = Callable[[], object]
Row = tuple[str, int, str] | tuple[str, int, str, Prepare]

COMMANDS = ("train", "evaluate", "predict", "summary")
NPZ = Path("data/mnist.npz")
RECIPES = (
    "mnist-softmax, cifar10-mlp, mnist-gradient-tape, mnist-mlp, mnist-softmax-adam,"
    " mnist-softmax-b100, mnist-softmax-b2048, mnist-softmax-sgd5, xor"
)
GIVE_H5 = "Give a .h5 file that mnistcli or Keras saved"
RESTORE = "Restore it from a copy, or train again"
OTHER = "To use these data as your own images, give --data data/mnist.npz"
REPLACE = "Replace it by a sound copy, or move it away to have the data downloaded again"
FORMATS = "Images are read from PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM files"
EXCLUDE = "they exclude each other. Give one of them"
EMPTY = "its value is empty. Give it a value, or leave it out"


def write(name: str, contents: str | bytes) -> Prepare:
    data = contents.encode() if isinstance(contents, str) else contents
    return lambda: Path(name).write_bytes(data)


def damage(change: Callable[[Path], object]) -> Prepare:
    """An mnist.npz that was sound, before it was changed."""
    return lambda: change(write_npz(NPZ))


def damage_idx(name: str, change: Callable[[bytes], bytes]) -> Prepare:
    def prepare() -> None:
        path = write_idx(Path("data"), compressed=False) / name
        path.write_bytes(change(path.read_bytes()))

    return prepare


def leave_out_idx(name: str) -> Prepare:
    def prepare() -> None:
        (write_idx(Path("data"), compressed=False) / name).unlink()

    return prepare


def damage_batch(contents: bytes, name: str = "test_batch") -> Prepare:
    return lambda: (write_batches(Path("data") / CIFAR_FOLDER) / name).write_bytes(contents)


def truncate_archive() -> None:
    folder = write_batches(Path("elsewhere"))
    path = archive_batches(Path("data/cifar-10-python.tar.gz"), folder)
    path.write_bytes(path.read_bytes()[:-300])


def flip_a_byte() -> None:
    """Of a stored array, so that only its checksum tells."""
    np.savez(NPZ, **ARRAYS)
    flip_a_byte_of_x_train(NPZ)


def declare_gigabytes(path: Path) -> None:
    """An archive that says of a member that it will have 3 GB."""
    size = len(npy(ARRAYS["x_test"]))
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 3 * 10**9))
    )


def write_picture(name: str, end: int | None = None) -> Prepare:
    def prepare() -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(noise).save(name)
        Path(name).write_bytes(Path(name).read_bytes()[:end])

    return prepare


def flip_a_byte_of_the_checkpoint() -> None:
    data = bytearray(Path("model.h5").read_bytes())
    data[len(data) // 2] ^= 1
    Path("model.h5").write_bytes(data)


def edit(change: Callable[[h5py.File], object]) -> Prepare:
    def prepare() -> None:
        with h5py.File(write_dense(Path("theirs.h5")), "r+") as file:
            change(file)

    return prepare


FLAGS: list[Row] = [
    # commands, flags and arguments
    (
        "xyz", 2,
        "xyz: no such command. Choose one of train, evaluate, predict, summary, ls, compare, sweep,"
        " plot, data, report, reproduce, doctor, recipes",
    ),
    ("--verson", 2, "--verson: no such flag. Did you mean --version?"),
    ("train --bogus", 2, "--bogus: no such flag. See mnistcli train --help"),
    ("predict", 2, "mnistcli predict: missing argument MODEL.h5. See mnistcli predict --help"),
    ("summary", 2, "mnistcli summary: missing argument MODEL.h5|CONFIG. See mnistcli summary --help"),
    ("tran", 2, "tran: no such command. Did you mean train?"),
    ("compare", 2, "mnistcli compare: missing argument MODEL.h5. See mnistcli compare --help"),
    ("compare model.h5", 2, "MODEL.h5: one checkpoint is nothing to compare. Name another, or a --baseline; of one alone: mnistcli evaluate model.h5"),
    ("compare model.h5 model.h5 --split tset", 2, "--split: unknown name 'tset'. Did you mean test?"),
    ("compare model.h5 no.h5", 5, f"no.h5: no such checkpoint in HERE. {GIVE_H5}"),
    ("train --repeat 2 --overfit-one-batch", 2, f"--repeat and --overfit-one-batch: {EXCLUDE}"),
    ("train --repeat 1", 2, "--repeat: expected a whole number from 2, received '1'. For example --repeat 3"),
    ("reproduce", 2, "MODEL.h5|RECIPE: nothing to reproduce. Give a checkpoint, a recipe's name, or --all"),
    ("reproduce xor --all", 2, "MODEL.h5|RECIPE: --all is every recipe. Give a checkpoint, a recipe's name, or --all"),
    ("reproduce mnist-mpl", 2, "mnist-mpl: no such recipe. Did you mean mnist-mlp?"),
    ("reproduce my.yaml", 2, "my.yaml: a config has no figures to compare with, only recipes have. Train it: mnistcli train my.yaml"),
    ("reproduce no.h5", 5, f"no.h5: no such checkpoint in HERE. {GIVE_H5}"),
    ("recipes lst", 2, "lst: no such command. Did you mean list?"),
    ("recipes zzz", 2, "zzz: no such command. Choose one of list, show, copy, schema"),
    ("recipes copy", 2, "mnistcli recipes copy: missing argument NAME. See mnistcli recipes copy --help"),
    ("recipes copy xor --overwite", 2, "--overwite: no such flag. Did you mean --overwrite?"),
    ("recipes copy xor a.yaml b.yaml", 2, "b.yaml: unexpected argument: copy takes one NAME and one FILE. See mnistcli recipes copy --help"),
    ("recipes copy xor model.h5", 2, "model.h5: exists. Choose another name, or give --overwrite"),
    ("recipes copy xor folder", 2, "folder: is a folder. Write folder/xor.yaml"),
    ("recipes copy xor no/my.yaml", 7, "no/my.yaml: cannot be written: No such file or directory. Choose another place"),
    ("recipes show mnist-mpl", 2, "mnist-mpl: no such recipe. Did you mean mnist-mlp?"),
    ("recipes show zzz", 2, f"zzz: no such recipe. The recipes are {RECIPES}"),
    ("train --resume model.h5 --print-config", 2, "--print-config: a resumed run has its checkpoint's config. See the config there: mnistcli summary model.h5 --json"),
    ("--epochs 3 train", 2, "--epochs: no such flag. Flags stand behind the command; see mnistcli --help"),
    ("train --batchsize 3", 2, "--batchsize: no such flag. Did you mean --batch-size?"),
    ("summary xor -z", 2, "-z: no such flag. See mnistcli summary --help"),
    ("train --seed", 2, "--seed: requires an argument. See mnistcli train --help"),
    ("train --overwrite=yes", 2, "--overwrite: does not take a value. See mnistcli train --help"),
    ("train xor mnist-mlp", 2, "mnist-mlp: unexpected argument: train takes one CONFIG. See mnistcli train --help"),
    ("summary xor model.h5", 2, "model.h5: unexpected argument: summary takes one MODEL.h5|CONFIG. See mnistcli summary --help"),
    ("evaluate", 2, "mnistcli evaluate: missing argument MODEL.h5. See mnistcli evaluate --help"),
    ("evaluate ''", 2, f"MODEL.h5: {EMPTY}"),
    ("predict model.h5 ''", 2, f"IMAGE: {EMPTY}"),
    ("train --data-dir ''", 2, f"--data-dir: {EMPTY}"),
    ("train --epochs=", 2, f"--epochs: {EMPTY}"),
    ("train --seed 1 --seed 2", 2, "--seed: given more than once. Give it once"),
    ("train -o a.h5 --output b.h5", 2, "--output: given more than once. Give it once"),
    ("predict model.h5 --top 2 --top 3", 2, "--top: given more than once. Give it once"),
    # values of flags
    ("train --resume model.h5 --more 0", 2, "--more: expected a whole number from 1, received '0'. For example --more 3"),
    ("train --resume model.h5 --more 999999", 2, "--more: training.epochs: expected a whole number from 1 to 1000000, received 1000001"),
    ("predict model.h5 --first 0", 2, "--first: expected a whole number from 1, received '0'. For example --first 3"),
    ("predict model.h5 --first 1e3", 2, "--first: expected a whole number from 1, received '1e3'. For example --first 3"),
    ("predict model.h5 --index -1", 2, "--index: expected a whole number from 0, received '-1'. For example --index 3"),
    ("predict model.h5 --top many", 2, "--top: expected a whole number from 1, received 'many'. For example --top 3"),
    ("train --epochs 1.5", 2, "--epochs: training.epochs: expected a whole number from 1 to 1000000, received 1.5"),
    ("train --epochs 010", 2, "--epochs: '010' is octal in YAML 1.1 and decimal in YAML 1.2. Write 10 without the leading zero"),
    ("train --batch-size 0", 2, "--batch-size: training.batch_size: expected a whole number from 1 to 1000000, received 0"),
    ("train --learning-rate -0.1", 2, "--learning-rate: training.optimizer.learning_rate: expected a number above 0, up to 1000000, received -0.1"),
    ("train --learning-rate nan", 2, "--learning-rate: training.optimizer.learning_rate: expected a number above 0, up to 1000000, received 'nan'"),
    ("train --optimizer adma", 2, "--optimizer: training.optimizer.name: expected one of sgd, rmsprop, adam, nadam, adamw, received 'adma'. Did you mean adam?"),
    ("train --validation 1", 2, "--validation: dataset.validation: expected a number from 0 to below 1, or test, received 1"),
    ("train --seed 4294967296", 2, "--seed: training.seed: expected a whole number from 0 to 4294967295, received 4294967296"),
    ("train mnist-mlp --hidden 64,0", 2, "--hidden: model.hidden.1.units: expected a whole number from 1 to 65536, received 0"),
    ("train --set training=3", 2, "--set: training: expected a mapping with keys among epochs, batch_size, optimizer, loss, shuffle, seed, precision, checkpoint_every, schedule, reduce_on_plateau, early_stopping, clip, label_smoothing, class_weight, received 3. Set its keys: --set training.KEY=VALUE"),
    ("train --set training.optimzer.name=adam", 2, "--set: training.optimzer: unknown key. Did you mean training.optimizer?"),
    ("train --set model.dropout=[", 2, "--set model.dropout:2:1: not valid YAML: did not find expected node content. Check the indentation, brackets and quotes up to here"),
    ("evaluate model.h5 --split valid", 2, "--split: unknown name 'valid'. Did you mean validation?"),
    ("train --batch-size true", 2, "--batch-size: training.batch_size: expected a whole number from 1 to 1000000, received true"),
    ("train --set epochs", 2, "--set: 'epochs' is no key=value. For example --set training.epochs=10"),
    ("evaluate model.h5 --fail-under speed=1", 2, "--fail-under: unknown metric 'speed'. Write accuracy=0.9 or loss=0.5"),
    ("evaluate model.h5 --fail-under accuracy=good", 2, "--fail-under: 'good' is not a number. Write accuracy=0.9 or loss=0.5"),
    ("evaluate model.h5 --fail-under accuracy=90", 2, "--fail-under: 90 is out of range. An accuracy lies between 0 and 1"),
    ("evaluate model.h5 --fail-under loss=nan", 2, "--fail-under: nan is out of range. A loss is 0 or more"),
    ("evaluate model.h5 --fail-under loss=-1", 2, "--fail-under: -1 is out of range. A loss is 0 or more"),
    ("evaluate model.h5 --fail-under accuracy", 2, "--fail-under: '' is not a number. Write accuracy=0.9 or loss=0.5"),
    # combinations
    ("train --hidden 64", 2, "--hidden: model.hidden: softmax has no hidden layers. Set model.type=mlp too, or leave it out"),
    ("train --epochs 3 --set training.epochs=3", 2, "--set: training.epochs: already given by --epochs. Give it once"),
    ("train --dataset xor", 2, "--dataset: dataset.name: xor does not go with dataset.normalization, model.output_activation, training.loss. Take its own recipe: mnistcli train xor"),
    ("train xor --validation 0.5", 2, "--validation: dataset.validation: xor's four rows leave none to hold out. Add --set dataset.validation=0.0"),
    ("train --init-from missing.h5", 5, f"missing.h5: no such checkpoint in HERE. {GIVE_H5}"),
    ("train --more 3", 2, "--more: it adds epochs to a run. Name the run: --resume FILE.h5"),
    ("train xor --resume model.h5", 2, "CONFIG: a resumed run goes on in its own file with its own config. Give only --epochs or --more with --resume"),
    ("train --resume model.h5 --seed 3", 2, "--seed: a resumed run goes on in its own file with its own config. Give only --epochs or --more with --resume"),
    ("evaluate model.h5 --dataset auto", 2, "--dataset: auto chooses what to train on, a trained network has its data. Name them: one of mnist, fashion_mnist, cifar10, digits, synthetic, xor, files"),
    ("evaluate model.h5 --dataset mnits", 2, "--dataset: unknown name 'mnits'. Did you mean mnist?"),
    ("evaluate model.h5 --dataset cifar10", 2, "--dataset: CIFAR-10's inputs are (32, 32, 3), model.h5 takes (784,). Name the data that it was trained on"),
    ("evaluate theirs.h5 --dataset mnist", 2, "--dataset: MNIST has 10 classes, theirs.h5 tells 3 apart. Name the data that it was trained on", lambda: write_dense(Path("theirs.h5"), 784, 3)),
    ("evaluate theirs.h5", 2, "theirs.h5: the file does not say which data it is for (its input is (4,)). Name them with --dataset, or your own with --data", edit(lambda _: None)),
    ("predict model.h5", 2, "IMAGE: there is nothing to predict. Name image files, or give --split test --first 20"),
    ("predict model.h5 a.png --split test", 2, f"IMAGE and --split: {EXCLUDE}"),
    ("predict model.h5 --first 1 --index 1", 2, f"--first and --index: {EXCLUDE}"),
    ("predict model.h5 --split test --input 0,1", 2, f"--split and --input: {EXCLUDE}"),
    ("predict model.h5 --input 0,1", 2, "--input: the network takes 784 whole numbers from 0 to 255, received 0,1. Separate them by commas"),
    ("predict xor.h5 --split test --index 4 --dataset xor", 2, "--index: 4 is beyond the last of 4 images. Give 0 to 3", lambda: write_dense(Path("xor.h5"), 2, 1)),
    ("summary xor --weights", 2, "--weights: xor is a config and has no weights yet. Give a checkpoint: mnistcli summary MODEL.h5 --weights"),
    # where the result goes
    ("train -o .", 2, "--output: . is a folder. Write -o model.h5"),
    ("train -o folder/.h5", 2, "--output: folder/.h5 is an ending without a name. Write -o folder/model.h5"),
    ("train -o M.H5", 2, "--output: M.H5 does not end in .h5. Write -o M.h5"),
    ("train -o model.keras", 2, "--output: model.keras does not end in .h5. Write -o model.keras.h5"),
    ("train -o taken.h5", 2, "--output: taken.h5 exists. Choose another name, or give --overwrite"),
    ("train -o run.h5 --validation 0.1", 2, "--output: run.best.h5 exists. Choose another name, or give --overwrite"),
    ("train -o missing/m.h5", 7, "missing: this folder does not exist. Make it: mkdir -p missing"),
    ("train -o a'&'b/m.h5", 7, "a&b: this folder does not exist. Make it: mkdir -p 'a&b'"),
    ("train -o taken.h5/m.h5", 7, "taken.h5: this is a file, not a folder. Choose another place with -o"),
]  # fmt: skip


def config(text: str | bytes, message: str) -> Row:
    """`summary` and `train` read configs alike."""
    command = "summary" if len(text) % 2 else "train"
    return f"{command} my.yaml", 2, f"my.yaml{message}", write("my.yaml", text)


CONFIGS: list[Row] = [
    ("train nothing.yaml", 2, f"nothing.yaml: no such file or recipe in HERE. Give a YAML file, or one of the recipes {RECIPES}"),
    ("train mnist-mpl", 2, "mnist-mpl: no such file or recipe in HERE. Did you mean mnist-mlp?"),
    ("train folder", 2, "folder: is a folder. Train on the images in it: mnistcli train --data folder"),
    ("train loop.yaml", 2, "loop.yaml: cannot be read: Too many levels of symbolic links. Give the path of a YAML file that can be read", lambda: Path("loop.yaml").symlink_to("loop.yaml")),
    ("train ''", 2, f"CONFIG: {EMPTY}"),
    ("train model.h5", 2, "model.h5: is an HDF5 file, not a config. Go on with a run: mnistcli train --resume model.h5"),
    config("training:\n\tepochs: 3", ":2:1: not valid YAML: found character that cannot start any token. Indent with spaces, and put quotes around text that begins with @, ` or %"),
    config("training: {epochs: 3", ":2:1: not valid YAML: did not find expected ',' or '}' (while parsing a flow mapping from line 1). Check the indentation, brackets and quotes up to here"),
    config("training:\n  epochs: 3\n  epochs: 4\n", ":3:3: training.epochs: key given twice, first on line 2. Remove one of them"),
    config("training: {epochs: '3'}", ":1:20: training.epochs: expected a whole number from 1 to 1000000, received '3'. Write 3 without quotes"),
    config("training: [1]", ":1:11: training: expected a mapping with keys among epochs, batch_size, optimizer, loss, shuffle, seed, precision, checkpoint_every, schedule, reduce_on_plateau, early_stopping, clip, label_smoothing, class_weight, received a list of 1. Write key: value lines below it, without dashes"),
    config("model: {type: mlp, hidden: [1000000]}", ":1:29: model.hidden.0: expected a whole number from 1 to 65536, received 1000000"),
    config("training: {optimizer: {name: adam, momentum: 0.9}}", ":1:36: training.optimizer.momentum: adam has no momentum. Set training.optimizer.name: sgd or rmsprop, or remove it"),
    config("training: {loss: binary_crossentropy}", ":1:18: training.loss: binary_crossentropy does not match softmax outputs. Set training.loss: categorical_crossentropy, or model.output_activation: sigmoid"),
    config("model: !!python/object/apply:os.system {type: mlp}", ":1:8: model: tag !!python/object/apply:os.system is not allowed. Remove it"),
    config("{}\n---\n{}\n", ":2:1: a second document begins. Keep one document a file"),
    config(b"\x89PNG\r\n", ": is an image, not a config. Name the checkpoint before it: mnistcli predict MODEL.h5 my.yaml"),
    config("a: \0", ":1:4: character U+0000 is not allowed in YAML. Remove it"),
    config("'': 3", ":1:1: '': unknown key. The keys here are dataset, model, training"),
    config("#" * (2**20 + 1), ": larger than 1 MiB, too large for a config. Give a config's YAML file"),
    config("[" * 200, ":1:34: nested more than 32 deep. A config is at most 5 deep"),
    config("- epochs", ":1:1: expected the blocks dataset, model and training at the top level. Write key: value lines"),
    config("training: {seed: " + "9" * 400 + "}", ":1:18: training.seed: a number of 400 digits. Write a smaller one"),
]  # fmt: skip

TEST = "evaluate model.h5 --data-dir data"
TRAIN = "train --data-dir data -o new.h5 --dry-run"
CIFAR = "train cifar10-mlp --data-dir data --dry-run"
BATCH = f"data/{CIFAR_FOLDER}/test_batch"
IDX = "t10k-images-idx3-ubyte"

DATA: list[Row] = [
    ("evaluate model.h5 --data-dir nowhere", 4, "--data-dir: nowhere does not exist in HERE. Correct the path, or create the folder: mkdir -p nowhere"),
    ("evaluate model.h5 --data-dir taken.h5", 4, "--data-dir: taken.h5 is a file. Name the folder it is in, ."),
    (TEST, 4, f"{NPZ}: is damaged or incomplete (File is not a zip file). {REPLACE}", write(str(NPZ), b"")),
    (TRAIN, 4, f"{NPZ}: is damaged or incomplete (File is not a zip file). {REPLACE}", damage(shorten)),
    (TRAIN, 4, f"{NPZ}: is damaged or incomplete (Bad CRC-32 for file 'x_train.npy'). {REPLACE}", flip_a_byte),
    (f"{TEST} --split train", 4, f"{NPZ}: holds no array y_train. {REPLACE}", damage(leave_out("y_train"))),
    (TEST, 4, f"{NPZ}: x_test has dtype float32, not uint8. {OTHER}", damage(replace_array("x_test", np.full((3, 28, 28), np.nan, "f4")))),
    (TRAIN, 4, f"{NPZ}: x_train has dtype int32, not uint8. {OTHER}", damage(replace_array("x_train", ARRAYS["x_train"].astype(np.int32)))),
    (TEST, 4, f"{NPZ}: x_test has shape (3, 784), not (count, 28, 28). {OTHER}", damage(replace_array("x_test", ARRAYS["x_test"].reshape(3, 784)))),
    (TEST, 4, f"{NPZ}: y_test holds the label 10; classes are 0 to 9. {OTHER}", damage(replace_array("y_test", np.array([1, 10, 2])))),
    ("predict model.h5 --first 1 --data-dir data", 4, f"{NPZ}: y_test holds the label -1; classes are 0 to 9. {OTHER}", damage(replace_array("y_test", np.array([1, -1, 2])))),
    ("predict model.h5 --index 0 --data-dir data", 4, f"{NPZ}: x_test has 3 images, y_test 2 labels. {REPLACE}", damage(replace_array("y_test", np.array([1, 2])))),
    ("predict model.h5 --split test --data-dir data", 4, f"{NPZ}: x_test is empty. {REPLACE}", damage(replace_array("x_test", np.empty((0, 28, 28), np.uint8)))),
    ("predict model.h5 --top 1 --first 2 --data-dir data", 4, f"{NPZ}: x_test holds Python objects, which are never unpickled. {REPLACE}", damage(replace_array("x_test", np.array([Call(os.mkdir, "pwned")], object)))),
    (TRAIN, 4, f"{NPZ}: x_train claims 7839999296 bytes, too many for a data set. {REPLACE}", damage(replace_member("x_train", HUGE_HEADER))),
    (TRAIN, 4, f"{NPZ}: is damaged or incomplete (Bad CRC-32 for file 'x_train.npy'). {REPLACE}", damage(claim_small_size)),
    (TEST, 4, f"{NPZ}: x_test claims 2480 bytes and has 3000000000. {REPLACE}", damage(declare_gigabytes)),
    (TRAIN, 4, f"{NPZ}: x_train has a header that cannot be understood. {REPLACE}", damage(replace_member("x_train", b"\x93NUMPY\x01\0\x0a\0__import__"))),
    (TEST, 4, "MNIST: not found in data, and MNISTCLI_OFFLINE forbids downloading. Name the folder of mnist.npz or the four IDX files (train-images-idx3-ubyte, …) with --data-dir, or unset MNISTCLI_OFFLINE to download it, or use --dataset synthetic", NPZ.mkdir),
    (TEST, 4, f"{NPZ}: cannot be read: Too many levels of symbolic links. Check the path and its permissions, or name another folder with --data-dir", lambda: NPZ.symlink_to("mnist.npz")),
    (TRAIN, 4, "data/train-labels-idx1-ubyte: is missing beside the other files of MNIST. Put it there, or move the others away to have the data downloaded again", leave_out_idx("train-labels-idx1-ubyte")),
    (TEST, 4, f"data/{IDX}: claims 2352 bytes of data and has 2342. {REPLACE}", damage_idx(IDX, lambda data: data[:-10])),
    (TEST, 4, f"data/{IDX}: is an IDX file of float32 with 3 axes, not of bytes with 3. To use these data as your own images, give --data FILE.npz, made by numpy.savez('FILE.npz', x_train=…, y_train=…, x_test=…, y_test=…)", damage_idx(IDX, lambda data: b"\0\0\x0d\x03" + data[4:])),
    (TEST, 4, f"data/{IDX}: claims 79228162458924105385300197375 bytes, too many for a data set. {REPLACE}", damage_idx(IDX, lambda data: data[:4] + b"\xff" * 12)),
    (CIFAR, 4, f"{BATCH}: is not a pickled batch, or is damaged (UnpicklingError: it refers to posix.system, which no batch needs). {REPLACE}", damage_batch(pickle.dumps({b"data": Call(os.system, "touch pwned")}, 2))),
    (CIFAR, 4, f"{BATCH}: is not a pickled batch, or is damaged (EOFError: ). {REPLACE}", damage_batch(b"")),
    (CIFAR, 4, f"{BATCH}: its data have shape (2, 784), not (count, 3072). {REPLACE}", damage_batch(pickle_as_python_2(make_batch(0) | {b"data": np.zeros((2, 784), np.uint8)}))),
    (CIFAR, 4, f"{BATCH}: y_test holds the label 77; classes are 0 to 9. To use these data as your own images, give --data FILE.npz, made by numpy.savez('FILE.npz', x_train=…, y_train=…, x_test=…, y_test=…)", damage_batch(pickle_as_python_2(make_batch(77)))),
    (CIFAR, 4, f"data/cifar-10-python.tar.gz: is damaged or incomplete (Compressed file ended before the end-of-stream marker was reached). {REPLACE}", truncate_archive),
]  # fmt: skip

IMAGES: list[Row] = [
    ("predict model.h5 missing.png", 4, "missing.png: no such file or folder in HERE. Correct the path"),
    ("predict model.h5 folder", 4, f"folder: the directory holds no images. {FORMATS}"),
    ("predict model.h5 a.png", 4, f"a.png: the file is empty. {FORMATS}", write("a.png", b"")),
    ("predict model.h5 model.h5", 4, "model.h5: is an HDF5 file, not an image that can be read. Name the images after the checkpoint: mnistcli predict model.h5 IMAGE.png"),
    ("predict model.h5 b.png", 4, "b.png: the image is damaged or cut short. Check the file, or save it again", write_picture("b.png", 900)),
    ("predict model.h5 c.ppm", 4, "c.ppm: the image has more than 100,000,000 pixels or 512 MiB. Make it smaller", write("c.ppm", b"P5 30000 30000 255\n")),
    ("predict model.h5 - -", 2, "IMAGE: - is standard input, which ends once. Give it once"),
    ("predict xor.h5 d.png --dataset xor", 2, "IMAGE: xor takes 2 numbers, not images. Use --input 0,1", lambda: write_dense(Path("xor.h5"), 2, 1)),
]  # fmt: skip

CHECKPOINTS: list[Row] = [
    ("evaluate missing.h5", 5, f"missing.h5: no such checkpoint in HERE. {GIVE_H5}"),
    ("summary folder.h5", 5, f"folder.h5: is a folder. {GIVE_H5}", lambda: Path("folder.h5").mkdir()),
    ("predict taken.h5 --first 1", 5, f"taken.h5: is a text file, not an HDF5 file. {GIVE_H5}"),
    ("summary empty.h5", 5, f"empty.h5: the file is empty. {RESTORE}", write("empty.h5", b"")),
    ("train --resume model.h5", 5, f"model.h5: damaged: its contents do not match its checksum. {RESTORE}", flip_a_byte_of_the_checkpoint),
    ("train --init-from theirs.h5", 5, "theirs.h5: '/evil' is an external link, which can lead anywhere. Keras saves no such file: get another from whoever made it", edit(lambda file: file.__setitem__("evil", h5py.ExternalLink("/etc/passwd", "/")))),
    ("evaluate theirs.h5 --dataset mnist", 5, "theirs.h5: weights without their network: model_weights/dense/dense/bias (3,), model_weights/dense/dense/kernel (4, 3). Build the network, model.load_weights(…) and model.save('model.h5') in Keras", edit(lambda file: file.attrs.clear())),
    ("train --resume theirs.h5", 5, "theirs.h5: no run of mnistcli's to go on with. Start a new one from its weights: mnistcli train CONFIG --init-from theirs.h5", edit(lambda _: None)),
]  # fmt: skip

TABLE = [*FLAGS, *CONFIGS, *DATA, *IMAGES, *CHECKPOINTS]


@pytest.fixture
def workshop(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands in a folder with a model, files that nobody may touch, and no data."""
    (tmp_path / "data").mkdir()
    (tmp_path / "folder").mkdir()
    state, record = make_run()
    create_checkpoint(tmp_path / "model.h5", state, record)
    for name in ("taken.h5", "run.best.h5", "folder/notes.txt"):
        (tmp_path / name).write_bytes(b"precious")
    monkeypatch.setenv("MNISTCLI_DATA_DIR", "nowhere")
    monkeypatch.setenv("KERAS_HOME", "keras")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return run


def take_snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Everything in a folder, with its contents."""
    return {
        path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def check_error_object(answered: Ended, code: int, line: str) -> None:
    """A script gets exactly what people read."""
    assert answered.err == line
    assert answered.code == answered.json["error"]["code"] == code
    assert answered.out.count("\n") == 1
    error = answered.json["error"]
    others = set(answered.json) - {"version", "error"}
    assert others in (set(), {"predictions", "added_activation"})
    assert [row["error"] for row in answered.json.get("predictions", [])] in ([], [error])
    assert set(error) == {"code", "kind", "where", "message", "hint"}
    what = f"{error['where']}: {error['message']}"
    hint = f". {error['hint'][:1].upper()}{error['hint'][1:]}" if error["hint"] else ""
    shown = " ".join(f"mnistcli: error: {what}{hint}".split())
    assert shown in (line.rstrip("\n"), line.rstrip("\n").encode().decode("unicode_escape"))


@pytest.mark.parametrize("row", TABLE, ids=[f"{row[0]}: {row[2]}"[:90] for row in TABLE])
def test_bad_input_gets_one_line_and_changes_nothing(
    workshop: Run, tmp_path: Path, row: Row
) -> None:
    words, code, message, *prepare = row
    message = message.replace("HERE", str(tmp_path))
    for step in prepare:
        step()
    before = take_snapshot(tmp_path)
    first, *others = shlex.split(words)

    ended = workshop(first, *others)

    line = f"mnistcli: error: {message}\n"
    assert (ended.code, ended.out, ended.err) == (code, "", line)
    assert ". " in message or "expected " in message  # a range is the way out
    flags = ["--json", *others] if first in COMMANDS else [first, *others, "--json"]
    check_error_object(workshop(*([first] if first in COMMANDS else []), *flags), code, line)
    assert take_snapshot(tmp_path) == before


SUGGESTED = re.compile(r"(?:mnistcli (?!or )[a-z]+|--[a-z][a-z-]+ (?!or |and |with )).*$")


@pytest.mark.parametrize("row", TABLE, ids=[f"{row[0]}"[:60] for row in TABLE])
def test_a_command_in_a_hint_ends_it_and_can_be_parsed(row: Row) -> None:
    hint = row[2].rpartition(". ")[2]
    found = SUGGESTED.search(hint)
    if found is None or "FILE" in found[0]:  # a text, or a form to fill in
        return
    program, *words = shlex.split(found[0])
    command = row[0].split()[0] if program != "mnistcli" else words.pop(0)
    words = words if program == "mnistcli" else [program, *words]
    parser: Any = typer.main.get_command(app.app)
    for word in [command, *(words[:1] if command == "recipes" else [])]:
        parser = parser.commands[word]
    rest = words[1:] if command == "recipes" else words
    context = parser.context_class(parser)
    _, left_over, _ = parser.make_parser(context).parse_args(rest)
    assert left_over == []


PASTED = {
    "compare 'a b.h5'": (
        "MODEL.h5: one checkpoint is nothing to compare. Name another, or a --baseline; of one"
        " alone: mnistcli evaluate 'a b.h5'"
    ),
    "train --resume 'a b.h5' --print-config": (
        "--print-config: a resumed run has its checkpoint's config. See the config there:"
        " mnistcli summary 'a b.h5' --json"
    ),
    "data mnist --data 'my data'": (
        "NAME and --data: images of your own are the data set files. Give both:"
        " mnistcli data files --data 'my data'"
    ),
    "train 'my data'": (
        "my data: is a folder. Train on the images in it: mnistcli train --data 'my data'"
    ),
    "train --set training.loss=binary_crossentropy": (
        "--set: training.loss: binary_crossentropy does not match softmax outputs. Write"
        " --set training.loss=categorical_crossentropy or add --set model.output_activation=sigmoid"
    ),
    "train --set training.early_stopping.patience=3": (
        "--set: training.early_stopping: it monitors val_loss, and there is no validation set."
        " Add --validation 0.1"
    ),
}


def find_command(hint: str, given: list[str]) -> list[str]:
    """The command in a hint, or what was typed with the flags in it."""
    words = shlex.split(re.split(r": (?=mnistcli |--set)|Add | or add ", hint)[-1])
    return words[1:] if words[0] == "mnistcli" else [*given, *words]


def draw_folders(root: str, sizes: list[tuple[int, int]]) -> None:
    for name in ("a", "b"):
        Path(root, name).mkdir(parents=True)
        for number, size in enumerate(sizes):
            Image.new("L", size, 9 * number).save(Path(root, name, f"{number}.png"))


@pytest.mark.parametrize("words", PASTED)
def test_a_command_in_a_hint_works_when_it_is_pasted(
    run: Run, train_once: Train, words: str
) -> None:
    draw_folders("my data", [(8, 8)] * 3)
    train_once("--epochs", 1, name="a b.h5")
    given = shlex.split(words)
    assert run(*given).err == f"mnistcli: error: {PASTED[words]}\n"
    pasted = find_command(PASTED[words], given)
    assert run(*pasted, *(["--dry-run"] if pasted[0] == "train" else [])).code == 0


def test_the_size_that_a_folder_needs_can_be_pasted(run: Run) -> None:
    draw_folders("mixed", [(8, 8), (16, 8), (8, 8)])
    given = ["train", "--data", "mixed", "--dry-run"]
    ended = run(*given)
    assert (ended.code, ". Bring all to one size: --set 'dataset.size=[8, " in ended.err) == (
        4,
        True,
    )
    assert run(*find_command(ended.err, given)).code == 0


# The environment


Spawned = tuple[str, dict[str, str], int, str]
NOT_IN = "and MNISTCLI_OFFLINE forbids downloading. Name the folder of mnist.npz or the four IDX files (train-images-idx3-ubyte, …) with --data-dir, or unset MNISTCLI_OFFLINE to download it, or use --dataset synthetic"
ENVIRONMENTS: dict[str, Spawned] = {
    "a home that does not exist": (
        "evaluate model.h5", {"HOME": "/dev/null/me", "KERAS_HOME": "", "MNISTCLI_DATA_DIR": ""},
        4, f"MNIST: not found in /dev/null/me/.keras/datasets (no such folder), {NOT_IN}",
    ),
    "a cache that cannot be one": (
        "train --more 1", {"XDG_CACHE_HOME": "\n//:", "HOME": "/proc"},
        2, "--more: it adds epochs to a run. Name the run: --resume FILE.h5",
    ),
    "a file name that ASCII does not have": (
        "summary größe.h5", {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        5, rf"gr\xf6\xdfe.h5: no such checkpoint in HERE. {GIVE_H5}",
    ),
    "a file name that no encoding has": (
        "summary \udcff.h5", {},
        5, rf"\udcff.h5: no such checkpoint in HERE. {GIVE_H5}",
    ),
    "a terminal that can do nothing": (
        "summary nothing.h5", {"TERM": "dumb", "COLUMNS": "1", "FORCE_COLOR": "1"},
        5, f"nothing.h5: no such checkpoint in HERE. {GIVE_H5}",
    ),
    "no network": (
        "evaluate model.h5",
        {"MNISTCLI_OFFLINE": "", "https_proxy": "http://127.0.0.1:9", "no_proxy": "",
         "MNISTCLI_DATA_DIR": "data"},
        4, "mnist.npz: not in data, and cannot be downloaded from storage.googleapis.com or s3.amazonaws.com:"
        " Connection refused. Check the network and try again, or name the folder of your mnist.npz"
        " with --data-dir, or use --dataset synthetic",
    ),
    "a data folder that is a file": (
        "evaluate model.h5",
        {"MNISTCLI_DATA_DIR": "data/../taken.h5"},
        4, "MNISTCLI_DATA_DIR: data/../taken.h5 is a file. Name the folder it is in, data/..",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_hostile_environment_gets_one_line_and_changes_nothing(
    workshop: Run, spawn: Run, tmp_path: Path, name: str
) -> None:
    words, env, code, message = ENVIRONMENTS[name]
    before = take_snapshot(tmp_path)
    line = f"mnistcli: error: {message}\n".replace("HERE", str(tmp_path))
    ended = spawn(*words.split(" "), env=env)
    assert (ended.code, ended.out, ended.err) == (code, "", line)
    check_error_object(spawn(*words.split(" "), "--json", env=env), code, line)
    assert take_snapshot(tmp_path) == before


def test_a_closed_stdin_is_an_empty_image(workshop: Run, spawn: Run) -> None:
    ended = spawn("predict", "model.h5", "-", preexec_fn=lambda: os.close(0))
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == f"mnistcli: error: stdin: the file is empty. {FORMATS}\n"


def test_what_is_no_image_may_come_through_a_pipe(workshop: Run, spawn: Run) -> None:
    with Path("taken.h5").open("rb") as text:
        ended = spawn("predict", "model.h5", "-", stdin=text)
    assert (ended.code, ended.out) == (4, "")
    assert (
        ended.err
        == f"mnistcli: error: stdin: is a text file, not an image that can be read. {FORMATS}\n"
    )


def test_a_working_directory_that_was_deleted(spawn: Run, tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    ended = spawn("train", "xor", "--dry-run", cwd=doomed, preexec_fn=doomed.rmdir)
    assert (ended.code, ended.out, ended.err) == (
        7,
        "",
        "mnistcli: error: working directory: it was deleted or cannot be reached."
        " Go to one that exists, cd ~ for example\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that nobody can write, root included."""
    place = tmp_path / "read only"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_working_directory_that_cannot_be_written(spawn: Run, read_only: Path) -> None:
    for words in (("train", "xor", "--dry-run"), ("train", "xor", "--dry-run", "-o", "m.h5")):
        ended = spawn(*words, cwd=read_only)
        assert (ended.code, ended.out, ended.err) == (
            7,
            "",
            f"mnistcli: error: {read_only}: this folder is not writable."
            " Choose another place with -o\n",
        )


@pytest.mark.slow
def test_neither_a_home_nor_a_cache_is_needed(spawn: Run, workshop: Run, tmp_path: Path) -> None:
    before = take_snapshot(tmp_path)
    env = {"HOME": "/dev/null/me", "XDG_CACHE_HOME": "/dev/null/cache", "KERAS_HOME": ""}
    ended = spawn("train", "--dataset", "synthetic", "--dry-run", "--json", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert take_snapshot(tmp_path) == before


def test_another_backend_in_the_environment_changes_nothing(spawn: Run) -> None:
    env = {"KERAS_BACKEND": "jax", "TERM": "dumb"}
    ended = spawn("train", "xor", "--epochs", 1, "-q", "-o", "m.h5", env=env)
    assert (ended.code, ended.out, ended.err) == (0, "m.h5\n", "")


def test_data_in_a_folder_whose_name_is_no_text_train_a_checkpoint_that_can_be_read(
    run: Run, digits_directory: Path
) -> None:
    Path("\udcff").symlink_to(digits_directory)
    words = ("train", "--epochs", 1, "--data-dir", "\udcff", "-o", "m.h5")
    assert run(*words, "-q", "--json").code == 0
    assert run("summary", "m.h5").code == 0
