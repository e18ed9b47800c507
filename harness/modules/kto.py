"""Learning from single responses that are good or bad."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.errors import InputError
from harness.models.losses import PreferenceLossConfig, kto_loss, sum_by_row
from harness.models.shared_prefix import attention_inputs, supervised_tokens
from harness.models.token_stats import token_stats
from harness.modules.base import Sums
from harness.modules.dpo import DPOModule


class KTOModule(DPOModule):
    """Kahneman-Tversky optimisation (arXiv:2402.01306) on the rows of `UnpairedDataModule`, against a fixed reference.

    The reference point, an estimate of the policy's divergence from the reference, is as in the paper and in TRL the
    mean log-ratio of the responses to other prompts in a batch, over all ranks, at least 0; a batch needs several rows.

    Logs under `train/` and `val/`, averaged over rows: `loss`; `accuracy`, the share of responses whose log-ratio lies
    on the side of the reference point that the label asks for; `rewards`, beta times the log-ratio; `kl`, the
    reference point; in training also `rewards/desirable` and `rewards/undesirable`.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        beta: float = 0.1,
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        **options: Any,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            beta: strength of the pull towards the reference.
            desirable_weight: weight of good responses; the paper wants the weighted numbers of good and bad ones
                between 1:1 and 4:3.
            undesirable_weight: weight of bad responses.
            options: those of `DPOModule` on the reference, `SharedPrefixModule` and `TrainingModule`.
        """
        # The losses of pairs are no option of this module.
        super().__init__(checkpoint, losses={"sigmoid": 1.0}, loss=PreferenceLossConfig(beta=beta), **options)
        for name, value in (
            ("beta", beta),
            ("desirable_weight", desirable_weight),
            ("undesirable_weight", undesirable_weight),
        ):
            if not 0 <= value < float("inf") or (name == "beta" and not value):
                raise InputError(f"{name} must be a number above 0, found {value}.")
        self.beta = beta
        self.desirable_weight, self.undesirable_weight = desirable_weight, undesirable_weight

    def sums(self, batch: dict[str, Any]) -> Sums:
        if "desirable" not in batch:
            raise InputError("the batches have no labels; KTOModule needs UnpairedDataModule.")
        sources, targets, sides = supervised_tokens(batch)
        num_sides = len(batch["lengths"])

        def by_side(model: Any) -> Tensor:
            stats = token_stats(model, batch["input_ids"], sources, targets, **attention_inputs(batch, model))
            return sum_by_row(stats.logps, sides, num_sides)

        policy = by_side(self.model)
        with torch.no_grad():
            reference = self._reference_logps(batch, by_side, policy)
        ratios, unrelated = (policy - reference)[batch["pairs"]]
        weight, desirable = batch["weight"], batch["desirable"]
        with torch.no_grad():
            point = self._mean(unrelated, (weight > 0).to(unrelated.dtype)).clamp(min=0)
        losses = kto_loss(ratios, desirable, point, self.beta, self.desirable_weight, self.undesirable_weight)
        with torch.no_grad():
            right = (ratios > point) == desirable
            metrics = {
                "accuracy": (right * weight).sum(),
                "rewards": (self.beta * ratios * weight).sum(),
                "kl": point * weight.sum(),
            }
            if self.training:
                for name, members in (("desirable", desirable), ("undesirable", ~desirable)):
                    metrics[f"rewards/{name}"] = (self.beta * ratios * weight * members).sum()
                    metrics[f"share/{name}"] = (weight * members).sum()
        return Sums((losses * weight).sum(), weight.sum(), metrics)

    def finished_metrics(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rewards of good and of bad responses as means over each."""
        for name in ("desirable", "undesirable"):
            share = totals.pop(f"share/{name}", None)
            if share is not None:
                totals[f"rewards/{name}"] = totals[f"rewards/{name}"] / share.clamp(min=1e-12)
        return totals

    def _mean(self, values: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean over the batch of all ranks."""
        sums = torch.stack([(values * weights).sum(), weights.sum()]).detach()
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum").unbind()
        return total / count.clamp(min=1)
