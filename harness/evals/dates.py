"""Competitions before and after a model's release: what it cannot have seen, beside what it may have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evals.compare import problem_values
from harness.evals.task import Task
from harness.metrics.intervals import mean_interval

MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")


def check_released(released: str, tasks: Sequence[Task]) -> None:
    """Raise `InputError` unless it is a month and there are tasks with a date, on either side of it or not."""
    if not released:
        return
    if not MONTH.fullmatch(released):
        raise InputError(f"--released '{released}' is no month; write 2025-06.")
    if not any(task.held for task in tasks):
        raise InputError(
            f"--released {released}: no task says when its problems became public (`held`); competitions do, such as "
            "aime2025."
        )


def date_lines(released: str, tasks: Mapping[str, Task], done: Sequence[tuple[Mapping[str, Any], Path]]) -> list[str]:
    """The accuracy on dated tasks from before a month and from it on, problems of all tasks together.

    Args:
        released: the month; "" gives no line.
        tasks: by name.
        done: finished evaluations of one model.
    """
    if not released:
        return []
    dated = [(tasks[results["task"]], folder) for results, folder in done if tasks[results["task"]].held]
    lines = []
    for words, side in (
        (f"before {released}", [(task, folder) for task, folder in dated if task.held < released]),
        (f"from {released} on", [(task, folder) for task, folder in dated if task.held >= released]),
    ):
        values = [value for _, folder in side for value in problem_values(folder, "accuracy").values()]
        if not values:
            lines.append(f"{words}: no problem; add a competition of that time.")
            continue
        accuracy = mean_interval(values)
        names = ", ".join(f"{task.name} ({task.held})" for task, _ in side)
        lines.append(
            f"{words}: accuracy {accuracy.value:.4f} [{accuracy.low:.4f}, {accuracy.high:.4f}] on {len(values)} "
            f"problems of {names}"
        )
    lines.append(
        "competitions differ in difficulty: compare the same two lines of a model that is older than all of them."
    )
    return lines
