"""Pairwise reward models."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from harness.losses import bradley_terry_loss
from harness.models import load_reward_model, load_tokenizer, rewards_at
from harness.modules.base import DType, LoRAConfig, Sums, TrainingModule
from harness.modules.optimizer import OptimizerConfig


class RewardModule(TrainingModule):
    """A scalar head on a language model, trained so that chosen responses score above rejected ones (Bradley-Terry).

    The reward of a sequence is read at its last token. Where pairs end after a step, it is the value of that step (a
    process preference model). Saved as a Hugging Face sequence-classification directory with one label.

    Logs `loss`, `accuracy` (share of pairs ranked right, ties half), `margin` and `reward` (the mean over both sides)
    under `train/` and `val/`.
    """

    def __init__(
        self,
        checkpoint: str,
        dtype: DType = "float32",
        attn_implementation: str | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        lora: LoRAConfig | None = None,
        optimizer: OptimizerConfig | None = None,
        margin: float = 0.0,
        centring: float = 0.0,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of a causal LM, which gets a new head, or of a reward model.
            dtype: type of the weights; keep float32 and let `trainer.precision: bf16-mixed` compute in bfloat16.
            attn_implementation: "eager", "sdpa", "flex_attention" and so on; transformers' choice if not given.
            gradient_checkpointing: recompute activations in the backward pass, for less memory.
            compile: compile the transformer layers with torch.compile.
            lora: train low-rank updates, and the head, only.
            optimizer: optimizer and learning-rate schedule.
            margin: reward difference demanded of every pair.
            centring: weight of the penalty that keeps rewards around zero.
        """
        super().__init__(checkpoint, dtype, attn_implementation, gradient_checkpointing, compile, lora, optimizer)
        self.margin, self.centring = margin, centring

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer, with a padding token other than EOS."""
        return load_tokenizer(self.checkpoint, distinct_pad=True)

    def build_model(self) -> Any:
        return load_reward_model(self.checkpoint, **self.load_options())

    def sums(self, batch: dict[str, Any]) -> Sums:
        ids, weight = batch["input_ids"], batch["weight"]
        starts = torch.arange(len(ids), device=ids.device) * ids.shape[1]
        rewards = rewards_at(self.model, ids, starts + batch["lengths"] - 1)
        chosen, rejected = rewards.chunk(2)
        loss = (bradley_terry_loss(chosen, rejected, self.margin, self.centring) * weight).sum()
        with torch.no_grad():
            difference = chosen - rejected
            metrics = {
                "accuracy": (((difference > 0).float() + 0.5 * (difference == 0)) * weight).sum(),
                "margin": (difference * weight).sum(),
                "reward": ((chosen + rejected) / 2 * weight).sum(),
            }
        return Sums(loss, weight.sum(), metrics)
