"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Any

import torch

from harness.models.losses import sft_loss, supervised_positions, token_logps
from harness.models.weights import load_causal_lm, logits_at
from harness.modules.base import DType, LoRAConfig, Sums, TrainingModule
from harness.modules.optimizer import OptimizerConfig


class SFTModule(TrainingModule):
    """Maximises the likelihood of the responses, averaged over the tokens of each optimizer step.

    Logs `train/loss`, `train/accuracy` (share of tokens predicted exactly), `train/num_tokens`,
    `train/tokens_per_second`, `val/loss` and `val/accuracy`.
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
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            dtype: type of the weights; keep float32 and let `trainer.precision: bf16-mixed` compute in bfloat16.
            attn_implementation: "eager", "sdpa", "flex_attention" and so on; transformers' choice if not given.
            gradient_checkpointing: recompute activations in the backward pass, for less memory.
            compile: compile the transformer layers with torch.compile.
            lora: train low-rank updates only.
            optimizer: optimizer and learning-rate schedule.
        """
        super().__init__(checkpoint, dtype, attn_implementation, gradient_checkpointing, compile, lora, optimizer)

    def build_model(self) -> Any:
        return load_causal_lm(self.checkpoint, **self.load_options())

    def sums(self, batch: dict[str, Any]) -> Sums:
        positions, targets, _ = supervised_positions(batch["labels"])
        inputs = {"position_ids": batch["position_ids"]} if "position_ids" in batch else {}
        logits = logits_at(self.model, batch["input_ids"], positions, **inputs)
        weights = batch["weights"].flatten()[positions + 1]
        loss, weight = sft_loss(token_logps(logits, targets), weights)
        with torch.no_grad():
            correct = ((logits.argmax(-1) == targets) * weights).sum()
        return Sums(loss, weight, {"accuracy": correct})
