"""Searches for responses: pure algorithms that yield requests, and the loop that keeps many of them in flight."""

from harness.search.chains import Chains
from harness.search.driver import drive
from harness.search.explored_samples import ExploredSamples
from harness.search.forest import Forest
from harness.search.mcts import MCTS
from harness.search.sampling import Sampling
from harness.search.self_judged import SelfJudged
from harness.search.step_beam import StepBeam
from harness.search.step_completion import StepCompletion
from harness.search.step_explore import StepExplore
from harness.search.steps import CodeSteps, PlainSteps

__all__ = [
    "MCTS", "Chains", "CodeSteps", "ExploredSamples", "Forest", "PlainSteps", "Sampling", "SelfJudged", "StepBeam",
    "StepCompletion", "StepExplore", "drive",
]  # fmt: skip
