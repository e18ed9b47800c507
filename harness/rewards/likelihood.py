"""The policy's own likelihood as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.types import Problem, Response, Score


class Likelihood:
    """Log-probability of the response under the policy that drew it, in nats.

    Args:
        per_token: divide by the number of tokens.
    """

    answer_weight: ClassVar[float | None] = 0.0

    def __init__(self, per_token: bool = False) -> None:
        self.per_token = per_token

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        return [Score(r.logp / max(len(r.token_ids), 1) if self.per_token else r.logp) for r in responses]
