"""Where does a wrong response go wrong? Continue it from each of its steps."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from harness.protocols import Parallel
from harness.search.driver import own_seed
from harness.types import Completion, Generate, Judge, Problem, Response, Rollout, SamplingConfig, Score


@dataclass(frozen=True)
class Continuation:
    """A sample that continues the first steps of a response to its end."""

    completion: Completion
    right: bool = False
    """Whether its answer is right."""


@dataclass(frozen=True)
class ExploredStep:
    """A prefix of a response and what was drawn after it."""

    num_steps: int
    """Length of the prefix, in steps."""
    continuations: tuple[Continuation, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether a right answer was reached from here."""
        return any(continuation.right for continuation in self.continuations)


@dataclass(frozen=True)
class Exploration:
    """What continuing a wrong response from its steps showed."""

    response: Response
    explored: tuple[ExploredStep, ...] = ()
    """In the order of the steps."""
    pit: int | None = None
    """The first step, counted from 0, after which no continuation is right; None if there is none."""


@dataclass
class _Walk:
    """A response on its way through its steps."""

    response: Response
    limit: int
    """Prefixes of 1 to so many steps may be explored."""
    answer_follows: bool
    """Whether the step after those is the answer, known to be a pit without exploring it."""
    found: dict[Response, tuple[Continuation, ...]]
    """By prefix; one dict for all responses that share what is drawn."""
    seed: SamplingConfig


@dataclass(frozen=True)
class StepExplore:
    """Find the first pit of each wrong response (Self-Explore, arXiv:2404.10346, section 3.2).

    Step i counts as sound when one of `samples` continuations of the problem and steps 1 to i has the right answer; the
    first that does not is the pit, and the search stops there. The search asks the reward which continuations are right
    (a reward above 0). It shows it the continuation alone, as the released code reads it, so that an answer guessed in
    the steps before does not count; only a program that has tests is shown whole.

    The plain scan of the paper is `at_once=samples, skip_answer=False, share_prefixes=False`. The first two settings
    save tokens and change nothing: sample j after a prefix is the same however many are drawn at a time. With
    `share_prefixes` responses that begin alike are judged by the same samples, which leaves each one's distribution as
    it is.
    """

    samples: int = 4
    """Continuations of each step; replaces `sampling.n`."""
    at_once: int = 1
    """Draw so many at a time and stop at the first right one. After the step before a pit, from whose continuations the
    chosen one is taken, all are drawn."""
    skip_answer: bool = True
    """Do not continue a response behind the answer it has ended with; that step is the pit if none before it is."""
    share_prefixes: bool = True
    """Continue tokens with which several responses to a problem begin once for all of them."""
    order: Literal["linear", "binary"] = "linear"
    """"binary" bisects the steps of each response, which takes fewer samples of long ones and finds the first pit only
    if no step after a pit is sound. What responses share is then drawn for each of them, though with the same seeds."""
    max_steps: int | None = 20
    """Steps looked at; a response without a pit among them has none."""

    def explore(self, rollout: Rollout, sampling: SamplingConfig) -> Generator[Any, Any, list[Exploration]]:
        """Explore the wrong responses of a rollout, all at the same time; the results are in their order."""
        shared: dict[Response, tuple[Continuation, ...]] = {}
        walks = []
        for index, scored in enumerate(rollout.responses):
            if scored.correct or not scored.response.steps:
                continue
            response, share = scored.response, self.share_prefixes and self.order == "linear"
            ended = self.skip_answer and scored.answer is not None and response.finish_reason == "stop"
            wanted = len(response.steps) - ended
            limit = wanted if self.max_steps is None else min(wanted, self.max_steps)
            walks.append(
                _Walk(
                    response,
                    limit,
                    answer_follows=ended and limit == wanted,
                    found=shared if share else {},
                    seed=own_seed(sampling, "explore", *(() if self.share_prefixes else (index,))),
                )
            )
        if self.order == "binary":
            yield Parallel(tuple(self._bisect(rollout.problem, walk) for walk in walks))
        elif self.share_prefixes:
            yield from self._go_on(rollout.problem, walks, 0)
        else:
            yield Parallel(tuple(self._go_on(rollout.problem, [walk], 0) for walk in walks))
        return [_result(walk) for walk in walks]

    def _go_on(self, problem: Problem, walks: Sequence[_Walk], done: int) -> Generator[Any, Any, bool]:
        """Explore responses that share their first steps, which are sound; whether the next step of one is its pit."""
        branches: dict[Response, list[_Walk]] = {}
        for walk in walks:
            if walk.limit > done:
                branches.setdefault(walk.response.prefix(done + 1), []).append(walk)
        pits = yield Parallel(
            tuple(self._explore_step(problem, prefix, group, done + 1) for prefix, group in branches.items())
        )
        return any(pits) or any(walk.answer_follows and walk.limit == done for walk in walks)

    def _explore_step(
        self, problem: Problem, prefix: Response, walks: Sequence[_Walk], done: int
    ) -> Generator[Any, Any, bool]:
        """Explore the last step of a prefix and, if it is sound, those after it; whether it is a pit."""
        if not (yield from self._draw(problem, prefix, walks[0])):
            return True
        if (yield from self._go_on(problem, walks, done)):
            yield from self._draw(problem, prefix, walks[0], all_of_them=True)
        return False

    def _bisect(self, problem: Problem, walk: _Walk) -> Generator[Any, Any, None]:
        sound, pit = 0, walk.limit + 1
        while pit - sound > 1:
            middle = (sound + pit) // 2
            if (yield from self._draw(problem, walk.response.prefix(middle), walk)):
                sound = middle
            else:
                pit = middle
        if sound and (pit <= walk.limit or walk.answer_follows):
            yield from self._draw(problem, walk.response.prefix(sound), walk, all_of_them=True)

    def _draw(
        self, problem: Problem, prefix: Response, walk: _Walk, all_of_them: bool = False
    ) -> Generator[Any, Any, bool]:
        """Draw continuations until one is right or there are enough; whether one is."""
        drawn = walk.found.get(prefix, ())
        sampling = own_seed(walk.seed, prefix.text)
        while len(drawn) < self.samples and (all_of_them or not any(c.right for c in drawn)):
            size = min(self.at_once, self.samples - len(drawn))
            asked = replace(sampling, n=size, first=len(drawn))
            reply = yield Generate(problem, (prefix,), asked, number=0)
            [completions] = cast(list[list[Completion]], reply)
            before = prefix if problem.tests else Response()
            judged = tuple(before.extend(completion) for completion in completions)
            scores = cast(list[Score], (yield Judge(problem, judged)))
            drawn += tuple(Continuation(c, score.value > 0) for c, score in zip(completions, scores, strict=True))
            walk.found[prefix] = drawn
        return any(continuation.right for continuation in drawn)


def _result(walk: _Walk) -> Exploration:
    explored = tuple(
        ExploredStep(count, walk.found[prefix])
        for count in range(1, walk.limit + 1)
        if (prefix := walk.response.prefix(count)) in walk.found
    )
    pits = [step.num_steps - 1 for step in explored if not step.sound]
    pit = pits[0] if pits else walk.limit if walk.answer_follows else None
    if pit is not None:
        explored = tuple(step for step in explored if step.num_steps <= pit + 1)
    return Exploration(walk.response, explored, pit)
