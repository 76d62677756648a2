"""What an unknown file is, by its contents, and what a name is that leads to none."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import pickle
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from conftest import Run, Train, save_with_keras
from helpers.checkpoints import write_dense
from mnistcli.file_kinds import Purpose, explain_wrong_kind

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1454184\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"
MNIST_CSV = b"label," + b",".join(b"pixel%d" % i for i in range(784)) + b"\n5,0,0"
TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


def draw(format_name: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (28, 28)).save(stream, format_name)
    return stream.getvalue()


def archive(member: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(member, "contents")
    return stream.getvalue()


def save_arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x_train=np.zeros((2, 28, 28), np.uint8))
    return stream.getvalue()


def save_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((28, 28), np.uint8))
    return stream.getvalue()


def save_keras(folder: Path) -> bytes:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    return save_with_keras(network, folder / "m.keras").read_bytes()


def make_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo("cats/1.png"))
    return stream.getvalue()


CHECKPOINTS = {
    "LFS pointer": (LFS, "is a Git LFS pointer", "fetch the file itself: git lfs pull"),
    "page": (PAGE, "is an HTML page", "download the file itself, not the page that links to it"),
    "arrays": (save_arrays(), "is an .npz file of arrays", "train on it: mnistcli train --data f"),
    "array": (
        save_array(), "is a NumPy array",
        "name the checkpoint before it: mnistcli predict MODEL.h5 f",
    ),
    "PyTorch": (archive("archive/data.pkl"), "is a PyTorch file", "layer.set_weights([…])"),
    "old PyTorch": (TORCH_MAGIC, "is a PyTorch file", "layer.set_weights([…])"),
    "zip": (archive("cats/1.png"), "is a zip archive", "unpack it first"),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle", "model.save('model.h5')"),
    "gzip": (gzip.compress(b"a"), "is a gzip file", "unpack it first: gunzip f"),
    "tar": (make_tar(), "is a tar archive", "unpack it first: tar -xf f"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x05", "is an ONNX file", "layer.set_weights([…])"),
    "safetensors": (
        b"\x32\0\0\0\0\0\0\0" + b'{"__metadata__":{}}', "is a safetensors file",
        "layer.set_weights([…])",
    ),
    "SavedModel": (b"\x08\x01\x12\xce\x3c", "is a TensorFlow SavedModel", "model.save('model.h5')"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3", "is a TensorFlow Lite file", "model.save('model.h5')"),
    "JSON": (
        b'{"module": "keras", "class_name": "Sequential"}', "is a Keras network without weights",
        "save it with its weights: model.save('model.h5')",
    ),
    "config": (
        b"# mine\n\ntraining:\n  epochs: 3\n", "is a config", "train with it: mnistcli train f",
    ),
    "YAML": (b"path: data\nnc: 3\n", "is a YAML file", "give a .h5 file"),
    "table": (MNIST_CSV, "is a table of text", "give a .h5 file"),
    "program": (b"import keras\n", "is a Python program", "run it with python"),
    "picture": (draw("PNG"), "is an image", "mnistcli predict MODEL.h5 f"),
    "IDX": (b"\0\0\x08\x03\0\0\x27\x10", "is an IDX file", "--data-dir"),
}  # fmt: skip
IMAGES = {
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(9), "is a HEIC picture", "convert it to PNG or JPEG"),
    "AVIF": (b"\0\0\0\x20ftypavif" + bytes(9), "is an AVIF picture", "convert it to PNG or JPEG"),
    "PDF": (draw("PDF"), "is a PDF file", "convert it to PNG or JPEG"),
    "SVG": (
        b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="a"/>', "is an SVG drawing",
        "convert it to PNG or JPEG",
    ),
    "video": (b"\0\0\0\x18ftypmp42", "is a video", "save single pictures of it as PNG"),
    "LFS pointer": (LFS, "is a Git LFS pointer", "git lfs pull"),
    "page": (PAGE, "is an HTML page", "download the file itself"),
    "table": (MNIST_CSV, "is a table of text", "numpy.save('image.npy', row.reshape(28, 28)"),
    "checkpoint": (
        b"\x89HDF\r\n\x1a\n", "is an HDF5 file",
        "name the images after the checkpoint: mnistcli predict f IMAGE.png",
    ),
}  # fmt: skip
CONFIGS = {
    "LFS pointer": (LFS, "is a Git LFS pointer", "git lfs pull"),
    "arrays": (save_arrays(), "is an .npz file of arrays", "mnistcli train --data f"),
    "program": (b"#!/usr/bin/env python3\n", "is a Python program", "mnistcli recipes show"),
    "checkpoint": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", "mnistcli train --resume f"),
    "table": (MNIST_CSV, "is a table of text", "give a YAML file"),
}
DATA = {
    "zip": (archive("cats/1.png"), "is a zip archive", "unpack it first"),
    "table": (MNIST_CSV, "is a table of text", "numpy.loadtxt"),
    "checkpoint": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", "numpy.savez"),
    "config": (b"dataset:\n  name: xor\n", "is a config", "mnistcli train f"),
    "page": (PAGE, "is an HTML page", "download the file itself"),
}
GIVEN_AS: dict[Purpose, dict[str, tuple[bytes, str, str]]] = {
    "checkpoint": CHECKPOINTS, "image": IMAGES, "config": CONFIGS, "data": DATA,
}  # fmt: skip
ROWS = [(purpose, name) for purpose, rows in GIVEN_AS.items() for name in rows]


@pytest.mark.parametrize(("purpose", "name"), ROWS)
def test_a_file_is_named_by_its_first_bytes_with_its_cure(purpose: Purpose, name: str) -> None:
    head, what, hint = GIVEN_AS[purpose][name]
    explained = explain_wrong_kind(head, purpose, "f")
    assert explained is not None
    assert explained[0].startswith(f"{what}, not a")
    assert hint in explained[1]


@pytest.mark.parametrize(
    ("purpose", "head"),
    [
        ("config", b"# mine\ntraining: {epochs: 3}\n"),
        ("config", b"{training: {epochs: 3}}"),
        ("config", b"nonsense: 3\n"),
        ("config", b""),
        ("data", save_arrays()),
        ("checkpoint", b"\x89HDF\r\n\x1a\n"),
        ("image", draw("PNG")),
        ("image", b"\x99\x01\x02 nothing known"),
    ],
)
def test_what_may_be_what_was_wanted_is_left_to_its_reader(purpose: Purpose, head: bytes) -> None:
    assert explain_wrong_kind(head, purpose, "f") is None


def test_every_command_names_a_file_that_is_not_what_it_takes(
    run: Run, train_once: Train, tmp_path: Path
) -> None:
    model = train_once("--epochs", 1)
    Path("a b.h5").write_bytes(save_keras(tmp_path))
    Path("lfs.png").write_bytes(LFS)
    Path("a b.npz").write_bytes(save_arrays())
    zipped = (
        "a b.h5: is a Keras .keras file, not an HDF5 file."
        " Save it as HDF5: keras.models.load_model('model.keras').save('model.h5')"
    )
    image = "an image that can be read"
    pointer = "is a Git LFS pointer, not {}. Fetch the file itself: git lfs pull"
    for words, code, line in (
        (("evaluate", "a b.h5"), 5, zipped),
        (("summary", "a b.h5"), 5, zipped),
        (("train", "--init-from", "a b.h5"), 5, zipped),
        (("predict", model, "lfs.png"), 4, f"lfs.png: {pointer.format(image)}"),
        (("train", "lfs.png"), 2, f"lfs.png: {pointer.format('a config')}"),
        (
            ("train", "a b.npz"), 2,
            "a b.npz: is an .npz file of arrays, not a config."
            " Train on it: mnistcli train --data 'a b.npz'",
        ),
    ):  # fmt: skip
        ended = run(*words)
        assert (ended.code, ended.err) == (code, f"mnistcli: error: {line}\n")


def test_a_folder_is_named_by_what_it_holds(run: Run) -> None:
    saved = Path("saved model")
    saved.mkdir()
    assert run("train", saved).err == (
        "mnistcli: error: saved model: is a folder."
        " Train on the images in it: mnistcli train --data 'saved model'\n"
    )
    (saved / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    for command, code in (("evaluate", 5), ("train", 2)):
        ended = run(command, saved)
        assert (ended.code, ended.err) == (
            code,
            "mnistcli: error: saved model: is a TensorFlow SavedModel folder."
            " Save the whole network with model.save('model.h5') in Keras\n",
        )


def test_weights_alone_and_other_arrays_are_named_with_their_shapes(run: Run) -> None:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="out")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's about what Keras does
        network.save_weights("w.weights.h5")
    with h5py.File("old.h5", "w") as file:  # as Keras 2 saved weights
        file.attrs["layer_names"] = [b"out"]
        file["out/out/kernel:0"] = np.zeros((4, 2), np.float32)
    with h5py.File("usps.h5", "w") as file:
        file["train/data"], file["train/target"] = np.zeros((20, 256)), np.zeros(20)
    build = "Build the network, model.load_weights(…) and model.save('model.h5') in Keras"
    for name, what in (
        (
            "w.weights.h5",
            "weights without their network: layers/dense/vars/0 (4, 2), layers/dense/vars/1 (2,)."
            f" {build}",
        ),
        ("old.h5", f"weights without their network: out/out/kernel:0 (4, 2). {build}"),
        (
            "usps.h5",
            "no Keras network: it holds train/data (20, 256), train/target (20,)."
            " Save the whole model with model.save('model.h5')",
        ),
    ):  # fmt: skip
        ended = run("summary", name)
        assert (ended.code, ended.err) == (5, f"mnistcli: error: {name}: {what}\n")


def test_a_file_of_keras_1_is_named_with_what_reads_it(run: Run) -> None:
    with h5py.File(write_dense(Path("old.h5")), "r+") as file:
        file.attrs["keras_version"] = "1.2.2"
    assert run("summary", "old.h5").err == (
        "mnistcli: error: old.h5: saved by Keras 1.2.2, whose layers have other settings."
        " Load it in Keras 2.2, and save it: model.save('model.h5')\n"
    )


def test_a_checkpoint_is_known_by_its_contents_not_its_name(run: Run) -> None:
    network = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    save_with_keras(network, Path("net.h5")).rename("net")
    named, unnamed = run("summary", "xor"), run("summary", "net", "--json")
    assert (unnamed.code, unnamed.json["total_parameters"]) == (0, 7850)
    assert run("summary", "net", "--weights").code == 0
    Path("net").rename("xor")  # a recipe's name wins, as it does for train
    assert run("summary", "xor").out == named.out


WRITER = """
import sys, h5py
file = h5py.File('open.h5', 'w', libver=sys.argv[1])
file['a'] = [1.0] * 1000
file.flush()
print('ready', flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_is_being_written_is_not_called_damaged(run: Run, libver: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, libver], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        while_open = run("summary", "open.h5"), run("ls", "open.h5", "--json")
    finally:
        writer.kill()
        writer.communicate()
    reason = "another program has it open for writing"
    assert while_open[0].err == (
        f"mnistcli: error: open.h5: {reason}. Wait until that has closed it\n"
    )
    assert while_open[1].json["checkpoints"][0]["reason"] == reason
    after_kill = run("summary", "open.h5").err
    assert ("remove HDF5's mark with h5clear -s" in after_kill) is (libver == "latest")
    with Path("open.h5").open("rb") as file:  # our own lock is gone
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("https://a.org/m.h5?x=1&y", "it is a URL. Download it first: curl -LO 'https://a.org/m.h5?x=1&y'"),
        ("file:///data/m.h5", "it is a URL. Write its path: /data/m.h5"),
        ("s3://bucket/m.h5", "it is a URL. Download it first"),
        ("$HOME/m.h5", "no shell has expanded it. Write /home/me/m.h5"),
        ("~/m y.h5", "no shell has expanded it. Write '/home/me/m y.h5'"),
        (r"C:\Users\me\m.h5", "it is written as on Windows. Write /mnt/c/Users/me/m.h5"),
        (r"runs\m.h5", "it is written as on Windows. Write runs/m.h5"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_path_of_this_system_is_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for words, what in (
        (("evaluate", name), "no such checkpoint"),
        (("train", name), "no such file or recipe"),
        (("ls", name), "no such file or folder"),
    ):
        err = run(*words).err
        assert err.endswith(f": {what}: {message}\n"), err


def test_a_relative_path_is_shown_with_the_folder_that_was_looked_in(
    run: Run, tmp_path: Path
) -> None:
    line = json.loads(run("evaluate", "runs/m.h5", "--json").out)["error"]["message"]
    assert line == f"no such checkpoint in {tmp_path}/runs"
    assert run("evaluate", "/nowhere/m.h5").err.startswith(
        "mnistcli: error: /nowhere/m.h5: no such checkpoint. "
    )


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("s3://bucket/m.h5", "it is a URL. Choose a folder of this machine"),
        ("$HOME/runs/m.h5", "no shell has expanded it. Write /home/me/runs"),
        ("~/m.h5", "no shell has expanded it. Write /home/me"),
    ],
)
def test_a_folder_to_write_to_is_not_made_under_a_name_that_is_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, output: str, message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    ended = run("train", "-o", output)
    assert ended.code == 7
    assert ended.err.endswith(f": this folder does not exist: {message}\n")
