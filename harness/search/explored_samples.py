"""Samples whose wrong responses are explored at once, so that a loop finds the first pits anew in every iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from harness.protocols import Parallel, Search
from harness.search.chains import ended
from harness.search.driver import own_seed
from harness.search.step_explore import Exploration, StepExplore
from harness.search.steps import PlainSteps
from harness.types import Completion, Generate, Judge, Problem, Response, Rollout, SamplingConfig, Score, ScoredResponse


@dataclass(frozen=True)
class ExploredSamples:
    """`sampling.n` responses drawn step by step, and continuations of the wrong ones up to their first pit.

    Self-Explore (arXiv:2404.10346) as a search, for `harness.selection.PitPairs`. An explored response has
    `step_values`: 1 for a step that some continuation saves, 0 from the first pit on. The continuations follow as
    responses of their own, which begin with the steps that they continue; numbers of an iteration count them too. The
    search asks the reward which responses are right (a reward above 0), so give it the outcome alone.
    """

    steps: PlainSteps = field(default_factory=PlainSteps)
    explore: StepExplore = field(default_factory=StepExplore)
    max_steps: int = 32
    """Steps after which a response is cut."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        problem, one = rollout.problem, replace(sampling, n=1, step_stop=self.steps.step_stop)
        chains = tuple(self._chain(problem, own_seed(one, "chain", index)) for index in range(sampling.n))
        drawn = [response for [response] in cast(list[list[Response]], (yield Parallel(chains)))]
        scores = cast(list[Score], (yield Judge(problem, tuple(drawn))))
        # The last step of a response that ended by itself is taken for its answer.
        judged = tuple(
            ScoredResponse(response, "" if response.finish_reason == "stop" else None, score.value > 0)
            for response, score in zip(drawn, scores, strict=True)
        )
        whole = replace(sampling, step_stop=())
        explorations = iter((yield from self.explore.explore(Rollout(problem, judged), whole)))
        explored = {
            index: next(explorations)
            for index, scored in enumerate(judged)
            if not scored.correct and scored.response.steps
        }
        found = [
            replace(response, step_values=_values(explored[index]) if index in explored else ())
            for index, response in enumerate(drawn)
        ]
        return found + _continuations(list(explored.values()))

    def _chain(self, problem: Problem, sampling: SamplingConfig) -> Search:
        response = Response()
        ends: tuple[int, ...] = ()
        while not response.finished and len(ends) < self.max_steps:
            [[completion]] = cast(list[list[Completion]], (yield Generate(problem, (response,), sampling)))
            response = response.extend(completion)
            ends = (*ends, len(response.token_ids))
        return [replace(ended(response), step_ends=ends)]


def _values(exploration: Exploration) -> tuple[float, ...]:
    if exploration.pit is None:
        return ()
    return tuple(float(step < exploration.pit) for step in range(len(exploration.response.steps)))


def _continuations(explorations: Sequence[Exploration]) -> list[Response]:
    """Each once, though several responses share it."""
    found: dict[Response, None] = {}
    for exploration in explorations:
        for step in exploration.explored:
            prefix = exploration.response.prefix(step.num_steps)
            found.update(dict.fromkeys(prefix.extend(drawn.completion) for drawn in step.continuations))
    return list(found)
