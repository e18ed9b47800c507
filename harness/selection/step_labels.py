"""From step values to rows for a pointwise process reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.protocols import Selection
from harness.types import Problem, Rollout, RolloutConfig, StepExample


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
