"""From step values to rows for a pointwise process reward model, and from responses to exact token prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from harness.engines.completion import Decoder
from harness.protocols import Selection
from harness.types import Problem, Response, Rollout, RolloutConfig, StepExample


@dataclass(frozen=True)
class StepLabels:
    """One row for each response whose steps have values, as `StepCompletion` leaves them."""

    max_per_problem: int | None = None
    """The first so many responses to each problem; None is all."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows = [
            StepExample(render(rollout.problem), response.steps, response.step_values, problem_id=rollout.problem.id)
            for rollout in rollouts
            for response in [scored.response for scored in rollout.responses][: self.max_per_problem]
            if response.step_values
        ]
        labels = [label for row in rows for label in row.labels]
        return rows, {
            "num_rows": len(rows),
            "num_steps": len(labels),
            "mean_label": sum(labels) / max(len(labels), 1),
        }


def with_step_ends(rollout: Rollout, prompt_ids: Sequence[int], tokenizer: Any) -> Rollout:
    """Tell which sampled tokens make up the steps of each response, so that searches continue those very tokens."""
    decoder = Decoder(tokenizer, frozenset())
    responses = (
        replace(scored, response=replace(scored.response, step_ends=step_ends(scored.response, prompt_ids, decoder)))
        for scored in rollout.responses
    )
    return replace(rollout, responses=tuple(responses))


def step_ends(response: Response, prompt_ids: Sequence[int], decoder: Decoder) -> tuple[int, ...]:
    """For each step the number of tokens up to its end, -1 where no number of tokens gives exactly the steps so far."""
    ids = response.token_ids
    ends, start = [], 0
    for length in accumulate(map(len, response.steps)):
        low, high = start, len(ids)
        while low < high:  # the text grows with the tokens, so bisection finds the fewest that hold the steps
            middle = (low + high) // 2
            enough = len(decoder.text(prompt_ids, ids[:middle])) >= length
            low, high = (low, middle) if enough else (middle + 1, high)
        exact = decoder.text(prompt_ids, ids[:low]) == response.text[:length]
        ends.append(low if exact else -1)
        start = low
    return tuple(ends)
