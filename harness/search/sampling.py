"""Independent samples: greedy decoding is n = 1 at temperature 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

from harness.protocols import Search
from harness.types import Completion, Generate, Response, Rollout, SamplingConfig


@dataclass(frozen=True)
class Sampling:
    """Draw whole responses, independently, until the rollout has `sampling.n`.

    Sample number j is the same whether it is drawn with the others or later, to extend a rollout.
    """

    judges: ClassVar[bool] = False

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        drawn = len(rollout.responses)
        if drawn >= sampling.n:
            return []
        rest = replace(sampling, n=sampling.n - drawn, first=sampling.first + drawn)
        reply = yield Generate(rollout.problem, (Response(),), rest)
        [completions] = cast(list[list[Completion]], reply)
        return [Response().extend(completion) for completion in completions]
