"""The grader's verdict as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.types import Problem, Response, Score


class Outcome:
    """1 for a right final answer, 0 otherwise."""

    answer_weight: ClassVar[float | None] = None
    """The gold is all that it looks at."""

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        return [Score(float(right)) for right in correct]
