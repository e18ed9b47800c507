"""The rule-based process reward of the built-in arithmetic task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.arithmetic.problems import valid_steps
from harness.types import Problem, Response, Score


class ArithmeticSteps:
    """1 if every line reduces the line before it by one right step, else 0; needs no gold answer.

    The step scores are 1 up to the first wrong line and 0 from there on.
    """

    answer_weight: ClassVar[float | None] = 0.0

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        scores = []
        for problem, response in zip(problems, responses, strict=True):
            valid = valid_steps(problem.question, response.steps)
            scores.append(Score(float(bool(valid) and all(valid)), tuple(float(v) for v in valid)))
        return scores
