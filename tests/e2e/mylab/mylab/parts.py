"""A reward, a search, a scheduler and a selector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from harness.protocols import Decision, Probe, Search, Selection
from harness.types import (
    Generate,
    Judge,
    Problem,
    Response,
    Rollout,
    RolloutConfig,
    SamplingConfig,
    Score,
    SFTExample,
)


@dataclass(frozen=True)
class Brief:
    """Minus the number of tokens; it never looks at the gold answer."""

    per_token: float = 1.0
    answer_weight: ClassVar[float] = 0.0

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        return [Score(-self.per_token * len(response.token_ids)) for response in responses]


@dataclass(frozen=True)
class BestOfTwo:
    """Two samples, the better one by the reward."""

    judges: ClassVar[bool] = True

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        [completions] = yield Generate(rollout.problem, (Response(),), replace(sampling, n=2))
        responses = [Response().extend(completion) for completion in completions]
        scores = yield Judge(rollout.problem, tuple(responses))
        best = max(range(2), key=lambda i: scores[i].value)
        return [responses[best]]


@dataclass(frozen=True)
class Warming:
    """A tenth hotter in every iteration."""

    sampling: SamplingConfig = SamplingConfig(n=2)

    def decide(self, iteration: int, probe: Probe) -> Decision:
        temperature = self.sampling.temperature + 0.1 * iteration
        return RolloutConfig(replace(self.sampling, temperature=temperature), -1000.0), {"temperature": temperature}

    def refine(self, decision: Decision, rollouts: Sequence[Rollout]) -> Decision:
        return decision


@dataclass(frozen=True)
class Some:
    """The first responses to each problem, whatever they are."""

    count: int = 1

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows = [
            SFTExample(render(rollout.problem), scored.response.text, problem_id=rollout.problem.id)
            for rollout in rollouts
            for scored in rollout.responses[: self.count]
        ]
        return rows, {"num_rows": len(rows)}
