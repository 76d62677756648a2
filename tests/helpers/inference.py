"""A network's logits for tests, computed from inputs that are preprocessed already."""

from __future__ import annotations

from collections.abc import Sequence

from mnistcli.models.activations import Floats
from mnistcli.models.architecture import Architecture
from mnistcli.models.numpy_inference import build_numpy_forward, is_supported_by_numpy


def compute_logits(architecture: Architecture, weights: Sequence[Floats], inputs: Floats) -> Floats:
    """The output before the output activation, by the same forward pass as in `predict`."""
    build_forward = build_numpy_forward
    if not is_supported_by_numpy(architecture):
        from mnistcli.training.network_state import build_keras_forward

        build_forward = build_keras_forward
    return build_forward(architecture.without_output_activation(), weights)(inputs)
