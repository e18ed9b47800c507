"""From scored rollouts to preference pairs of whole responses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.protocols import Selection
from harness.store import stable_hash
from harness.types import PreferencePair, Problem, Rollout, RolloutConfig


@dataclass(frozen=True)
class OutcomePairs:
    """Pairs of a response that is preferred by at least `margin` of reward and one of the same problem that is not.

    Each problem's pairs weigh 1 in all, so that a problem with many pairs does not outweigh the others.
    """

    max_per_problem: int = 4
    """Pairs taken of each problem, at random among those that differ enough."""
    margin: float = 0.5
    """Smallest difference of reward within a pair."""
    seed: int = 0

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows: list[PreferencePair] = []
        num_paired = 0
        for rollout in rollouts:
            rewards = {scored.response.text: scored.reward for scored in rollout.responses}
            pairs = [
                (better, worse)
                for better, high in rewards.items()
                for worse, low in rewards.items()
                if high - low >= self.margin and high > config.reward_threshold
            ]
            random.Random(stable_hash(self.seed, rollout.problem.id)).shuffle(pairs)
            pairs = pairs[: self.max_per_problem]
            prompt = render(rollout.problem)
            rows += [PreferencePair(prompt, b, w, 1 / len(pairs), rollout.problem.id) for b, w in pairs]
            num_paired += bool(pairs)
        return rows, {"num_rows": len(rows), "paired_share": num_paired / max(len(rollouts), 1)}
