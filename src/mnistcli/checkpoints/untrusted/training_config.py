"""The `training_config` of a Keras whole-model .h5 -> the loss that the network learned with."""

from __future__ import annotations

from typing import Any

from mnistcli.checkpoints.untrusted.protocol import is_from_keras, parse_json
from mnistcli.config.schema import Loss
from mnistcli.metrics.scores import LossSpec

LOSS_NAMES: dict[str, Loss] = {
    "categorical_crossentropy": "categorical_crossentropy",
    "CategoricalCrossentropy": "categorical_crossentropy",
    "sparse_categorical_crossentropy": "sparse_categorical_crossentropy",
    "SparseCategoricalCrossentropy": "sparse_categorical_crossentropy",
    "mean_squared_error": "mean_squared_error",
    "MeanSquaredError": "mean_squared_error",
    "mse": "mean_squared_error",
    "MSE": "mean_squared_error",
    "binary_crossentropy": "binary_crossentropy",
    "BinaryCrossentropy": "binary_crossentropy",
    "bce": "binary_crossentropy",
    "BCE": "binary_crossentropy",
}
MEANS = (None, "auto", "mean", "mean_with_sample_weight", "sum_over_batch_size")


def parse_training_config(text: str | None, where: str) -> LossSpec | None:
    """Return the loss, or None where there is none or not one that is known here.

    Args:
        text: the JSON of the file's `training_config` attribute; None where it has none.
        where: the file, for messages.

    Raises:
        CheckpointError: the text is too long or no JSON.
    """
    if text is None:
        return None
    config = parse_json(text, where, "training_config")
    return _read_loss(_unwrap(config.get("loss"))) if isinstance(config, dict) else None


def _unwrap(loss: Any) -> Any:
    """Take the loss out of the list or mapping that networks with several outputs need."""
    if isinstance(loss, list) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _read_loss(loss: Any) -> LossSpec | None:
    """Read a name, a function, or an object with settings."""
    if isinstance(loss, dict) and loss.get("class_name") == "function":
        loss = loss.get("config")
    if isinstance(loss, str):
        return LossSpec(LOSS_NAMES[loss]) if loss in LOSS_NAMES else None
    if not isinstance(loss, dict) or not is_from_keras(loss):
        return None
    class_name, settings = loss.get("class_name"), loss.get("config")
    if not isinstance(class_name, str) or not isinstance(settings, dict):
        return None
    return _read_settings(class_name, settings) if class_name in LOSS_NAMES else None


def _read_settings(class_name: str, settings: dict[str, Any]) -> LossSpec | None:
    """Keep the two settings that matter; None where another one changes what the loss is."""
    from_logits = settings.get("from_logits", False)
    label_smoothing = settings.get("label_smoothing", 0.0)
    is_mean = settings.get("reduction") in MEANS
    is_plain = settings.get("axis", -1) == -1 and settings.get("ignore_class") is None
    is_number = type(label_smoothing) in (int, float) and 0 <= label_smoothing <= 1
    if not (is_mean and is_plain and is_number and type(from_logits) is bool):
        return None
    return LossSpec(LOSS_NAMES[class_name], from_logits, float(label_smoothing))
