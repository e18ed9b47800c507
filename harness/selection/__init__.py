"""Which setting to sample with, and which rollouts become training rows."""

from harness.selection.balance import BalancedSampling, FixedSampling
from harness.selection.distinct import AnswerLine, DistinctEquations, DistinctTexts
from harness.selection.first_pit import FirstPitPairs, PitPairs
from harness.selection.outcome_pairs import DistancePairs, GoldPairs, OutcomePairs
from harness.selection.policy_rows import PolicyRows
from harness.selection.step_labels import StepLabels
from harness.selection.top_k import TopK

__all__ = [
    "AnswerLine", "BalancedSampling", "DistancePairs", "DistinctEquations", "DistinctTexts", "FirstPitPairs",
    "FixedSampling", "GoldPairs", "OutcomePairs", "PitPairs", "PolicyRows", "StepLabels", "TopK",
]  # fmt: skip
