"""What an engine takes of a device's memory; standard library only."""

from __future__ import annotations

from typing import Any

from harness.errors import InputError

DEFAULT_SHARE = 0.9
"""Of a device that an engine has for itself."""
USABLE = 0.95
"""Of a device's memory, before what lies scattered between tensors is lost."""
CONTEXT = 2 << 30
"""Bytes of CUDA's context, kernels, their workspaces and the tiles of logits in a process that trains."""
BESIDE_WEIGHTS = 2 << 30
"""Bytes of an engine's activations and graphs, which vLLM measures when it starts."""


def weight_bytes(dtype: str) -> int:
    """Of one weight in an engine's number format; of fp8 those outside of its layers have twice as many."""
    return {"float32": 4, "fp8": 1}.get(dtype, 2)


def cached_values(config: Any) -> int:
    """Keys and values that a token has in the cache of a decoder with that (text) configuration."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width


def share_beside(total: int, others: int, engine: int) -> float:
    """The share of a device (`gpu_memory_utilization`) that an engine may take beside what else it must hold.

    Args:
        total: bytes of the device.
        others: bytes of all else while the engine is awake: of the trainer at its fullest, and of the reward model.
        engine: bytes of the engine's weights.

    Raises:
        InputError: the engine's weights do not fit beside it.
    """
    left = USABLE * total - CONTEXT - others
    if left <= engine + BESIDE_WEIGHTS:
        raise InputError(
            f"of {total / 1e9:.1f} GB the trainer and the reward model take {others / 1e9:.1f} GB while the engine "
            f"samples, and its weights {engine / 1e9:.1f} GB: shard the trainer over more devices (FSDP2Strategy), "
            "train with lora, or choose a smaller reward model; `harness plan` shows the parts."
        )
    return left / total
