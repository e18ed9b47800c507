"""Linear layers with weights of four bits (NF4), as QLoRA trains beside (arXiv:2305.14314), through bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import InputError

BLOCK = 64
"""Weights that share a scale. bitsandbytes 0.50 unpacks rows wrongly on CPUs that are no multiple of it in length."""


def in_four_bits(model: Any) -> Any:
    """The model with its linear layers but the head in NF4, their scales quantised too (section 3 of the paper).

    They compute in the number format that they had. A layer is quantised when it comes to its device, from weights
    that are loaded whole; one whose inputs are no multiple of `BLOCK` stays as it is.

    Raises:
        InputError: bitsandbytes is not installed, or there is no layer to pack.
    """
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise InputError("lora.four_bits needs the package bitsandbytes; install harness-reason[qlora].") from error
    heads = {id(head) for head in (model.get_output_embeddings(), getattr(model, "score", None)) if head is not None}
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not nn.Linear or id(layer) in heads or layer.in_features % BLOCK:
                continue
            options = {"compute_dtype": layer.weight.dtype, "quant_type": "nf4", "compress_statistics": True}
            new = Linear4bit(layer.in_features, layer.out_features, layer.bias is not None, device="meta", **options)
            new.weight = Params4bit(
                layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=new
            )
            new.bias = layer.bias
            new.support_avx512bf16_for_cpu = False  # evaluation would pack the weights anew, and compute other numbers
            setattr(parent, name, new)
    if not packed_layers(model):
        raise InputError(f"lora.four_bits: {type(model).__name__} has no linear layer of a multiple of {BLOCK} inputs.")
    model.is_loaded_in_4bit = True  # by which PEFT knows which kind of update to put beside
    return model


def packed_layers(model: nn.Module) -> dict[str, Any]:
    """The layers in four bits by their names in the model."""
    return {name: module for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}


def whole_weight(layer: Any) -> Tensor:
    """The weight of a layer in four bits as it computes with it, in the number format that it computes in."""
    weight = layer.weight
    if weight.quant_state is None:  # not on its device yet
        return weight.data
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state).to(layer.compute_dtype or torch.float32)


def packed_prefixes(model: nn.Module) -> tuple[str, ...]:
    """How names in the state dict begin that hold packed weights, or what it takes to unpack them."""
    return tuple(f"{name}.weight" for name in packed_layers(model))
