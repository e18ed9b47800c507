"""Rewards of responses; evaluation, collection and search use the same ones."""

from harness.rewards.likelihood import Likelihood
from harness.rewards.model import RewardModel
from harness.rewards.outcome import Outcome
from harness.rewards.outcome_else_process import OutcomeElseProcess
from harness.rewards.search_value import SearchValue
from harness.rewards.steps import ArithmeticSteps
from harness.rewards.unit_tests import UnitTests
from harness.rewards.weighted import WeightedSum

__all__ = [
    "ArithmeticSteps", "Likelihood", "Outcome", "OutcomeElseProcess", "RewardModel", "SearchValue", "UnitTests",
    "WeightedSum",
]  # fmt: skip
