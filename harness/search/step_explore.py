"""Where does a wrong response go wrong? Continue it from each of its steps."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, cast

from harness.protocols import Parallel, Search
from harness.search.driver import own_seed
from harness.types import Completion, Generate, Judge, Problem, Response, Rollout, SamplingConfig, Score


@dataclass(frozen=True)
class Exploration:
    """What continuing a wrong response from each of its steps showed."""

    response: Response
    continuations: tuple[tuple[Response, ...], ...]
    """For each explored step, the whole responses drawn after it."""
    successes: tuple[int, ...]
    """For each explored step, how many of them are right."""
    pit: int | None
    """The first step, counted from 0, after which no continuation is right; None if there is none."""


@dataclass(frozen=True)
class StepExplore:
    """Find the first pit of each wrong response (Self-Explore, arXiv:2404.10346, section 3.2).

    Step i counts as sound when one of `samples` continuations of the problem and steps 1 to i has the right answer;
    the first that does not is the pit, and the search stops there. The last step is never continued: what follows a
    finished response has no answer. The search extends a rollout, and asks the reward which continuations are right
    (a reward above 0).
    """

    samples: int = 4
    """Continuations of each step; replaces `sampling.n`."""
    at_once: int = 0
    """Draw so many at a time and stop at the first right one, which finds the same pits for fewer tokens; after the
    step before the pit, from whose continuations the chosen one is taken, all are drawn. 0 draws all at once."""
    max_explored: int | None = None
    """Wrong responses explored of each problem; None is all."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        """Return all continuations as whole responses; `explore` tells which belong where."""
        found = yield from self.explore(rollout, sampling)
        return [response for one in found for step in one.continuations for response in step]

    def explore(self, rollout: Rollout, sampling: SamplingConfig) -> Generator[Any, Any, list[Exploration]]:
        """Explore the wrong responses of a rollout, all at the same time."""
        wrong = [scored.response for scored in rollout.responses if not scored.correct and scored.response.steps]
        return (
            yield Parallel(
                tuple(
                    self._explore_one(rollout.problem, response, own_seed(sampling, "explore", index))
                    for index, response in enumerate(wrong[: self.max_explored])
                )
            )
        )

    def _explore_one(
        self, problem: Problem, response: Response, sampling: SamplingConfig
    ) -> Generator[Any, Any, Exploration]:
        continuations: list[tuple[Response, ...]] = []
        successes: list[int] = []
        pit: int | None = len(response.steps) - 1
        for index in range(len(response.steps) - 1):
            drawn, right = yield from self._draw(problem, response.prefix(index + 1), sampling, (), 0)
            continuations.append(drawn)
            successes.append(right)
            if not right:
                pit = index
                break
        if continuations and pit:
            before = response.prefix(pit)
            drawn, right = continuations[pit - 1], successes[pit - 1]
            drawn, right = yield from self._draw(problem, before, sampling, drawn, right, to_the_end=True)
            continuations[pit - 1], successes[pit - 1] = drawn, right
        return Exploration(response, tuple(continuations), tuple(successes), pit)

    def _draw(
        self,
        problem: Problem,
        prefix: Response,
        sampling: SamplingConfig,
        drawn: tuple[Response, ...],
        right: int,
        to_the_end: bool = False,
    ) -> Generator[Any, Any, tuple[tuple[Response, ...], int]]:
        """Draw continuations until one is right or there are enough; `to_the_end` draws all that are missing."""
        while len(drawn) < self.samples and (to_the_end or not right):
            size = min(self.at_once or self.samples, self.samples - len(drawn))
            reply = yield Generate(problem, (prefix,), replace(sampling, n=size))
            [completions] = cast(list[list[Completion]], reply)
            new = tuple(prefix.extend(completion) for completion in completions)
            scores = cast(list[Score], (yield Judge(problem, new)))
            drawn, right = (*drawn, *new), right + sum(score.value > 0 for score in scores)
        return drawn, right
