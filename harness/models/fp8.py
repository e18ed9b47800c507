"""Linear layers in eight bits (E4M3, arXiv:2209.05433), simulated: what rounding to them alone does to a model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.weights import plain_model

LARGEST = 448.0


def rounded_to_fp8(values: Tensor) -> Tensor:
    """The nearest numbers of eight bits, in the dtype of the values, with a scale for each vector of the last axis."""
    scale = (values.abs().amax(-1, keepdim=True).float() / LARGEST).clamp(min=1e-12)
    return ((values / scale).to(torch.float8_e4m3fn).float() * scale).to(values.dtype)


@contextlib.contextmanager
def fp8_layers(model: nn.Module) -> Iterator[None]:
    """Have a model compute with all its linear layers but the head rounded: weights per output, inputs per token."""
    head = plain_model(model).get_output_embeddings()
    layers: list[Any] = [module for module in model.modules() if type(module) is nn.Linear and module is not head]

    def rounded(layer: nn.Linear, inputs: Tensor) -> Tensor:
        return F.linear(rounded_to_fp8(inputs), rounded_to_fp8(layer.weight), layer.bias)

    try:
        for layer in layers:
            layer.forward = functools.partial(rounded, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
