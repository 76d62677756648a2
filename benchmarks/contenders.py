"""The ways to train one epoch, each a process that trains one whenever it is told to.

    python contenders.py CONTENDER WORKLOAD THREADS

A line on standard input starts an epoch; its wall seconds come back as a line on standard output.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

from workloads import WORKLOADS, Workload, load_training_set

from mnistcli.training.callbacks import Callback


def wait() -> None:
    """Block until the driver says go; end with it."""
    if not sys.stdin.readline():
        os._exit(0)


def answer(seconds: float) -> None:
    sys.stdout.write(f"{seconds}\n")
    sys.stdout.flush()


class Stopwatch(Callback):
    """Makes each of our epochs wait for its turn, and reports its time."""

    began_s = 0.0

    def on_epoch_end(self, progress: object) -> None:
        answer(time.perf_counter() - self.began_s)
        wait()
        self.began_s = time.perf_counter()


def run_mnistcli(workload: Workload, threads: int, precision: str = "float32") -> None:
    """Our loop as `mnistcli train` runs it, without its checkpoint file."""
    from mnistcli.tensorflow_import import load_backend

    load_backend()
    from mnistcli.models.architecture import plan_architecture
    from mnistcli.models.input_scaling import Preprocessing
    from mnistcli.training.distributed.strategies import set_thread_count
    from mnistcli.training.trainer import Trainer

    set_thread_count(threads)
    split = load_training_set(workload.dataset)
    config = workload.config
    settings = config.training.model_copy(update={"precision": precision})
    config = config.model_copy(update={"training": settings})
    architecture = plan_architecture(config.model, split.images.shape[1:], 10)
    trainer = Trainer(config, architecture, split, None, Preprocessing(0.0, 255.0))
    watch = Stopwatch()
    wait()
    watch.began_s = time.perf_counter()
    trainer.fit([watch])


def run_fit(workload: Workload, threads: int, steps_per_execution: int = 1) -> None:
    """`model.fit` with its default arguments on float32 arrays, as notebooks do."""
    from mnistcli.tensorflow_import import load_backend

    load_backend()
    import keras

    from mnistcli.models.architecture import plan_architecture
    from mnistcli.training.compile_model import initialize_network
    from mnistcli.training.distributed.strategies import set_thread_count

    set_thread_count(threads)
    split = load_training_set(workload.dataset)
    config = workload.config
    architecture = plan_architecture(config.model, split.images.shape[1:], 10)
    network = keras.Sequential([keras.Input(architecture.input_shape)])
    for layer in initialize_network(architecture, config.model, 0).layers:
        network.add(getattr(keras.layers, type(layer).__name__).from_config(layer.get_config()))
    network.compile(
        workload.optimizer,
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    inputs = split.images.reshape(len(split), -1).astype("float32") / 255

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            wait()
            self.began_s = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            answer(time.perf_counter() - self.began_s)

    network.fit(
        inputs,
        split.labels,
        workload.batch_size,
        epochs=1_000_000,
        verbose=0,
        callbacks=[Watch()],
    )


def run_torch(workload: Workload, threads: int) -> None:
    """A PyTorch eager loop on resident tensors."""
    import torch

    torch.set_num_threads(threads)
    split = load_training_set(workload.dataset)
    inputs = torch.from_numpy(split.images.reshape(len(split), -1).astype("float32") / 255)
    labels = torch.from_numpy(split.labels.astype("int64"))
    sizes = [inputs.shape[1], *workload.hidden]
    modules: list[torch.nn.Module] = []
    for fan_in, units in pairwise(sizes):
        modules += [torch.nn.Linear(fan_in, units), torch.nn.ReLU()]
        if workload.dropout:
            modules.append(torch.nn.Dropout(workload.dropout))
    network = torch.nn.Sequential(*modules, torch.nn.Linear(sizes[-1], 10))
    kind = torch.optim.SGD if workload.optimizer == "sgd" else torch.optim.Adam
    optimizer = kind(network.parameters(), lr=workload.learning_rate)

    def epoch() -> None:
        order = torch.randperm(len(inputs))
        total = torch.zeros(())
        correct = torch.zeros((), dtype=torch.int64)
        for rows in order.split(workload.batch_size):
            truth = labels[rows]
            logits = network(inputs[rows])
            loss = torch.nn.functional.cross_entropy(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            correct += (logits.detach().argmax(1) == truth).sum()
        float(total), int(correct)

    serve(epoch)


def run_numpy(workload: Workload, threads: int) -> None:
    """Only the matrix products of an epoch: what no implementation of it can leave out."""
    import numpy as np

    split = load_training_set(workload.dataset)
    inputs = split.images.reshape(len(split), -1).astype(np.float32) / 255
    sizes = [inputs.shape[1], *workload.hidden, 10]
    generator = np.random.default_rng(0)
    kernels = [generator.standard_normal(shape, np.float32) for shape in pairwise(sizes)]

    def multiply(batch: np.ndarray) -> Iterator[np.ndarray]:
        outputs = [batch]
        for kernel in kernels:
            outputs.append(outputs[-1] @ kernel)
        gradient = outputs[-1]
        for index in range(len(kernels) - 1, -1, -1):
            yield outputs[index].T @ gradient
            if index:
                gradient = gradient @ kernels[index].T

    def epoch() -> None:
        for start in range(0, len(inputs), workload.batch_size):
            for _ in multiply(inputs[start : start + workload.batch_size]):
                pass

    serve(epoch)


def serve(epoch: Callable[[], None]) -> None:
    """Run an epoch for every line."""
    while True:
        wait()
        began_s = time.perf_counter()
        epoch()
        answer(time.perf_counter() - began_s)


def main() -> None:
    contender, workload, threads = sys.argv[1], WORKLOADS[sys.argv[2]], int(sys.argv[3])
    if contender.startswith("fit-"):
        run_fit(workload, threads, int(contender.removeprefix("fit-")))
    else:
        runs = {
            "mnistcli": run_mnistcli, "fit": run_fit, "torch": run_torch, "numpy": run_numpy,
            "mixed_bfloat16": partial(run_mnistcli, precision="mixed_bfloat16"),
        }  # fmt: skip
        runs[contender](workload, threads)


if __name__ == "__main__":
    main()
