"""What the search that found a response thinks of it, as its reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import InputError
from harness.types import Problem, Response, Score


@dataclass(frozen=True)
class SearchValue:
    """The value that a search gave to the last step of a response, such as the mean score of `SelfJudged`."""

    answer_weight: ClassVar[float | None] = 0.0

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        """Raises `InputError` for a response that no search has valued."""
        for problem, response in zip(problems, responses, strict=True):
            if not response.step_values:
                raise InputError(
                    f"reward SearchValue: a response to problem '{problem.id}' has no value of a search; name a search "
                    "that values responses (SelfJudged, MCTS), or another reward."
                )
        return [Score(response.step_values[-1]) for response in responses]
