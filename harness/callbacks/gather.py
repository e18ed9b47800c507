"""The whole weights of a model that is sharded over ranks."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor

from harness.models.weights import named_weights, plain_model


def gathered_weights(model: torch.nn.Module, keep: bool) -> dict[str, torch.Tensor] | None:
    """All weights of a sharded model in CPU memory where `keep` is set, by a collective; None if it is not sharded."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return None
    weights = {}
    for name, tensor in named_weights(model):
        if keep:
            weights[name] = tensor.cpu()
    return weights


def whole_copy(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """An unsharded copy of the model on the CPU, which one rank can run alone."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        copy = AutoModelForCausalLM.from_config(plain_model(model).config)
    copy.load_state_dict(weights)
    return copy
