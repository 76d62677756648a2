"""Writing checkpoints: atomically, completely, and with the whole state of a run."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conftest import SOURCE
from helpers.checkpoints import make_record, make_run
from mnistcli import atomic_files
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import NamedArray, NetworkState, Progress, RunState
from mnistcli.checkpoints.writer import compose_checkpoint, create_checkpoint, replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split
from mnistcli.errors import ResourceError
from mnistcli.metrics.losses import LossSpec
from mnistcli.metrics.scores import evaluate_logits
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.numpy_inference import compute_penalty, run_network
from mnistcli.tensorflow_import import load_backend

load_backend()

import keras  # noqa: E402

from mnistcli.training.compile_model import compile_network, initialize_network  # noqa: E402
from mnistcli.training.network_state import capture_state, restore_state  # noqa: E402

OPTIMIZERS = [
    ({"name": "sgd", "momentum": 0.9, "nesterov": True}, "SGD"),
    ({"name": "rmsprop", "momentum": 0.5}, "RMSprop"),
    ({"name": "adam", "weight_decay": 0.01}, "Adam"),
    ({"name": "nadam"}, "Nadam"),
    ({"name": "adamw"}, "AdamW"),
]


def train_a_little(optimizer: object, digits: Split) -> tuple[keras.Sequential, Config]:
    """A compiled network with dropout after two steps, in the middle of an epoch."""
    model = {"type": "mlp", "hidden": [16, 8], "dropout": 0.2, "flatten": True}
    config = Config.model_validate(
        {
            "dataset": {"validation": "test"},
            "model": model,
            "training": {"optimizer": optimizer},
        }
    )
    network = initialize_network(plan_architecture(config.model, (28, 28), 10), config.model, 1)
    compile_network(network, config.training)
    labels = np.eye(10, dtype=np.float32)[digits.labels]
    for batch in (slice(0, 100), slice(100, 200)):
        network.train_on_batch(digits.images[batch] / np.float32(255), labels[batch])
    return network, config


def save(path: Path, network: keras.Sequential, config: Config) -> RunState:
    progress = Progress()
    if int(network.optimizer.iterations) > 0:
        history = {"val_loss": (float("inf"),), "val_accuracy": (1 / 3,)}
        progress = Progress(1, 1, history | {"loss": (1e-300,), "accuracy": (1.0,)}, (0.5,))
    state = RunState(capture_state(network), progress)
    replace_checkpoint(path, state, make_record(state.network, state.progress, None, config))
    return state


def assert_same_arrays(one: tuple[NamedArray, ...], other: tuple[NamedArray, ...]) -> None:
    assert [array.name for array in one] == [array.name for array in other]
    for first, second in zip(one, other, strict=True):
        assert first.values.dtype == second.values.dtype
        assert first.values.shape == second.values.shape
        assert first.values.tobytes() == second.values.tobytes()


def assert_same_state(one: RunState, other: RunState) -> None:
    for first, second in zip(one.network.layers, other.network.layers, strict=True):
        assert first.name == second.name
        assert_same_arrays(first.weights, second.weights)
    assert_same_arrays(one.network.optimizer, other.network.optimizer)
    assert_same_arrays(one.network.generators, other.network.generators)
    assert_same_arrays(one.network.metrics, other.network.metrics)
    assert one.progress == other.progress  # histories in any order
    assert one.network.model_config == other.network.model_config
    assert one.network.training_config == other.network.training_config


@pytest.mark.parametrize(("optimizer", "class_name"), OPTIMIZERS)
def test_plain_keras_loads_it_and_we_get_back_every_bit(
    tmp_path: Path, digits: Split, optimizer: dict[str, Any], class_name: str
) -> None:
    network, config = train_a_little(optimizer, digits)
    path = tmp_path / "model.h5"
    state = save(path, network, config)

    with warnings.catch_warnings():  # Keras cannot restore the optimizer's variables, and says so
        warnings.simplefilter("ignore")
        loaded = keras.models.load_model(path)
    for mine, theirs in zip(network.get_weights(), loaded.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert loaded.loss is keras.losses.categorical_crossentropy
    assert type(loaded.optimizer) is getattr(keras.optimizers, class_name)
    assert loaded.optimizer.get_config() == network.optimizer.get_config()
    kinds = [type(layer) for layer in loaded.layers]
    layers = keras.layers
    assert kinds == [
        layers.Flatten, layers.Dense, layers.Dropout, layers.Dense, layers.Dropout, layers.Dense,
    ]  # fmt: skip
    inputs = digits.images[:200] / np.float32(255)
    labels = np.eye(10, dtype=np.float32)[digits.labels[:200]]
    assert loaded.evaluate(inputs, labels, verbose=0) == network.evaluate(inputs, labels, verbose=0)

    back = read_checkpoint(path, "all").state
    assert back is not None
    assert len(back.network.generators) == 2
    assert any(array.values.any() for array in back.network.metrics)
    assert_same_state(back, state)

    fresh = initialize_network(plan_architecture(config.model, (28, 28), 10), config.model, 2)
    compile_network(fresh, config.training)
    restore_state(fresh, back.network)
    assert list_bits(capture_state(fresh)) == list_bits(state.network)


def test_plain_keras_loads_schedule_clipping_smoothing_and_penalties(
    tmp_path: Path, digits: Split
) -> None:
    config = Config.model_validate(
        {
            "model": {"type": "mlp", "hidden": [40], "l1": 1e-4, "l2": 1e-3},
            "training": {
                "schedule": {"name": "cosine", "epochs": 3, "warmup_epochs": 1},
                "clip": {"global_norm": 0.5},
                "label_smoothing": 0.1,
            },
        }
    )
    network = initialize_network(plan_architecture(config.model, (28, 28), 10), config.model, 1)
    compile_network(network, config.training, step_count=10)
    state = save(tmp_path / "model.h5", network, config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = keras.models.load_model(tmp_path / "model.h5")
    assert loaded.optimizer.get_config() == network.optimizer.get_config()
    assert loaded.optimizer.global_clipnorm == 0.5
    schedule = loaded.optimizer.get_config()["learning_rate"]
    assert schedule["class_name"] == "CosineDecay"
    assert schedule["config"]["warmup_steps"] == 10
    assert schedule["config"]["decay_steps"] == 20
    assert loaded.loss.get_config()["label_smoothing"] == 0.1
    inputs = digits.images.reshape(-1, 784) / np.float32(255)
    labels = np.eye(10, dtype=np.float32)[digits.labels]
    loss, accuracy = loaded.evaluate(inputs, labels, verbose=0)

    back = read_checkpoint(tmp_path / "model.h5", "all")
    assert back.loss == LossSpec("categorical_crossentropy", label_smoothing=0.1)
    assert back.architecture == plan_architecture(config.model, (28, 28), 10)
    assert back.state is not None
    assert_same_state(back.state, state)
    score = evaluate_logits(
        run_network(back.architecture, back.weights, digits.images, Preprocessing(0.0, 255.0)),
        digits.labels,
        back.architecture.head,
        back.loss,
        tuple("0123456789"),
        compute_penalty(back.architecture, back.weights),
    )
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert score.accuracy == pytest.approx(accuracy, abs=1e-6)


def list_bits(state: NetworkState) -> list[bytes]:
    """All bits of a network; the names of variables are counted up within a process."""
    arrays = (*state.optimizer, *state.generators, *state.metrics)
    return [values.tobytes() for values in (*state.weights, *(a.values for a in arrays))]


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    state, record = make_run()
    history = dict(reversed(state.progress.history.items()))
    reordered = replace(state, progress=replace(state.progress, history=history))
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for path, one in zip(paths, (state, state, reordered), strict=True):
        replace_checkpoint(path, one, record)
    assert len({path.read_bytes() for path in paths}) == 1


def test_keras_counts_the_same_layers_and_weights_in_it(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run())
    with h5py.File(path) as file:
        assert list(file["model_weights"].attrs["layer_names"]) == ["dense"]
        assert list(file["optimizer_weights"].attrs["weight_names"]) == [
            "sgd/iteration",
            "sgd/learning_rate",
        ]
        assert set(file["mnistcli/history"]) == {"loss", "accuracy", "epoch_duration_s"}


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "latest.h5", tmp_path / "elsewhere" / "run.h5"
    link.symlink_to(target)
    for epoch in (1, 2):  # at first it leads nowhere
        replace_checkpoint(link, *make_run(epoch))
        assert read_checkpoint(target).progress.epoch == epoch
    assert link.readlink() == target
    assert list_names(tmp_path) == ["elsewhere", "latest.h5"]
    assert list_names(target.parent) == ["run.h5"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_the_permissions_that_the_umask_leaves(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        replace_checkpoint(tmp_path / "replaced.h5", *make_run())
        create_checkpoint(tmp_path / "created.h5", *make_run())
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    for name in ("replaced.h5", "created.h5"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "private.h5"
    replace_checkpoint(path, *make_run(1))
    path.chmod(0o600)
    replace_checkpoint(path, *make_run(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_checkpoint_never_replaces_anything(tmp_path: Path) -> None:
    file, link = tmp_path / "file.h5", tmp_path / "link.h5"
    file.write_bytes(b"precious")
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, link):
        with pytest.raises(FileExistsError):
            create_checkpoint(path, *make_run())
    assert file.read_bytes() == b"precious"
    assert list_names(tmp_path) == ["file.h5", "link.h5"]


def test_names_of_any_legal_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 126 + ".h5")
    create_checkpoint(path, *make_run(1))
    replace_checkpoint(path, *make_run(2))
    assert list_names(tmp_path) == [path.name]


@pytest.mark.parametrize("is_taken", [False, True])
def test_without_hard_links_a_new_name_is_claimed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)  # as FAT does
    path = tmp_path / "model.h5"
    if is_taken:
        path.write_bytes(b"precious")
        with pytest.raises(FileExistsError):
            create_checkpoint(path, *make_run())
        assert path.read_bytes() == b"precious"
    else:
        create_checkpoint(path, *make_run())
        assert read_checkpoint(path).progress.epoch == 2
    assert list_names(tmp_path) == ["model.h5"]


@contextlib.contextmanager
def limit_file_size(size_bytes: int) -> Iterator[None]:
    """Writes beyond a size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", [replace_checkpoint, create_checkpoint])
def test_a_write_that_fails_half_way_leaves_everything_as_it_was(
    tmp_path: Path, write: Any
) -> None:
    path = tmp_path / "model.h5"
    if write is replace_checkpoint:
        replace_checkpoint(path, *make_run(1))
    names = list_names(tmp_path)
    with limit_file_size(10_000), pytest.raises(ResourceError) as caught:
        write(path, *make_run(2))
    assert str(caught.value) == (
        f"{path}: the checkpoint could not be written: File too large."
        " Raise the limit on the size of files (ulimit -f)"
    )
    assert list_names(tmp_path) == names
    if names:
        assert read_checkpoint(path).progress.epoch == 1


@contextlib.contextmanager
def mount_memory(directory: Path, options: str) -> Iterator[Path]:
    """A file system of its own, where the tests may make one."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs takes rights that this user does not have here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    with mount_memory(tmp_path / "disk", "size=80k") as directory:
        path = directory / "model.h5"
        replace_checkpoint(path, *make_run(1))
        with pytest.raises(ResourceError, match=r"No space left on device\. Free some space, or"):
            replace_checkpoint(path, *make_run(2))
        assert list_names(directory) == ["model.h5"]
        assert read_checkpoint(path).progress.epoch == 1


def test_a_read_only_disk(tmp_path: Path) -> None:
    with mount_memory(tmp_path / "disk", "ro") as directory:
        path = directory / "model.h5"
        for write in (replace_checkpoint, create_checkpoint):
            with pytest.raises(ResourceError) as caught:
                write(path, *make_run())
            assert str(caught.value) == (
                f"{path}: the checkpoint could not be written: Read-only file system."
                " Choose another place with -o"
            )


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"is gone\. Make it: mkdir -p /.*/missing,"):
        replace_checkpoint(tmp_path / "missing" / "model.h5", *make_run())


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.mkdir()
    with pytest.raises(ResourceError, match="could not be written: is not a regular file"):
        replace_checkpoint(path, *make_run())
    assert list_names(tmp_path) == ["model.h5"]


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"]
)
def test_a_step_that_fails_leaves_the_last_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run(1))
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(ResourceError, match="could not be written: Input/output error"):
        replace_checkpoint(path, *make_run(2))
    monkeypatch.undo()
    assert list_names(tmp_path) == ["model.h5"]
    assert read_checkpoint(path).progress.epoch == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda descriptor, _: os.pwrite(descriptor, b"!", 10_000),
        lambda descriptor, size_bytes: os.pwrite(descriptor, b"!", size_bytes),
        lambda descriptor, size_bytes: os.truncate(descriptor, size_bytes - 1),
    ],
    ids=["other", "longer", "shorter"],
)
def test_what_reads_back_differently_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run(1))
    size_bytes = path.stat().st_size

    def rot(descriptor: int) -> None:
        change(descriptor, size_bytes)

    monkeypatch.setattr(os, "fsync", rot)
    with pytest.raises(ResourceError, match="what was read back differs from what was written"):
        replace_checkpoint(path, *make_run(2))
    monkeypatch.undo()
    assert read_checkpoint(path).progress.epoch == 1


def test_signals_wait_until_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.h5"
    existed: list[bool] = []

    def interrupt(_: Path) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0o644

    monkeypatch.setattr(atomic_files, "_choose_mode", interrupt)
    before = signal.signal(signal.SIGTERM, lambda *_: existed.append(path.exists()))
    try:
        replace_checkpoint(path, *make_run())
        assert existed == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_can_save_too(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    thread = threading.Thread(target=replace_checkpoint, args=(path, *make_run()))
    thread.start()
    thread.join()
    assert read_checkpoint(path).progress.epoch == 2


# Each line that it reads is a path; it starts a process that saves ever later epochs there, tells
# its number, and then how it ended. It knows no TensorFlow, so it may fork.
SAVER = """
import os, sys
from pathlib import Path
from helpers.checkpoints import make_run
from mnistcli.checkpoints.writer import replace_checkpoint

runs = [make_run(epoch, inputs=4000) for epoch in range(1, 6)]
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        while True:
            for run in runs:
                replace_checkpoint(Path(line.strip()), *run)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Saver:
    """Starts processes that do nothing but save."""

    def __init__(self) -> None:
        self._saving = 0
        path = os.pathsep.join([str(SOURCE), str(Path(__file__).parents[1])])
        self._process = subprocess.Popen(
            [sys.executable, "-c", SAVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def start(self, path: Path) -> int:
        """Start one, and return its number."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        self._saving = self._read()
        return self._saving

    def kill(self, pid: int) -> None:
        """Kill it, and wait for its end."""
        os.kill(pid, signal.SIGKILL)
        self._saving = 0
        assert self._read() == signal.SIGKILL

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        if self._saving:  # the test failed
            os.kill(self._saving, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def saver() -> Iterator[Saver]:
    saver = Saver()
    yield saver
    saver.close()


def check_whole(path: Path) -> int:
    """The epoch of a file in which every number tells the same epoch."""
    checkpoint = read_checkpoint(path)
    epoch = checkpoint.progress.epoch
    assert all((values == epoch).all() for values in checkpoint.weights)
    assert len(checkpoint.progress.history["loss"]) == epoch
    return epoch


def test_a_reader_never_meets_anything_but_a_whole_file(saver: Saver, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    replace_checkpoint(path, *make_run(1, inputs=4000))
    pid = saver.start(path)
    epochs = set()
    for _ in range(8):
        epochs.add(check_whole(path))
        with h5py.File(path) as file:  # locks the file as other people's readers do
            assert "model_config" in file.attrs
    saver.kill(pid)
    assert len(epochs) > 1


def kill_savers(saver: Saver, directory: Path, count: int, least_left_behind: int) -> None:
    """Kill that many savers at random moments, and more until some left temporary files behind."""
    path, moments = directory / "model.h5", random.Random(0)
    replace_checkpoint(path, *make_run(1, inputs=4000))
    left_behind = 0
    for done in range(10 * count):
        if done >= count and left_behind >= least_left_behind:
            break
        pid = saver.start(path)
        time.sleep(moments.uniform(0, 0.05))
        saver.kill(pid)
        left_behind += len(list_names(directory)) - 1
        check_whole(path)
        assert len(list_names(directory)) <= 2  # the next one has cleaned up
    assert left_behind >= least_left_behind
    replace_checkpoint(path, *make_run(1))
    assert list_names(directory) == ["model.h5"]


@pytest.mark.parametrize(
    ("kills", "left_behind"), [(15, 1), pytest.param(200, 21, marks=pytest.mark.slow)]
)
def test_a_kill_at_any_moment_leaves_a_whole_file(
    saver: Saver, tmp_path: Path, kills: int, left_behind: int
) -> None:
    kill_savers(saver, tmp_path, kills, left_behind)


def test_only_what_a_killed_writer_of_the_same_file_left_behind_is_removed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.h5"
    others = [".model.h5.mnistcli-notes.tmp", ".other.h5.mnistcli-abcd1234.tmp", "model.h5.tmp"]
    left_behind = tmp_path / ".model.h5.mnistcli-abcd1234.tmp"
    for name in (*others, left_behind.name):
        (tmp_path / name).write_bytes(b"")
    descriptor, in_use = atomic_files._open_temporary(path)
    replace_checkpoint(path, *make_run())
    assert list_names(tmp_path) == sorted([*others, in_use.name, "model.h5"])
    os.close(descriptor)
    replace_checkpoint(path, *make_run())
    assert list_names(tmp_path) == sorted([*others, "model.h5"])


RACE = """
import sys, time
from pathlib import Path
from helpers.checkpoints import make_run
from mnistcli.checkpoints.writer import create_checkpoint

run = make_run(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    try:
        create_checkpoint(Path(sys.argv[1], f"{number}.h5"), *run)
        print(number)
    except FileExistsError:
        pass
"""


def test_of_processes_that_create_the_same_file_exactly_one_wins(tmp_path: Path) -> None:
    path = os.pathsep.join([str(SOURCE), str(Path(__file__).parents[1])])
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), str(epoch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for epoch in (1, 2)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    won = [racer.communicate()[0].split() for racer in racers]
    assert sorted(map(int, won[0] + won[1])) == list(range(40))
    assert list_names(tmp_path) == sorted(f"{number}.h5" for number in range(40))
    expected = {1: compose_checkpoint(*make_run(1)), 2: compose_checkpoint(*make_run(2))}
    for epoch, numbers in enumerate(won, start=1):
        for number in numbers:
            assert (tmp_path / f"{number}.h5").read_bytes().startswith(expected[epoch])
