"""Recipes: they are the published experiments, and their headers say how to run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mnistcli.config.loading import load_config
from mnistcli.config.recipes import find_recipe, list_recipes
from mnistcli.config.schema import (
    Adam,
    Config,
    DatasetConfig,
    HiddenLayer,
    MlpModel,
    NamedInitializer,
    RandomNormal,
    Sgd,
    SoftmaxModel,
    TrainingConfig,
)
from mnistcli.errors import UsageError

_SGD = Sgd(name="sgd", learning_rate=0.01)
_ADAM = Adam(name="adam", learning_rate=0.001)
_NORMAL = RandomNormal(name="random_normal", mean=0.0, stddev=1.0)
_GLOROT, _ZEROS = NamedInitializer(name="glorot_uniform"), NamedInitializer(name="zeros")
_SOFTMAX = SoftmaxModel(
    output_activation="softmax",
    flatten=False,
    kernel_initializer=_GLOROT,
    bias_initializer=_ZEROS,
)


def mnist(validation: float | str = 0.0) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {"name": "mnist", "normalization": "unit", "validation": validation}
    )


def training(epochs: int, batch_size: int, optimizer: Sgd | Adam, **more: object) -> TrainingConfig:
    one_hot = {"loss": "categorical_crossentropy", "shuffle": True, "seed": 0}
    return TrainingConfig.model_validate(
        {"epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, **one_hot, **more}
    )


EXPECTED = {
    "mnist-softmax": Config(dataset=mnist(), model=_SOFTMAX, training=training(100, 1024, _SGD)),
    "mnist-softmax-b2048": Config(
        dataset=mnist(), model=_SOFTMAX, training=training(100, 2048, _SGD)
    ),
    "mnist-softmax-sgd5": Config(
        dataset=mnist("test"), model=_SOFTMAX, training=training(5, 32, _SGD)
    ),
    "mnist-softmax-b100": Config(
        dataset=mnist("test"), model=_SOFTMAX, training=training(5, 100, _SGD)
    ),
    "mnist-softmax-adam": Config(
        dataset=mnist("test"),
        model=SoftmaxModel(flatten=True),
        training=training(15, 100, _ADAM, loss="sparse_categorical_crossentropy"),
    ),
    "mnist-mlp": Config(
        dataset=mnist(),
        model=MlpModel(
            type="mlp", hidden=(HiddenLayer(units=128),), activation="relu", flatten=True
        ),
        training=training(5, 32, _ADAM, loss="sparse_categorical_crossentropy"),
    ),
    "mnist-gradient-tape": Config(
        dataset=mnist(),
        model=SoftmaxModel(kernel_initializer=_NORMAL, bias_initializer=_NORMAL),
        training=training(50, 100, Sgd(name="sgd", learning_rate=0.15), shuffle=False),
    ),
    "cifar10-mlp": Config(
        dataset=DatasetConfig(name="cifar10", normalization="standard", validation="test"),
        model=MlpModel(
            type="mlp",
            hidden=(
                HiddenLayer(units=512, name="Hidden1"),
                HiddenLayer(units=120, name="Hidden2"),
                HiddenLayer(units=512, name="Hidden3"),
            ),
            activation="relu",
            output_activation="sigmoid",
            flatten=False,
        ),
        training=training(10, 1024, _ADAM),
    ),
    "xor": Config(
        dataset=DatasetConfig(name="xor", normalization="none"),
        model=MlpModel(
            type="mlp",
            hidden=(HiddenLayer(units=8),),
            activation="relu",
            output_activation="sigmoid",
        ),
        training=training(100, 4, _ADAM, loss="mean_squared_error"),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_is_its_published_experiment(name: str) -> None:
    assert load_config(name).config == EXPECTED[name]


def test_every_recipe_is_expected_and_the_default_comes_first() -> None:
    names = [recipe.name for recipe in list_recipes()]
    assert sorted(names) == sorted(EXPECTED)
    assert names[0] == "mnist-softmax"


def test_no_source_means_the_default_recipe() -> None:
    loaded = load_config(None)
    assert (loaded.source, loaded.config) == ("mnist-softmax", EXPECTED["mnist-softmax"])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_header_says_how_to_run_it_and_what_was_published(name: str) -> None:
    header = find_recipe(name).header
    start = header.index(f"Run:       mnistcli train {name}")
    assert header[start + 1].startswith("Time:      ")
    assert "figure                published   seed 0" in "\n".join(header[start:])


def test_a_recipe_wins_over_a_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xor").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("xor").config == EXPECTED["xor"]


def test_a_misspelt_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_recipe("mnist-mpl")
    assert str(caught.value) == "mnist-mpl: no such recipe. Did you mean mnist-mlp?"


def test_the_config_package_imports_neither_pydantic_nor_heavier_things_until_it_is_used() -> None:
    script = (
        "import sys, mnistcli.config\n"
        "assert not {'pydantic', 'yaml'} & set(sys.modules)\n"
        "from mnistcli.config.loading import load_config\n"
        "load_config(None)\n"
        "assert not {'numpy', 'keras', 'tensorflow', 'rich', 'h5py'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
