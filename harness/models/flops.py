"""How much of a device's arithmetic training uses: the operations that the model needs, and those that it could do.

Needed are 6 for each parameter that multiplies a token, 2 forward and 4 backward (arXiv:2001.08361), of which those for
a weight's gradient, 2, fall away where it is frozen; and 12 for each pair of a token and one that it attends to, layer
and element of the heads' width (arXiv:2204.02311, appendix B, with half of the pairs as attention is causal). What is
recomputed is not needed, nor is what reference models take.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.weights import plain_model

PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A6000": 155e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Operations per second in bfloat16 with dense matrices, from NVIDIA's data sheets, by a part of the device's name; the
first that fits counts."""


def peak_flops(device: torch.device) -> float | None:
    """What the device can do in bfloat16; None of CPUs and of devices that are not known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def training_flops(model: nn.Module) -> tuple[float, float] | None:
    """Operations that training needs for each token, and for each pair of a token and one that it attends to.

    None of models of which it is not known here: of experts, of packed weights, of layers without attention heads. The
    head counts as if it saw every token.
    """
    plain = plain_model(model)
    config: Any = plain.config.get_text_config()
    parameters = list(model.parameters())
    experts = ("num_experts", "num_local_experts", "n_routed_experts")
    if any(getattr(config, name, None) for name in experts) or not hasattr(config, "num_attention_heads"):
        return None
    if not all(parameter.is_floating_point() for parameter in parameters):
        return None
    embeddings, head = plain.get_input_embeddings(), plain.get_output_embeddings()
    looked_up = embeddings.weight if head is None or head.weight is not embeddings.weight else None
    token = sum((6 if each.requires_grad else 4) * each.numel() for each in parameters if each is not looked_up)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return float(token), 12.0 * config.num_hidden_layers * config.num_attention_heads * width


def attended_pairs(batch: dict[str, Any]) -> Tensor:
    """Pairs of a token and one that it attends to (itself among them), each sequence as if computed alone."""
    if "position_ids" in batch and "lengths" not in batch:  # several rows one after another
        return ((batch["position_ids"] + 1) * batch["is_token"]).sum().double()
    lengths = (batch["lengths"] if "lengths" in batch else batch["is_token"].sum(-1)).double()
    return (lengths * (lengths + 1) / 2).sum()
