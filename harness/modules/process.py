"""Pointwise process reward models."""

from __future__ import annotations

from typing import Any, Literal

import torch

from harness.models.losses import IGNORED, step_loss
from harness.models.weights import rewards_at
from harness.modules.base import Sums
from harness.modules.reward import RewardModule


class ProcessRewardModule(RewardModule):
    """A scalar head on a language model, whose value after a step is the logit of the step's label.

    Trained by binary cross-entropy against the labels of `StepDataModule` (Math-Shepherd, arXiv:2312.08935, eq. 2;
    PRM of B-STaR, arXiv:2412.17256, section 4.1). The released code of B-STaR reads the mean over all vocabulary
    logits instead of a scalar head. Saved as a Hugging Face sequence-classification directory with one label, which
    `harness.rewards.RewardModel` with `per_step: true` scores by.

    Logs `loss`, `accuracy` (share of steps whose value is on the side of 0 on which the label is of 0.5) and `reward`
    (mean value) under `train/` and `val/`.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        loss: Literal["cross_entropy", "squared"] = "cross_entropy",
        **options: Any,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of a causal LM, which gets a new head, or of a reward model.
            loss: binary cross-entropy of the value as a logit, or the squared error of its sigmoid (the PQM that
                rStar-Math compares with, arXiv:2501.04519, table 8).
            options: those of `TrainingModule`.
        """
        # What is named here is for pairs, and no option of this module.
        super().__init__(
            checkpoint, margin=0.0, centring=0.0, likelihood="none", alpha=0.5, share_prefix=False, **options
        )
        self.squared = loss == "squared"

    def sums(self, batch: dict[str, Any]) -> Sums:
        labels = batch["labels"].flatten()
        positions = (labels != IGNORED).nonzero().flatten()
        values, targets = rewards_at(self.model, batch["input_ids"], positions), labels[positions]
        weight = batch["weights"][positions // batch["input_ids"].shape[1]]
        loss = (step_loss(values, targets, self.squared) * weight).sum()
        with torch.no_grad():
            metrics = {
                "accuracy": (((values > 0) == (targets > 0.5)).float() * weight).sum(),
                "reward": (values * weight).sum(),
            }
        return Sums(loss, weight.sum(), metrics)
