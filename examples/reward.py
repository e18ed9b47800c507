"""A reward: right answers count, and of two right ones the shorter is better.

harness rollout --config configs/recipes/bstar/arithmetic/12_rollout.yaml --reward examples/reward.py:ShortAndRight
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.types import Problem, Response, Score


@dataclass(frozen=True)
class ShortAndRight:
    """1 for a right answer, less `per_token` for every token."""

    per_token: float = 0.001

    @property
    def answer_weight(self) -> float:
        """What a right answer alone is worth, so that results tell the gold's part from the rest."""
        return 1.0

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        return [
            Score(float(right) - self.per_token * len(response.token_ids))
            for response, right in zip(responses, correct, strict=True)
        ]
