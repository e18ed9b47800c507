"""Step-level beam search, with or without a look ahead."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from harness.protocols import Search
from harness.search.expand import Trace, expand
from harness.search.steps import PlainSteps, Steps
from harness.types import Judge, Problem, Response, Rollout, SamplingConfig, Score


@dataclass(frozen=True)
class StepBeam:
    """Keep the partial responses the reward ranks highest after each step (rStar-Math, arXiv:2501.04519).

    Each of the `width` live responses is continued `sampling.n` times; the best of all stay. One that ends in
    an answer leaves the beam with its place, so the beam narrows until it is empty. A code error is a dead end. The
    released code means this too but keeps finished responses in the beam and mixes up whose continuation is whose.
    """

    width: int = 8
    """Responses kept after each step, answered ones included."""
    max_steps: int = 16
    """Steps after which responses without an answer are dropped."""
    steps: Steps = field(default_factory=PlainSteps)
    lookahead: int = 0
    """Judge a continuation by what greedy decoding makes of it in so many further steps (lookahead search, Snell et
    al., arXiv:2408.03314); costs as many times the tokens."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        """Return at most `width` answered responses, that of the highest last value first."""
        problem, beam = rollout.problem, [Trace()]
        answered: list[Response] = []
        for _ in range(self.max_steps):
            groups = yield from expand(problem, beam, sampling, self.steps, errors_threshold=1)
            grown = [trace for group in groups for trace in group if trace.state in ("open", "answered")]
            if not grown:
                break
            ends = yield from self._look_ahead(problem, grown, sampling)
            scores = cast(list[Score], (yield Judge(problem, tuple(end.response for end in ends))))
            valued = [_valued(trace, score.value) for trace, score in zip(grown, scores, strict=True)]
            best = sorted(valued, key=lambda trace: last_value(trace.response), reverse=True)
            best = best[: self.width - len(answered)]
            answered += [trace.response for trace in best if trace.state == "answered"]
            beam = [trace for trace in best if trace.state == "open"]
            if not beam:
                break
        return sorted(answered, key=last_value, reverse=True)

    def _look_ahead(
        self, problem: Problem, traces: Sequence[Trace], sampling: SamplingConfig
    ) -> Generator[Any, Any, list[Trace]]:
        ends = list(traces)
        greedy = replace(sampling, n=1, temperature=0.0)
        for _ in range(self.lookahead):
            live = [index for index, trace in enumerate(ends) if trace.state == "open"]
            if not live:
                break
            groups = yield from expand(problem, [ends[i] for i in live], greedy, self.steps, errors_threshold=1)
            for index, [end] in zip(live, groups, strict=True):
                ends[index] = end
        return ends


def _valued(trace: Trace, value: float) -> Trace:
    response = trace.response
    return replace(trace, response=replace(response, step_values=(*response.step_values, value)))


def last_value(response: Response) -> float:
    """The value of the response after its last step."""
    return response.step_values[-1]
