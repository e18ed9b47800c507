"""A selector: learn only from problems that are neither mastered nor out of reach.

harness replay runs/arithmetic/20_bstar --select examples/selector.py:InReach
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.protocols import Selection
from harness.types import Problem, Rollout, RolloutConfig, SFTExample


@dataclass(frozen=True)
class InReach:
    """The distinct right responses to problems of which a share from `low` to `high` of the samples is right."""

    low: float = 0.1
    high: float = 0.8

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows = []
        for rollout in rollouts:
            right = [scored.response.text for scored in rollout.responses if scored.correct]
            if self.low <= len(right) / max(len(rollout.responses), 1) <= self.high:
                prompt = render(rollout.problem)
                rows += [SFTExample(prompt, text, problem_id=rollout.problem.id) for text in dict.fromkeys(right)]
        return rows, {"num_rows": len(rows), "problems_in_reach": len({row.problem_id for row in rows})}
