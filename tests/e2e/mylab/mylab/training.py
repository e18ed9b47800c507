"""A preference loss and a policy-gradient module."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from harness.models.losses import PairLogps, PreferenceLossConfig
from harness.modules import PolicyGradientModule
from harness.modules.base import Sums


def margin(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """Hinge loss of the mean log-probabilities of a token; (B,)."""
    return F.relu(1.0 - (pairs.chosen / pairs.num_chosen - pairs.rejected / pairs.num_rejected))


margin.needs_reference = False  # type: ignore[attr-defined]


class CalmPolicy(PolicyGradientModule):
    """A policy gradient whose loss is scaled, which it logs."""

    def __init__(self, checkpoint: str, *, scale: float = 0.5, **options: Any) -> None:
        super().__init__(checkpoint, **options)
        self.scale = scale

    def sums(self, batch: dict[str, Any]) -> Sums:
        sums = super().sums(batch)
        return Sums(self.scale * sums.loss, sums.weight, {**sums.metrics, "scaled": self.scale * sums.weight})
