"""The reward: 1 for a right answer, and more for lines that become shorter, one term a line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from harness.types import Problem, Response, Score


@dataclass(frozen=True)
class RightAndTidy:
    """`1[answer right] + tidy * share of lines that have one term less than the line before`."""

    tidy: float = 0.5

    @property
    def answer_weight(self) -> float:
        """What a right answer alone is worth, so that results tell the gold's part from the rest."""
        return 1.0

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        return [
            Score(float(right) + self.tidy * share_of_tidy_lines(problem.question, response.text))
            for problem, response, right in zip(problems, responses, correct, strict=True)
        ]


def share_of_tidy_lines(question: str, response: str) -> float:
    """Of the lines before the answer, the share with one term less than the line before; 0 without any."""
    lines = [question, *(line for line in response.splitlines() if not line.startswith("####"))]
    terms = [len(line.split(" + ")) for line in lines]
    tidy = [after == before - 1 for before, after in itertools.pairwise(terms)]
    return sum(tidy) / len(tidy) if tidy else 0.0
