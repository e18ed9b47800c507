"""Outcome and process reward in one number."""

from __future__ import annotations

from collections.abc import Sequence

from harness.protocols import Reward, answer_weight, put_to_sleep
from harness.types import Problem, Response, Score


class WeightedSum:
    """`1[answer right] + process_weight * process` (B-STaR, arXiv:2412.17256, section 2.3).

    Args:
        process: the process reward that is added.
        process_weight: its weight.
    """

    def __init__(self, process: Reward, process_weight: float = 1.0) -> None:
        self.process = process
        self.process_weight = process_weight

    @property
    def answer_weight(self) -> float | None:
        """1 if what is added to the outcome does not see the gold answer itself and is added to, not taken from it."""
        return 1.0 if answer_weight(self.process) == 0 and self.process_weight > 0 else None

    def sleep(self) -> None:
        put_to_sleep(self.process)

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        scores = self.process(problems, responses, correct)
        return [
            Score(float(right) + self.process_weight * score.value, score.steps)
            for right, score in zip(correct, scores, strict=True)
        ]
