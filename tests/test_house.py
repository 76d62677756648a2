"""The house: who may import whom, and that cold commands stay cold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import SOURCE, Run

PACKAGE = SOURCE / "mnistcli"

# Each layer imports only from those before it, and rooms of one layer in the order given.
LAYERS = [
    "errors", "folders", "backend", "scikit_learn", "program_cache", "atomic_file", "config",
    "layers", "image_decoding", "datasets", "preprocessing", "architecture", "memory",
    "available_memory", "state", "observer", "run_comparison", "event_files", "mistakes",
    "overfitting", "activations", "image_arrays", "photographs", "images", "inference",
    "evaluation", "baselines", "calibration", "regularization", "fast_layers", "optimizer",
    "network", "network_state", "batches", "rows", "streamed_rows", "epoch", "sharded_step",
    "sharded_epoch", "engine", "devices", "cluster", "workers", "callbacks", "pace", "training",
    "checkpoint", "environment", "sweeps", "answers", "results", "check_results",
    "config_results", "list_results", "sweep_results", "significance", "comparison_results",
    "csv_rows", "plot_results", "report_results", "answer_schemas", "plots", "report",
    "console", "cli", "__main__",
]  # fmt: skip
KERAS_ROOMS = {
    "fast_layers", "optimizer", "network", "network_state", "batches", "rows", "streamed_rows",
    "epoch", "sharded_step", "sharded_epoch", "engine", "devices", "workers", "callbacks",
    "pace", "training",
}  # fmt: skip
# inference hands what NumPy does not do to Keras, from inside one function.
ALLOWED_UPWARDS = {("inference", "network"), ("inference", "network_state")}


def list_modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def list_imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each import's module, and whether it stands at the top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"mnistcli.{a.name}" for a in node.names] if node.module == "mnistcli" else []
            for name in names or [node.module]:
                yield name, id(node) in top


@pytest.mark.parametrize("path", list_modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    for name, _ in list_imports(path):
        parts = name.split(".")
        if parts[0] != "mnistcli" or len(parts) == 1 or parts[1] in ("__version__", room):
            continue
        if room == "__init__" or (room, parts[1]) in ALLOWED_UPWARDS:
            continue
        assert LAYERS.index(parts[1]) < LAYERS.index(room), f"{path} imports {name}"


@pytest.mark.parametrize("path", list_modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_keras_rooms_import_keras_at_top_level(path: Path) -> None:
    for name, is_top in list_imports(path):
        heavy = name.split(".")[0] in ("keras", "tensorflow")
        through_us = any(name == f"mnistcli.{room}" for room in KERAS_ROOMS)
        if is_top and (heavy or through_us):
            assert room_of(path) in KERAS_ROOMS, f"{path} imports {name} at top level"


@pytest.mark.parametrize("path", list_modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and path.parent.name != "cli":
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def test_no_module_is_named_after_nothing() -> None:
    names = {path.stem for path in list_modules()}
    assert not names & {"utils", "util", "helpers", "common", "core", "manager", "misc"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model") / "model.h5"


def test_cold_commands_never_import_tensorflow_matplotlib_or_optuna(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    assert run("train", "--epochs", 1, "-o", "model.h5", "-q").code == 0
    space = "search: {training.batch_size: [32, 64]}"
    Path("sweep.yaml").write_text(
        f"config: mnist-mlp\nset: {{dataset.validation: 0.1}}\n{space}\nsampler: grid\n"
    )
    for command in (
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["summary", "model.h5"],
        ["summary", "mnist-mlp"],
        ["ls"],
        ["evaluate", "model.h5"],
        ["compare", "model.h5", "model.h5"],
        ["predict", "model.h5", "--split", "test", "--first", "2"],
        ["plot", "weights", "model.h5", "--show"],
        ["data", "mnist", "--index", "0"],
        ["report", "model.h5"],
        ["sweep", "sweep.yaml", "--dry-run"],
    ):
        program = (
            "import sys; from mnistcli.cli import app; code = app.run(sys.argv[1:]);"
            "loaded = {'keras', 'tensorflow', 'matplotlib', 'optuna'} & set(sys.modules);"
            "sys.exit(f'{loaded} were imported' if loaded else code)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, *command],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, (command, ended.stderr)


def test_help_imports_neither_numpy_nor_h5py(environment: dict[str, str]) -> None:
    program = (
        "import sys; from mnistcli.cli import app; app.run(['--help']);"
        "loaded = {'numpy', 'h5py', 'PIL'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_nothing_of_the_machine_it_was_written_on_stands_in_the_sources() -> None:
    for path in list_modules():
        assert not re.search(r"/(work|root|farm)/", path.read_text(encoding="utf-8")), path
