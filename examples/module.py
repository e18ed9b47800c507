"""A training module: supervised fine-tuning that keeps the policy from becoming too sure of itself.

harness fit --config configs/recipes/bstar/arithmetic/10_sft.yaml --model examples/module.py:EntropySFT
"""

from typing import Any

from harness.models.losses import sft_loss, supervised_positions
from harness.models.token_stats import token_stats
from harness.modules import SFTModule
from harness.modules.base import Sums


class EntropySFT(SFTModule):
    """The likelihood of the responses plus `bonus` times the entropy of the next token, per token."""

    def __init__(self, checkpoint: str, *, bonus: float = 0.01, **options: Any) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            bonus: weight of the entropy, in nats.
            options: those of `SFTModule`.
        """
        super().__init__(checkpoint, **options)
        self.bonus = bonus

    def sums(self, batch: dict[str, Any]) -> Sums:
        """Sums, not means: the base class divides by the denominator of the whole optimizer step."""
        positions, targets, _ = supervised_positions(batch["labels"])
        inputs = {"position_ids": batch["position_ids"]} if "position_ids" in batch else {}
        stats = token_stats(self.model, batch["input_ids"], positions, targets, entropy=True, **inputs)
        weights = batch["weights"].flatten()[positions + 1]
        loss, weight = sft_loss(stats.logps, weights)
        entropy = (stats.entropies * weights).sum()
        return Sums(loss - self.bonus * entropy, weight, {"entropy": entropy.detach()})
