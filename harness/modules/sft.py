"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Any

from harness.models.losses import sft_loss, supervised_positions
from harness.models.shared_prefix import attention_inputs
from harness.models.token_stats import token_stats
from harness.models.weights import load_causal_lm
from harness.modules.base import Sums, TrainingModule


class SFTModule(TrainingModule):
    """Maximises the likelihood of the responses, averaged over the tokens of each optimizer step.

    Logs `train/loss`, `train/accuracy` (share of tokens predicted exactly), `train/num_tokens`,
    `train/tokens_per_second`, `val/loss` and `val/accuracy`.
    """

    drops_out = True

    def build_model(self) -> Any:
        return load_causal_lm(self.checkpoint, **self.load_options())

    def sums(self, batch: dict[str, Any]) -> Sums:
        positions, targets, _ = supervised_positions(batch["labels"])
        inputs = attention_inputs(batch, self.model)
        seen = self._due or not self.training
        stats = token_stats(self.model, batch["input_ids"], positions, targets, top=seen, **inputs)
        weights = batch["weights"].flatten()[positions + 1]
        loss, weight = sft_loss(stats.logps, weights)
        return Sums(loss, weight, {"accuracy": ((stats.top == targets) * weights).sum()} if seen else {})
