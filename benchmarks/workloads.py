"""The workloads that every contender trains: the same network, data, batch, optimizer, threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnistcli.config.schema import Config, DatasetConfig
from mnistcli.datasets.base import Split
from mnistcli.datasets.registry import load_dataset, search_from_environment


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    title: str
    dataset: str
    hidden: tuple[int, ...]
    optimizer: str
    batch_size: int
    dropout: float = 0.0

    @property
    def learning_rate(self) -> float:
        return 0.01 if self.optimizer == "sgd" else 0.001

    @property
    def config(self) -> Config:
        model: dict[str, object] = {"type": "softmax"}
        if self.hidden:
            model = {"type": "mlp", "hidden": list(self.hidden), "dropout": self.dropout}
        return Config.model_validate(
            {
                "dataset": {"name": self.dataset},
                "model": model,
                "training": {
                    "epochs": 1_000_000,
                    "batch_size": self.batch_size,
                    "optimizer": self.optimizer,
                    "loss": "sparse_categorical_crossentropy",
                },
            }
        )


WORKLOADS = {
    "softmax-sgd-1024": Workload("softmax, SGD, batch 1024", "mnist", (), "sgd", 1024),
    "softmax-sgd-32": Workload("softmax, SGD, batch 32", "mnist", (), "sgd", 32),
    "softmax-adam-100": Workload("softmax, Adam, batch 100", "mnist", (), "adam", 100),
    "mlp-adam-32": Workload("MLP 128, Adam, batch 32", "mnist", (128,), "adam", 32),
    "mlp-dropout-32": Workload(
        "MLP 128, Adam, batch 32, dropout 0.2", "mnist", (128,), "adam", 32, 0.2
    ),
    "cifar-mlp-1024": Workload(
        "CIFAR MLP 512-120-512, Adam, batch 1024", "cifar10", (512, 120, 512), "adam", 1024
    ),
}


def load_training_set(name: str) -> Split:
    """The real training set; random images of its size where it cannot be had."""
    from mnistcli.errors import DataError

    try:
        return load_dataset(
            DatasetConfig(name=name), frozenset({"train"}), search_from_environment(None)
        ).train
    except DataError:
        shape = (60000, 28, 28) if name == "mnist" else (50000, 32, 32, 3)
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, shape, np.uint8)
        return Split(images, generator.integers(0, 10, shape[0], np.uint8))


def data_folder_note() -> str:
    """Where the data came from, for the report."""
    return ", ".join(str(Path(d).name) for d in search_from_environment(None).directories)
