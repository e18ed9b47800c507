"""Problems become scored rollouts, and rollouts become training rows."""

from harness.rollouts.balance import BalancedSampling, FixedSampling
from harness.rollouts.distinct import AnswerLine, DistinctEquations, DistinctTexts
from harness.rollouts.first_pit import FirstPitPairs
from harness.rollouts.pairs import DistancePairs, OutcomePairs
from harness.rollouts.select import TopK
from harness.rollouts.step_labels import StepLabels

__all__ = [
    "AnswerLine", "BalancedSampling", "DistancePairs", "DistinctEquations", "DistinctTexts", "FirstPitPairs",
    "FixedSampling", "OutcomePairs", "StepLabels", "TopK",
]  # fmt: skip
