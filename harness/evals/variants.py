"""A set of problems beside one that was made from it: by how much does an answer hang on the wording?

A variant names its original by `cluster`: the original's id (MATH-Perturb and `math`, GSM-Plus, GSM-Symbolic and
`gsm8k`), or the cluster that both share (MATH-Perturb's two files). Originals are what is independent: each counts
once, with the mean of its variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.evals.compare import as_json as test_as_json
from harness.evals.compare import limits, problem_values
from harness.evals.run import as_json
from harness.evals.samples import stream_rollouts
from harness.evals.task import Task, shipped_tasks
from harness.metrics.intervals import Estimate, PairedTest, mean_interval, paired_test


@dataclass(frozen=True)
class Gap:
    """One model on variants and on what they were made from."""

    originals: int
    """Originals of which there are variants; everything here is of these."""
    variants: int
    original: Estimate
    variant: Estimate
    """Each original's variants count as one."""
    test: PairedTest
    """Variants minus originals, original by original."""
    worst: Estimate
    """The worst variant of each original."""
    spread: float
    """Standard deviation between the variants of an original, averaged over the originals with several; else 0."""
    both_fail: float
    """Share of the originals that are answered wrong, by half of the samples or more, and their variants likewise."""

    def as_json(self) -> dict[str, Any]:
        return {
            "originals": self.originals,
            "variants": self.variants,
            "original": as_json(self.original),
            "variant": as_json(self.variant),
            "gap": test_as_json(self.test, self.originals),
            "worst": as_json(self.worst),
            "spread": round(self.spread, 6),
            "both_fail": round(self.both_fail, 6),
        }


def gap_of(originals: Mapping[str, float], variants: Mapping[str, Sequence[float]]) -> Gap | None:
    """The gap of variants to their originals; None where no original has a variant.

    Args:
        originals: a share of each original, such as its accuracy, by name.
        variants: those of the variants of each original, by the original's name.
    """
    shared = [name for name in originals if name in variants]
    if not shared:
        return None
    first = [originals[name] for name in shared]
    second = [float(np.mean(variants[name])) for name in shared]
    spreads = [float(np.std(variants[name], ddof=1)) for name in shared if len(variants[name]) > 1]
    return Gap(
        len(shared),
        sum(len(variants[name]) for name in shared),
        mean_interval(first),
        mean_interval(second),
        paired_test(first, second),
        mean_interval([min(variants[name]) for name in shared]),
        float(np.mean(spreads)) if spreads else 0.0,
        float(np.mean([a <= 0.5 and b <= 0.5 for a, b in zip(first, second, strict=True)])),
    )


def gap_between(original: Path, variant: Path, metric: str = "accuracy") -> Gap | None:
    """The gap between two finished evaluations of one model; None where the second has no variant of the first one's.

    Raises:
        InputError: the metric is unknown or no share, or an original comes twice.
    """
    families, ids = _families(variant), _families(original)
    values = problem_values(original, metric), problem_values(variant, metric)
    if any(not 0 <= value <= 1 for each in values for value in each.values()):
        raise InputError(f"'{metric}' is no share; a gap is of shares, such as accuracy and pass@8.")
    wanted = set(families.values())
    named: dict[str, float] = {}
    for problem, value in values[0].items():
        name = problem if problem in wanted else ids[problem]
        if name in named and name in wanted:
            raise InputError(
                f"{original}: several problems are the original '{name}'; give the set of originals first."
            )
        named[name] = value
    grouped: dict[str, list[float]] = {}
    for problem, value in values[1].items():
        grouped.setdefault(families[problem], []).append(value)
    return gap_of(named, grouped)


def _families(folder: Path) -> dict[str, str]:
    """Of each problem what it shares with its variants."""
    problems = (rollout.problem for rollout in stream_rollouts(folder, "verdicts"))
    return {problem.id: problem.cluster or problem.id for problem in problems}


def gap_sentence(gap: Gap, metric: str, names: tuple[str, str], folders: Sequence[Path]) -> str:
    """What the gap says, in words; `names` of the originals' set and the variants'."""
    difference = gap.test.difference
    partial = [f"{name} is of {limit}" for name, limit in zip(names, limits(folders), strict=True) if limit]
    where = f" ({'; '.join(partial)})" if partial else ""
    facts = (
        f"{names[1]} against its {gap.originals} originals in {names[0]}{where}: {metric} {gap.variant.value:.4f} "
        f"against {gap.original.value:.4f}, gap {difference.value:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}] "
        f"({gap.test.method}, p = {gap.test.p_value:.3g}); {gap.both_fail:.1%} fail both"
    )
    if gap.variants == gap.originals:
        return f"{facts}."
    worst, each = gap.worst, gap.variants / gap.originals
    return (
        f"{facts}. Worst of {each:.3g} variants {worst.value:.4f} [{worst.low:.4f}, {worst.high:.4f}]; standard "
        f"deviation between variants {gap.spread:.4f}."
    )


def variant_pairs(firsts: Mapping[str, Path], seconds: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Which tasks of the first are the originals of which of the second.

    Tasks that come with the project say whose variants they are; of others, one evaluation on each side is a pair.
    """
    known = {name: task.variants_of for name, task in shipped_tasks().items()}
    found = [(first, second) for second in seconds for first in firsts if known.get(second) == first]
    if not found and len(firsts) == len(seconds) == 1:
        return [(next(iter(firsts)), next(iter(seconds)))]
    return found


def gap_lines(tasks: Mapping[str, Task], done: Sequence[tuple[Mapping[str, Any], Path]]) -> list[str]:
    """The gap of each set of variants to its originals, where both were evaluated; tasks by name."""
    folders = {str(results["task"]): folder for results, folder in done}
    lines = []
    for name, folder in folders.items():
        original = tasks[name].variants_of
        if original in folders and (gap := gap_between(folders[original], folder)):
            lines.append(gap_sentence(gap, "accuracy", (original, name), (folders[original], folder)))
    return lines
