"""Train, evaluate, use and inspect small Keras classifiers, from the shell or from Python.

The functions of the Python interface are imported when they are used first: `import mnistcli`
imports neither NumPy nor Keras.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistcli.commands.evaluate import evaluate as evaluate
    from mnistcli.commands.predict import predict as predict
    from mnistcli.commands.summary import summarize as summarize
    from mnistcli.commands.train import train as train
    from mnistcli.commands.trained_model import TrainedModel as TrainedModel
    from mnistcli.commands.trained_model import load_model as load
    from mnistcli.output.results import TrainResult as TrainResult
    from mnistcli.training.callbacks import Callback as Callback

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "TrainResult",
    "TrainedModel",
    "__version__",
    "evaluate",
    "load",
    "predict",
    "summarize",
    "train",
]

_SOURCES = {
    "Callback": ("training.callbacks", "Callback"),
    "TrainResult": ("output.results", "TrainResult"),
    "TrainedModel": ("commands.trained_model", "TrainedModel"),
    "evaluate": ("commands.evaluate", "evaluate"),
    "load": ("commands.trained_model", "load_model"),
    "predict": ("commands.predict", "predict"),
    "summarize": ("commands.summary", "summarize"),
    "train": ("commands.train", "train"),
}


def __getattr__(name: str) -> object:
    """Import a function of the Python interface."""
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    value: object = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value
