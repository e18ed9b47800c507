"""Optimizers and learning-rate schedules as configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from harness.errors import InputError


@dataclass
class OptimizerConfig:
    """Optimizer and learning-rate schedule; all counts are optimizer steps."""

    name: Literal["adamw", "adamw_8bit", "rmsprop"] = "adamw"
    """`adamw_8bit` keeps AdamW's moments in eight bits, with a scale for each 256 of them (arXiv:2110.02861, by
    bitsandbytes); those of weights of fewer than 4,096 elements stay in float32. `rmsprop` is torch's, with momentum 0
    and smoothing constant 0.99."""
    lr: float = 1e-5
    """Highest learning rate, reached after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments."""
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Applied to matrices and embeddings, not to biases and norms."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up, down to `min_lr_ratio` of `lr`."""
    warmup_steps: int = 0
    """Steps of linear warm-up from 0; overrides `warmup_ratio` unless 0."""
    warmup_ratio: float = 0.0
    """Warm-up as a share of the schedule's length."""
    total_steps: int | None = None
    """Length of the schedule; the Trainer's `max_steps` if not given."""
    min_lr_ratio: float = 0.0
    """Final learning rate divided by `lr`."""
    cycle_steps: int | None = None
    """Start the schedule anew, warm-up included, every so many steps; the optimizer's state is kept. Give the steps of
    one iteration to have every iteration of self-improvement anneal on its own."""
    trainable: list[str] | None = None
    """Regular expressions; only weights in whose name one of them is found are trained, such as `self_attn` and `mlp`
    for all but embeddings, output matrix and norms. All weights if not given."""


def freeze_others(module: nn.Module, trainable: Sequence[str]) -> None:
    """Freeze the weights in whose name none of the regular expressions is found; frozen ones stay frozen.

    Raises:
        InputError: a regular expression that is none or fits no weight.
    """
    try:
        patterns = [re.compile(pattern) for pattern in trainable]
    except re.error as error:
        raise InputError(f"optimizer.trainable: {error.pattern!r} is no regular expression ({error}).") from None
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(map(pattern.search, names)):
            raise InputError(
                f"optimizer.trainable: {pattern.pattern!r} fits no weight; there are such as {names[0]}, {names[-1]}."
            )
    for name, weight in module.named_parameters():
        if not any(pattern.search(name) for pattern in patterns):
            weight.requires_grad_(False)


def build_optimizer(config: OptimizerConfig, module: nn.Module, fused: bool = True) -> torch.optim.Optimizer:
    """Optimizer over the trainable parameters, decayed and undecayed apart.

    Args:
        config: names it.
        module: whose parameters they are.
        fused: let torch's AdamW update all parameters in one kernel: in float32 the same up to rounding, in a fraction
            of the time, and without a copy of the parameters in memory.

    Raises:
        InputError: moments of eight bits without bitsandbytes.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw_8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise InputError(
                "optimizer.name: adamw_8bit needs the package bitsandbytes; install harness-reason[qlora]."
            ) from error
        return AdamW8bit(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)
    return torch.optim.RMSprop(groups, lr=config.lr, eps=config.eps)


BLOCK_8BIT, LEAST_8BIT = 256, 4096
"""Moments that share a scale, and elements of the smallest weight whose moments have eight bits, in bitsandbytes."""


def moment_bytes(name: str, weight: Tensor) -> int:
    """What an optimizer keeps for a trained weight, in bytes; of a sharded one, or of a copy without values, too."""
    count = weight.numel()
    if name == "adamw_8bit":
        return 2 * (count + 4 * -(-count // BLOCK_8BIT)) if count >= LEAST_8BIT else 2 * 4 * count
    return {"adamw": 2, "rmsprop": 1}[name] * count * weight.element_size()


def build_schedule(config: OptimizerConfig, optimizer: torch.optim.Optimizer, max_steps: int) -> LambdaLR:
    """Schedule to be stepped once per optimizer step.

    Args:
        config: its lengths are checked here.
        optimizer: whose learning rate is scaled.
        max_steps: the Trainer's, -1 if unlimited.

    Raises:
        InputError: the schedule needs a length and none is known.
    """
    length = config.cycle_steps or config.total_steps or (max_steps if max_steps > 0 else None)
    if length is None and (config.schedule != "constant" or config.warmup_ratio):
        raise InputError(
            f"optimizer.schedule '{config.schedule}' needs its length in steps; "
            "set optimizer.total_steps, optimizer.cycle_steps or trainer.max_steps."
        )
    return LambdaLR(optimizer, lambda step: lr_factor(config, step, length))


def lr_factor(config: OptimizerConfig, step: int, length: int | None) -> float:
    """Learning rate at an optimizer step (from 0), divided by `lr`."""
    if config.cycle_steps:
        step %= config.cycle_steps
    warmup = config.warmup_steps or math.ceil(config.warmup_ratio * (length or 0))
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant" or length is None:
        return 1.0
    done = min(1.0, (step - warmup) / max(1, length - warmup))
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * left
