"""A scheduler: sample hotter from iteration to iteration, as the policy gets surer of itself.

In a recipe, `scheduler: {class_path: examples/scheduler.py:Warming, init_args: {sampling: {n: 8}}}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.protocols import Decision, Probe
from harness.types import Rollout, RolloutConfig, SamplingConfig


@dataclass(frozen=True)
class Warming:
    """Raises the temperature by `step` with every iteration, up to `highest`."""

    sampling: SamplingConfig
    """Of the first iteration."""
    step: float = 0.1
    highest: float = 1.2
    reward_threshold: float = 0.0

    def decide(self, iteration: int, probe: Probe) -> Decision:
        temperature = min(self.sampling.temperature + self.step * (iteration - 1), self.highest)
        config = RolloutConfig(replace(self.sampling, temperature=temperature), self.reward_threshold)
        return config, {"temperature": temperature}

    def refine(self, decision: Decision, rollouts: Sequence[Rollout]) -> Decision:
        return decision
