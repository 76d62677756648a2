"""What an unknown file is, by its first bytes, and how what is needed can be made from it.

Nothing is parsed: the first bytes are compared with patterns, so that any file can be looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HEAD_BYTES = 4096
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOT_HDF5 = "not an HDF5 file"
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # no EPS: it starts a program
FORMATS_HINT = f"images are read from {', '.join(IMAGE_FORMATS)} files"
CHECKPOINT_HINT = "give a .h5 file that mnistcli or Keras saved"
_GZIP = b"\x1f\x8b"

Purpose = Literal["checkpoint", "config", "image", "data"]
"""What a file was given as."""

_WANTED: dict[Purpose, str] = {
    "checkpoint": "an HDF5 file",
    "config": "a config",
    "image": "an image that can be read",
    "data": "an .npz file",
}
_DEFAULT_HINTS: dict[Purpose, str] = {
    "checkpoint": CHECKPOINT_HINT,
    "config": "give a YAML file, see mnistcli recipes show mnist-mlp",
    "image": FORMATS_HINT,
    "data": "give a folder of images, or arrays written with"
    " numpy.savez('data.npz', x_train=…, y_train=…, x_test=…, y_test=…)",
}
_UNPACK = "unpack it first"
_CONVERT: dict[Purpose, str] = {"image": "convert it to PNG or JPEG"}
_EXPORT = "save the whole network with model.save('model.h5') in Keras"
_TRANSFER = (
    "copy its arrays into a Keras network with layer.set_weights([…]), then save that with"
    " model.save('model.h5')"
)
_PREDICT = "name the checkpoint before it: mnistcli predict MODEL.h5 {file}"
_TRAIN_ON = "train on it: mnistcli train --data {file}"
_SAVE_ARRAYS = "save its arrays with numpy.savez('data.npz', x_train=…, y_train=…, x_test=…, …)"


@dataclass(frozen=True)
class _FileKind:
    """A kind of file.

    Attributes:
        name: with its article.
        pattern: of the file's first bytes.
        hint: how what is needed can be made from it, whatever that is.
        hints: where it depends on what the file was given as; {file} is its quoted path.
        suits: what such a file may be given as.
    """

    name: str
    pattern: bytes
    hint: str = ""
    hints: dict[Purpose, str] = field(default_factory=dict)
    suits: Purpose | None = None


_LINE = rb"(?:[ \t]*(?:#[^\n]*)?\r?\n|---[ \t]*\r?\n)*"  # blank ones and comments
_CELL = rb'"?[\w.:/\\ ()+-]{0,100}"?'
_ZIP = rb"PK\x03\x04.{26}"  # then the first member's name
_IMAGE_HINTS: dict[Purpose, str] = {
    "checkpoint": _PREDICT,
    "config": _PREDICT,
    "data": "give the folder that holds a folder for each class",
}
_KINDS = (
    _FileKind(
        "a Git LFS pointer", rb"version https://git-lfs", "fetch the file itself: git lfs pull"
    ),
    _FileKind(
        "an HTML page",
        rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body)\b",
        "download the file itself, not the page that links to it",
    ),
    _FileKind(
        "an HDF5 file",
        re.escape(HDF5_SIGNATURE),
        hints={
            "image": "name the images after the checkpoint: mnistcli predict {file} IMAGE.png",
            "config": "go on with a run: mnistcli train --resume {file}",
            "data": _SAVE_ARRAYS,
        },
        suits="checkpoint",
    ),
    _FileKind(
        "a Keras .keras file",
        _ZIP + rb"(?:metadata|config)\.json",
        "save it as HDF5: keras.models.load_model('model.keras').save('model.h5')",
    ),
    _FileKind(
        "an .npz file of arrays",
        _ZIP + rb"[^/]{1,64}\.npy",
        hints={
            "checkpoint": _TRAIN_ON,
            "config": _TRAIN_ON,
            "image": "save the images alone with numpy.save('images.npy', x_test)",
        },
        suits="data",
    ),
    _FileKind("a PyTorch file", rb"PK\x03\x04.{2,226}/(?:data|constants)\.pkl", _TRANSFER),
    _FileKind("a PyTorch file", rb"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", _TRANSFER),
    _FileKind(
        "a zip archive", rb"PK(?:\x03\x04|\x05\x06)", "unpack it first, and give what is in it"
    ),
    _FileKind(
        "a pickle",
        rb"\x80[\x02-\x05]",
        "pickles can run any program and are not read: save arrays with numpy.savez, networks with"
        " model.save('model.h5')",
    ),
    _FileKind("a TensorFlow SavedModel", rb"\x08\x01\x12", _EXPORT),
    _FileKind("an ONNX file", rb"\x08[\x01-\x14](?:\x12[\x01-\x40][\x20-\x7e]{3}|\x3a)", _TRANSFER),
    _FileKind("a safetensors file", rb".{5}\0\0\0\{\"", _TRANSFER),
    _FileKind("a TensorFlow Lite file", rb".{4}TFL3", _EXPORT),
    _FileKind("a GGUF file", rb"GGUF", _TRANSFER),
    _FileKind("a HEIC picture", rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", hints=_CONVERT),
    _FileKind("an AVIF picture", rb".{4}ftypavi[fs]", hints=_CONVERT),
    _FileKind("a JPEG XL picture", rb"\xff\x0a|\0\0\0\x0cJXL ", hints=_CONVERT),
    _FileKind("a JPEG 2000 picture", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", hints=_CONVERT),
    _FileKind(
        "an SVG drawing",
        rb"(?s)\s*(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE svg[^>]*>|\s)*<svg",
        hints=_CONVERT,
    ),
    _FileKind("a PDF file", rb"%PDF-", hints=_CONVERT),
    _FileKind("a PostScript file", rb"%!PS", hints=_CONVERT),
    _FileKind("a Photoshop file", rb"8BPS", hints=_CONVERT),
    _FileKind("an icon", rb"\0\0\x01\0[\x01-\xff]\0", hints=_CONVERT),
    _FileKind("a DICOM file", rb".{128}DICM", hints=_CONVERT),
    _FileKind(
        "a video", rb".{4}ftyp|RIFF.{4}AVI |\x1aE\xdf\xa3", "save single pictures of it as PNG"
    ),
    _FileKind(
        "an image",
        rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0\0\0\0|II\*\0|MM\0\*|RIFF.{4}WEBP|P[1-6]\s",
        hints=_IMAGE_HINTS,
        suits="image",
    ),
    _FileKind(
        "a NumPy array",
        rb"\x93NUMPY",
        hints={"checkpoint": _PREDICT, "config": _PREDICT, "data": _SAVE_ARRAYS},
    ),
    _FileKind(
        "an IDX file",
        rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x04]",
        "give the folder of MNIST's four files with --data-dir",
    ),
    _FileKind("a MATLAB file", rb"MATLAB \d", _SAVE_ARRAYS),
    _FileKind("a Parquet file", rb"PAR1", _SAVE_ARRAYS),
    _FileKind("an SQLite database", rb"SQLite format 3\0"),
    _FileKind("a gzip file", re.escape(_GZIP), "unpack it first: gunzip {file}"),
    _FileKind("a compressed file", rb"BZh\d|\xfd7zXZ\0|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", _UNPACK),
    _FileKind("a tar archive", rb".{257}ustar", "unpack it first: tar -xf {file}"),
    _FileKind(
        "a Keras network without weights",
        rb'\s*\{\s*"(?:class_name|module)"',
        "save it with its weights: model.save('model.h5')",
        {"config": "a config is YAML with the blocks dataset, model and training"},
    ),
    _FileKind(
        "a Python program",
        rb"#![^\n]*python|(?:" + _LINE + rb')(?:from [\w.]+ import|import \w|"""|def \w+\()',
        "run it with python",
        {"config": "a config is YAML: see mnistcli recipes show mnist-mlp"},
    ),
    _FileKind(
        "a config",
        rb"(?:\xef\xbb\xbf)?" + _LINE + rb"(?:dataset|model|training):\s",
        "train with it: mnistcli train {file}",
        suits="config",
    ),
    _FileKind(
        "a YAML file",
        rb"(?:\xef\xbb\xbf)?" + _LINE + rb"['\"]?[A-Za-z_]\w*['\"]?:\s",
        suits="config",
    ),
    _FileKind(
        "a table of text",
        rb"(?:\xef\xbb\xbf)?" + _CELL + rb"(?:[,;\t]" + _CELL + rb")+(?:\r?\n|$)",
        hints={
            "data": "read it with numpy.loadtxt and save its arrays with"
            " numpy.savez('data.npz', x_train=…, y_train=…, x_test=…, y_test=…)",
            "image": "a row of a table becomes an image with"
            " numpy.save('image.npy', row.reshape(28, 28).astype('uint8'))",
        },
    ),
    _FileKind("a text file", rb"[\t\n\r\x20-\x7e\x80-\xff]+\Z", suits="config"),
)


def explain_wrong_kind(head: bytes, purpose: Purpose, file: str) -> tuple[str, str] | None:
    """Return what a file is instead of what it was given as, and what to do about it.

    Args:
        head: its first `HEAD_BYTES` bytes, or all of it.
        purpose: what it was given as.
        file: its path, for the commands in the hint.

    Returns:
        A phrase that goes on after the file's name, `is an HTML page, not a config`, and a hint;
        None where nothing is known of such a file, or it may be what was wanted.
    """
    head = head[:HEAD_BYTES]
    kind = next((kind for kind in _KINDS if re.match(kind.pattern, head, re.DOTALL)), None)
    if kind is None or kind.suits == purpose:
        return None
    hint = kind.hints.get(purpose, kind.hint) or _DEFAULT_HINTS[purpose]
    return f"is {kind.name}, not {_WANTED[purpose]}", hint.replace("{file}", shlex.quote(file))


def explain_folder(folder: Path, purpose: Purpose) -> tuple[str, str]:
    """Return what a folder is instead of the file that it was given as, and what to do about it."""
    quoted = shlex.quote(str(folder))
    if (folder / "saved_model.pb").is_file():
        return "is a TensorFlow SavedModel folder", _EXPORT
    if purpose == "checkpoint" and any(folder.glob("*.h5")):
        return "is a folder", f"name a file in it: mnistcli ls {quoted}"
    if purpose == "checkpoint":
        return "is a folder", _DEFAULT_HINTS[purpose]
    return "is a folder", f"train on the images in it: mnistcli train --data {quoted}"


def is_existing_path(name: str) -> bool:
    """Return whether there is a file or folder of a name."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def is_gzipped(path: Path) -> bool:
    """Return whether a file is gzipped, by its contents.

    Browsers unpack what they download, and keep its name.
    """
    return read_head(path).startswith(_GZIP)


def read_head(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a regular file; nothing of any other, or where that fails."""
    try:
        # Opening a pipe could block for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(HEAD_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except (OSError, ValueError):
        return b""


def explain_missing(name: str, what: str, hint: str) -> tuple[str, str]:
    r"""Return why there is no file of a name, and what to do about it.

    Args:
        name: as it was typed: `my.yaml`, but perhaps `https://…`, `$HOME/…` or `C:\…`.
        what: `no such checkpoint`.
        hint: what to do where it is a plain name.
    """
    url = _match_url(name)
    is_remote = url is not None and "http" in url[1]
    command = f": curl -LO {shlex.quote(f'{url[1]}://{url[2]}')}" if url and is_remote else ""
    if odd := explain_odd_name(name, f"download it first{command}"):
        return f"{what}: {odd[0]}", odd[1]
    with contextlib.suppress(OSError):  # the working directory may have been deleted
        if name and "\0" not in name and not Path(name).is_absolute():
            return f"{what} in {Path.cwd() / Path(name).parent}", hint
    return what, hint


def explain_odd_name(name: str, url_hint: str) -> tuple[str, str] | None:
    """Return why a name is no path of this system, and what to do; None where it may be one."""
    url = _match_url(name)
    expanded = os.path.expandvars(os.path.expanduser(name))  # noqa: PTH111 (it need be no path)
    if url and url[1] == "file":
        return "it is a URL", f"write its path: {shlex.quote('/' + url[2])}"
    if url:
        return "it is a URL", url_hint
    if expanded != name:
        return "no shell has expanded it", f"write {shlex.quote(expanded)}"
    if os.sep == "/" and "\\" in name:
        path = re.sub(r"^[A-Za-z]:", lambda drive: f"/mnt/{drive[0][0].lower()}", name)
        slashes = shlex.quote(path.replace("\\", "/"))
        return "it is written as on Windows", f"write {slashes}"
    return None


def _match_url(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"([A-Za-z][A-Za-z0-9]+):/{1,3}(.+)", name)  # a Path joins slashes
