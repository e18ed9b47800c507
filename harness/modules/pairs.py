"""What modules that learn from pairs share: what validation tells of the margins."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from harness.modules.prefixes import SharedPrefixModule

NUM_BINS = 10


class PairModule(SharedPrefixModule):
    """A module whose batches are pairs, as `PreferenceDataModule` lays them out."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        attach = getattr(getattr(self.trainer, "datamodule", None), "attach_reference", None)
        if attach is not None:
            attach(self.score_sides if self.wants_reference else None)

    @property
    def wants_reference(self) -> bool:
        """Whether the batches should bring `reference_logps`, computed by `score_sides`."""
        return False

    def score_sides(self, sides: Any) -> Any:
        """Reference log-probabilities of sides; see `DPOModule`."""
        raise NotImplementedError

    def summarise(self, rows: Tensor) -> dict[str, float]:
        """Metrics of all validation pairs, of which each row holds (margin, weight, difference of lengths)."""
        metrics = margin_metrics(*rows.double().unbind(1))
        found, given = metrics["length_correlation"], metrics["length_correlation_of_labels"]
        if abs(found) > 0.5 and abs(found) > abs(given) + 0.2:
            rank_zero_warn(
                f"val/length_correlation is {found:.2f}, that of the labels {given:.2f}: rewards follow the length of "
                "responses more than the preferences do (reward hacking)."
            )
        return metrics


def margin_metrics(margins: Tensor, weights: Tensor, length_differences: Tensor) -> dict[str, float]:
    """What the margins (B,), reward of the chosen minus reward of the rejected response, say about the rewards.

    Args:
        margins: in nats, so that sigmoid(margin) is the probability given to the preference.
        weights: (B,) weight of each pair.
        length_differences: (B,) tokens of the chosen minus tokens of the rejected response.

    Returns:
        `calibration_error`: expected calibration error (arXiv:1706.04599, eq. 3) of the confidence sigmoid(|margin|) in
        ten bins of equal width from 0.5 to 1;
        `accuracy/small_margin`, `medium`, `large`: accuracy among each third of the pairs by |margin|, equal margins
        together;
        `length_correlation`: correlation of reward and length within pairs, either order of a pair counted, in
        [-1, 1]; `length_correlation_of_labels`: the same for the labels, which a faithful reward would not exceed.
    """
    right = (margins > 0).double() + 0.5 * (margins == 0)
    sizes = margins.abs()
    bins = ((torch.sigmoid(sizes) - 0.5) * 2 * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    surplus = torch.zeros(NUM_BINS, dtype=torch.double, device=margins.device)
    surplus.index_add_(0, bins, weights * (right - torch.sigmoid(sizes)))
    metrics = {"calibration_error": (surplus.abs().sum() / weights.sum()).item()}
    low, high = torch.quantile(sizes, torch.tensor([1 / 3, 2 / 3], dtype=sizes.dtype, device=sizes.device))
    thirds = {"small": sizes <= low, "medium": (sizes > low) & (sizes <= high), "large": sizes > high}
    for name, members in thirds.items():
        if members.any():
            share = (right * weights)[members].sum() / weights[members].sum()
            metrics[f"accuracy/{name}_margin"] = share.item()
    metrics["length_correlation"] = _correlation(margins, length_differences, weights)
    metrics["length_correlation_of_labels"] = _correlation(torch.ones_like(margins), length_differences, weights)
    return metrics


def _correlation(a: Tensor, b: Tensor, weights: Tensor) -> float:
    """Of differences: with each pair counted in both orders their means are zero. 0 where either never differs."""
    size = math.sqrt((weights * a**2).sum().item() * (weights * b**2).sum().item())
    return (weights * a * b).sum().item() / size if size else 0.0
