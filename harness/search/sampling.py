"""Independent samples: greedy decoding is n = 1 at temperature 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from harness.protocols import Search
from harness.types import Completion, Generate, Response, Rollout, SamplingConfig


@dataclass(frozen=True)
class Sampling:
    """Draw `sampling.n` whole responses, independently."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        reply = yield Generate(rollout.problem, (Response(),), sampling)
        [completions] = cast(list[list[Completion]], reply)
        return [Response().extend(completion) for completion in completions]
