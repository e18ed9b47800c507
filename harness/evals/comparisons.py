"""Several comparisons at once, of tasks or of models: each tested by itself, and adjusted for how many they are."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evals.compare import (
    as_json,
    compare_folders,
    limits,
    sentence,
    sequential_sentence,
    values_and_problems,
)
from harness.metrics.sequential import LEVEL, e_bh, holm


@dataclass(frozen=True)
class Look:
    """A plan to look at comparisons before all problems were asked."""

    way: str
    """obrien_fleming, pocock or e_process."""
    looks: int
    order: int
    """Seed of the random order of problems."""
    planned: int | None
    """Problems of the whole comparison; None is all of the task."""


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of one task."""

    task: str
    names: tuple[str, str]
    text: str
    """What the test says, in words."""
    found: dict[str, Any]
    """The same as JSON; `adjust` adds what it is among the others."""

    @property
    def better(self) -> str:
        """Of many tests of whole evaluations: which is better at the adjusted level, by a difference that the problems
        can show; "" where none is."""
        found = self.found
        if found["p_value_holm"] >= LEVEL or abs(found["difference"]) < found["detectable"]:
            return ""
        return self.names[found["difference"] > 0]


def compare_runs(
    runs: Sequence[tuple[str, Mapping[str, Path]]], metric: str, all_pairs: bool = False, look: Look | None = None
) -> list[Comparison]:
    """Test all evaluations against the first, or every one against every other, on each task that the two share.

    Args:
        runs: name of each, and its folders by task.

    Raises:
        InputError: two that are to be compared share no task, or what `compare_folders` and `sequential_sentence`
            refuse.
    """
    read = functools.cache(values_and_problems)
    pairs = itertools.combinations(runs, 2) if all_pairs else ((runs[0], other) for other in runs[1:])
    found = []
    for (first, folders), (second, others) in pairs:
        names = first, second
        if not (shared := [task for task in folders if task in others]):
            raise InputError(f"{first} ({', '.join(folders)}) and {second} ({', '.join(others)}) share no task.")
        for task in shared:
            both = folders[task], others[task]
            if look is not None:
                text, test = sequential_sentence(*both, metric, look.way, look.looks, look.order, look.planned, read)
                found.append(Comparison(task, names, f"{task}: {text}", test))
                continue
            paired, count = compare_folders(*both, metric, read)
            partial = limits(both)
            text = sentence(task, metric, paired, count, names, partial)
            found.append(Comparison(task, names, text, {**as_json(paired, count), "limits": list(partial)}))
    return found


def adjust(comparisons: Sequence[Comparison], look: Look | None = None) -> str:
    """Write into each what it is among all of them, and return a line about it; "" where there is nothing to adjust.

    P-values by Holm's rule: the chance to name any difference where there is none is at most 5 %. Bets by e-BH: of the
    differences named at most 5 % are none on average. Both hold however the comparisons depend on each other, as they
    do when all are with one model.
    """
    if len(comparisons) < 2:
        return ""
    tests = [each.found for each in comparisons]
    models = len({each.names for each in comparisons}) > 1
    count = f"{len(tests)} {'comparisons' if models else 'tasks'}"
    labels = [f"{each.task} {each.names[1]} - {each.names[0]}" if models else each.task for each in comparisons]
    if look is not None and look.way == "e_process":
        for test, found in zip(tests, e_bh([test["evidence"] for test in tests]), strict=True):
            test["found_e_bh"] = found
        differ = ", ".join(label for label, test in zip(labels, tests, strict=True) if test["found_e_bh"]) or "none"
        return f"of {count} together (e-BH, at most 5 % of those found are false): {differ}."
    if any(test.get("p_value") is None for test in tests):
        return ""
    for test, p_value in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
        test["p_value_holm"] = p_value
    values = ", ".join(f"{label} {test['p_value_holm']:.3g}" for label, test in zip(labels, tests, strict=True))
    return f"p-values adjusted for {count} (Holm): {values}."


def comparison_table(comparisons: Sequence[Comparison], metric: str) -> str:
    """Tests of whole evaluations, adjusted together, one a line."""
    rows = [("task", f"{metric} of", "difference", "alone 95 %", "detectable", "problems", "p", "p (Holm)", "better")]
    for each in comparisons:
        found, (first, second) = each.found, each.names
        rows.append(
            (
                each.task,
                f"{second} - {first}",
                f"{found['difference']:+.4f}",
                f"[{found['low']:+.4f}, {found['high']:+.4f}]",
                f"{found['detectable']:.4f}",
                str(found["problems"]),
                f"{found['p_value']:.3g}",
                f"{found['p_value_holm']:.3g}",
                each.better or "none shown",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    partial = dict.fromkeys(
        f"{each.task}: {name} is of {limit}."
        for each in comparisons
        for name, limit in zip(each.names, each.found["limits"], strict=True)
        if limit
    )
    return "\n".join([*lines, *partial])
