"""Problems become scored rollouts, and rollouts become training rows."""

from harness.rollouts.balance import BalancedSampling, FixedSampling
from harness.rollouts.pairs import OutcomePairs
from harness.rollouts.select import TopK
from harness.rollouts.step_labels import StepLabels

__all__ = ["BalancedSampling", "FixedSampling", "OutcomePairs", "StepLabels", "TopK"]
