"""How good is each step? Complete every step prefix of the responses and see how often that ends right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from harness.protocols import Search
from harness.types import Completion, Generate, Judge, Response, Rollout, SamplingConfig, Score

Steps = tuple[str, ...]


@dataclass(frozen=True)
class StepCompletion:
    """Value the steps of a rollout's responses by completing them (Math-Shepherd, arXiv:2312.08935, section 3.2).

    All distinct prefixes of all responses to a problem are completed at once. The last step of a response needs no
    completion: its value is whether the response is right. Responses that were cut at the token limit are left out,
    since their last step is none. The search extends a rollout with verdicts, and asks the reward which completions
    are right (a reward above 0).
    """

    samples: int = 8
    """Completions of each prefix; replaces `sampling.n`."""
    estimate: Literal["hard", "soft"] = "hard"
    """"hard" is 1 if any known response with the prefix is right, else 0; "soft" the share of completions that are."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        """Return the distinct finished responses with `step_values`.

        Known responses are the rollout's and all completions, also those of longer prefixes. So with the hard estimate
        the prefixes of right responses are not completed; the paper, which draws them all the same, would label such a
        step 0 only where none of its completions repeats the success. Soft values look at a prefix's own completions
        alone, for the responses at hand were chosen and would bias the share.
        """
        whole = {
            r.response.text: r for r in rollout.responses if r.response.steps and r.response.finish_reason == "stop"
        }
        reached: set[Steps] = set()
        for scored in whole.values() if self.estimate == "hard" else ():
            if scored.correct:
                reached |= _beginnings(scored.response.steps)
        prefixes: dict[Steps, Response] = {}
        for scored in whole.values():
            for count in range(1, len(scored.response.steps)):
                if (steps := scored.response.steps[:count]) not in reached:
                    prefixes.setdefault(steps, scored.response.prefix(count))
        shares: dict[Steps, float] = {}
        if prefixes:
            asked = replace(sampling, n=self.samples)
            drawn = cast(list[list[Completion]], (yield Generate(rollout.problem, tuple(prefixes.values()), asked)))
            completed = [p.extend(c) for p, group in zip(prefixes.values(), drawn, strict=True) for c in group]
            scores = cast(list[Score], (yield Judge(rollout.problem, tuple(completed))))
            shares = _shares(list(prefixes), [score.value > 0 for score in scores])
        for steps, share in shares.items():
            if share and self.estimate == "hard":
                reached |= _beginnings(steps) | {steps}
        values = {steps: float(steps in reached) if self.estimate == "hard" else shares[steps] for steps in prefixes}
        return [_valued(scored.response, scored.correct, values) for scored in whole.values()]


def _beginnings(steps: Steps) -> set[Steps]:
    return {steps[:count] for count in range(1, len(steps))}


def _shares(prefixes: Sequence[Steps], right: Sequence[bool]) -> dict[Steps, float]:
    size = len(right) // len(prefixes)
    return {steps: sum(right[i * size : (i + 1) * size]) / size for i, steps in enumerate(prefixes)}


def _valued(response: Response, correct: bool, values: dict[Steps, float]) -> Response:
    """A prefix without a value of its own began a right response."""
    before = [values.get(response.steps[:count], 1.0) for count in range(1, len(response.steps))]
    return replace(response, step_values=(*before, float(correct)), step_ends=())
