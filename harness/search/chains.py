"""Responses sampled step by step, without choosing between steps: greedy decoding and best-of-n with code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

from harness.protocols import Parallel, Search
from harness.search.driver import own_seed
from harness.search.expand import Trace, expand
from harness.search.steps import PlainSteps, Steps
from harness.types import Response, Rollout, SamplingConfig


@dataclass(frozen=True)
class Chains:
    """`sampling.n` independent responses, each step run as code before the next is sampled.

    With temperature 0 and n = 1 it is greedy decoding; with n > 1 and a choice by reward, best-of-n; with a choice by
    vote, self-consistency (arXiv:2203.11171). The official greedy evaluation of rStar-Math is
    `Chains(CodeSteps(stop_at_steps=False), max_steps=2, errors_threshold=3)`.
    """

    judges: ClassVar[bool] = False
    """Whether what it finds depends on the reward."""

    steps: Steps = field(default_factory=PlainSteps)
    max_steps: int = 32
    errors_threshold: int = 3
    """So many failed steps in a row end a response."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        """Return the responses in sample order, also those that found no answer."""
        one = replace(sampling, n=1)
        chains = tuple(self._chain(rollout, own_seed(one, "chain", index)) for index in range(sampling.n))
        results = cast(list[list[Response]], (yield Parallel(chains)))
        return [response for [response] in results]

    def _chain(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        trace = Trace()
        for _ in range(self.max_steps):
            [[trace]] = yield from expand(rollout.problem, [trace], sampling, self.steps, self.errors_threshold)
            if trace.state != "open":
                break
        return [ended(trace.response)]


def ended(response: Response) -> Response:
    """The response, marked as cut where it could still go on."""
    return response if response.finished else replace(response, finish_reason="length")
