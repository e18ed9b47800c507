"""Truth where there is an answer, a process reward where there is none yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.protocols import Reward, put_to_sleep
from harness.types import Problem, Response, Score


class OutcomeElseProcess:
    """The reward that guides data generation in rStar-Math's later rounds (arXiv:2501.04519, section 3.2).

    A finished response is worth +1 if its answer is right and -1 otherwise; a partial one what the process reward says,
    which is asked about partial responses only.

    Args:
        process: the process reward.
    """

    answer_weight: ClassVar[float | None] = None
    """Of a finished response the gold is all that it looks at."""

    def __init__(self, process: Reward) -> None:
        self.process = process

    def sleep(self) -> None:
        put_to_sleep(self.process)

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        partial = [i for i, response in enumerate(responses) if not response.finished]
        scores = [Score(1.0 if right else -1.0) for right in correct]
        if partial:
            found = self.process(
                [problems[i] for i in partial], [responses[i] for i in partial], [False] * len(partial)
            )
            for i, score in zip(partial, found, strict=True):
                scores[i] = score
        return scores
