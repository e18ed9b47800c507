"""Asking problems in a random order until the accuracy is known well enough.

The interval is a confidence sequence (`harness.metrics.sequential`): it holds at every number of problems at once, so
that stopping because it has become narrow does not spoil it. It would spoil that of a fixed number of problems, which
is narrow by chance where the first answers happen to agree, and then holds too seldom.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import InputError
from harness.evals.evaluation import Evaluation, Until
from harness.metrics.intervals import Estimate
from harness.metrics.sequential import confidence_sequence, values_needed
from harness.metrics.summary import clusters_of
from harness.types import Rollout

FIRST, MORE = 32, 16
"""Problems before the first look, and at least as many between any two: an engine wants several at a time."""
_RULE = re.compile(r"\s*half_width\s*<\s*(0?\.\d+)\s*")


def parse_until(text: str) -> Until | None:
    """What `--until` says; None if nothing; raises `InputError` for anything but a half width."""
    if not text:
        return None
    found = _RULE.fullmatch(text)
    if not found or not 0 < float(found[1]) < 0.5:
        raise InputError(f"--until '{text}': write half_width<0.02, with a number above 0 and below 0.5.")
    return Until(float(found[1]))


def check_until(evaluation: Evaluation) -> None:
    """Raise `InputError` unless the problems come in a random order and say nothing of each other."""
    if evaluation.until is None:
        return
    name, data = evaluation.task.name, evaluation.data
    if data.order is None or data.ids:
        raise InputError(f"task '{name}': --until asks problems in a random order; give --order, and no --samples.")
    if clusters_of(data.problems) is not None:
        raise InputError(
            f"task '{name}': its problems share clusters, so their number says less than it seems; leave out --until."
        )


@dataclass(frozen=True)
class Stop:
    """Where an evaluation came to its end."""

    until: Until
    accuracy: Estimate
    """With the interval that holds whenever one stops."""
    total: int
    """Problems of the task."""

    @property
    def half_width(self) -> float:
        return (self.accuracy.high - self.accuracy.low) / 2

    @property
    def reached(self) -> bool:
        """Whether the interval is narrow enough; if not, there are no more problems."""
        return self.half_width < self.until.half_width

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": str(self.until),
            "reached": self.reached,
            "half_width": round(self.half_width, 6),
            "problems": self.accuracy.count,
            "of": self.total,
        }


def sampled_until(
    evaluation: Evaluation, until: Until, sampled: Callable[[Evaluation], list[Rollout]]
) -> tuple[Evaluation, Stop]:
    """Ask as many problems from the first on as it takes; all of them if need be.

    Args:
        evaluation: its problems are in a random order.
        sampled: asks an evaluation's problems and returns their scored rollouts.

    Returns:
        The evaluation of the problems that were asked, and where it stopped.
    """
    data = evaluation.data
    values: list[float] = []
    wanted = FIRST
    while True:
        part = replace(data, problems=data.problems[len(values) : wanted])
        values += [rollout.accuracy for rollout in sampled(replace(evaluation, data=part))]
        stop = Stop(until, confidence_sequence(values, until.half_width), data.total)
        if stop.reached or len(values) == len(data.problems):
            early = str(until) if len(values) < len(data.problems) else ""
            asked = replace(data, problems=data.problems[: len(values)], until=early)
            return replace(evaluation, data=asked), stop
        needed = values_needed(values, until.half_width)
        wanted = max(len(values) + MORE, min(2 * len(values), needed))
