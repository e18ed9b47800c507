"""A search: draw two responses, let the reward judge both, return the better one first.

    harness eval --task arithmetic --model runs/arithmetic/10_sft/hf --protocol arithmetic \
        --search examples/search.py:BestOfTwo --reward ArithmeticSteps
"""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

from harness.protocols import Search
from harness.types import Completion, Generate, Judge, Response, Rollout, SamplingConfig, Score


@dataclass(frozen=True)
class BestOfTwo:
    """`pairs` pairs of independent samples, of each the one with the higher reward."""

    pairs: int = 1
    judges: ClassVar[bool] = True
    """It asks for rewards, so results depend on the reward."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        reply = yield Generate(rollout.problem, (Response(),), replace(sampling, n=2 * self.pairs))
        [completions] = cast(list[list[Completion]], reply)
        responses = [Response().extend(completion) for completion in completions]
        scores = cast(list[Score], (yield Judge(rollout.problem, tuple(responses))))
        ranked = sorted(zip(scores, responses, strict=True), key=lambda pair: -pair[0].value)
        return [response for _, response in ranked[: self.pairs]]
