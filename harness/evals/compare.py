"""Two finished evaluations of the same problems: is one better?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evals.samples import RESULTS, read_results, read_rollouts
from harness.metrics.intervals import PairedTest, paired_test
from harness.metrics.summary import ALL, MetricConfig, problem_metrics, rankings_of
from harness.rollouts.dispatcher import INDEPENDENT


def evaluation_folders(folder: Path) -> dict[str, Path]:
    """Folders of finished evaluations by task: the folder itself, or those one level below it.

    Raises:
        InputError: there is none, or two of one task.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; give the output of `harness eval`.")
    found: dict[str, Path] = {}
    for path in sorted([folder, *filter(Path.is_dir, folder.iterdir())]):
        if not (path / RESULTS).is_file():
            continue
        task = read_results(path)["task"]
        if task in found:
            raise InputError(
                f"{folder}: {found[task].name} and {path.name} are both of task '{task}'; name one of them."
            )
        found[task] = path
    if not found:
        raise InputError(f"{folder}: holds no finished evaluation (results.json); run `harness eval` first.")
    return found


def problem_values(folder: Path, metric: str) -> dict[str, float]:
    """A metric of each problem of a finished evaluation.

    Raises:
        InputError: the metric is unknown, or needs more samples than there are.
    """
    name = metric.partition("/")[0]
    results = read_results(folder)
    known, searched = results["metrics"], results["search"] != INDEPENDENT
    draws, _, distinct = name.partition("@")[2].partition("-")
    ranked = rankings_of(results.get("answer_weight", 0.0)) if "/" in metric else None
    ks = () if draws == ALL and searched else (int(draws or 1),)
    try:
        config = MetricConfig(
            ks, (int(distinct),) if distinct else (), votes="maj" in name or "answer" in name, searched=searched
        )
        rows = {rollout.problem.id: problem_metrics(rollout, config, ranked) for rollout in read_rollouts(folder)}
    except ValueError as error:
        raise InputError(f"{folder}: '{metric}' cannot be computed ({error}); known: {', '.join(known)}.") from None
    if not rows or metric not in next(iter(rows.values())):
        raise InputError(f"{folder}: no metric '{metric}'; known: {', '.join(known)}.")
    return {key: value for key, row in rows.items() if (value := row[metric]) is not None}


def compare_folders(first: Path, second: Path, metric: str = "accuracy") -> tuple[PairedTest, int]:
    """The paired test of two evaluations of one task on the problems that both have, and how many those are.

    Raises:
        InputError: they share no problem, or the problems of one id differ.
    """
    hashes = [read_results(folder)["hashes"]["data"] for folder in (first, second)]
    a, b = problem_values(first, metric), problem_values(second, metric)
    shared = [key for key in a if key in b]
    if not shared:
        raise InputError(f"{first} and {second} share no problem; compare evaluations of one task.")
    if hashes[0] != hashes[1]:
        questions = [{r.problem.id: r.problem.question for r in read_rollouts(f)} for f in (first, second)]
        if changed := [key for key in shared if questions[0][key] != questions[1][key]]:
            raise InputError(f"{first} and {second}: problem '{changed[0]}' differs; evaluate both on the same file.")
    return paired_test([a[key] for key in shared], [b[key] for key in shared]), len(shared)


def limits(folders: Sequence[Path]) -> tuple[str, ...]:
    """Of which problems alone each evaluation is, in words; "" of one that is of all."""
    return tuple(describe_limit(read_results(folder)) for folder in folders)


def describe_limit(results: Mapping[str, Any]) -> str:
    """Such as "only the first 8 of 1319 problems" of an evaluation that was limited; else ""."""
    limit = results.get("limit")
    return f"only the first {limit['problems']} of {limit['of']} problems" if limit else ""


def sentence(
    task: str, metric: str, test: PairedTest, count: int, names: tuple[str, str], limits: Sequence[str] = ("", "")
) -> str:
    """What the test says, in words."""
    difference = test.difference
    partial = [f"{name} is of {limit}" for name, limit in zip(names, limits, strict=True) if limit]
    task = f"{task} ({'; '.join(partial)})" if partial else task
    facts = (
        f"{task}: {metric} of {names[1]} minus {names[0]} is {difference.value:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}] on {count} problems "
        f"({test.method}, p = {test.p_value:.3g}; detectable at 80 % power: {test.detectable:.4f})."
    )
    if test.significant:
        return f"{facts} {names[1] if difference.value > 0 else names[0]} is better."
    reason = "smaller than these problems can show" if test.p_value < 0.05 else "no difference is shown"
    return f"{facts} No winner: {reason}."


def as_json(test: PairedTest, count: int) -> Mapping[str, Any]:
    return {
        "difference": test.difference.value,
        "low": test.difference.low,
        "high": test.difference.high,
        "p_value": test.p_value,
        "method": test.method,
        "detectable": test.detectable,
        "significant": test.significant,
        "problems": count,
    }
