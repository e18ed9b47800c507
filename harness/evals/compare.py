"""Two finished evaluations of the same problems: is one better?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

from harness.errors import InputError
from harness.evals.samples import RESULTS, read_results, stream_rollouts
from harness.metrics.intervals import PairedTest, paired_test
from harness.metrics.sequential import Boundary, e_process, group_sequential, random_order
from harness.metrics.summary import ALL, MetricConfig, Ranking, clusters_of, problem_metrics, rankings_of
from harness.rollouts.dispatcher import INDEPENDENT
from harness.types import Problem, Rollout

ACCURACY = "accuracy"


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


def problem_values(folder: Path, metric: str, rollouts: Iterable[Rollout] | None = None) -> dict[str, float]:
    """A metric of each problem of a finished evaluation.

    Args:
        rollouts: of the folder, where they are read by the caller.

    Raises:
        InputError: the metric is unknown, or needs more samples than there are.
    """
    name = metric.partition("/")[0]
    results = read_results(folder)
    known, searched = results["metrics"], results["search"] != INDEPENDENT
    draws, _, part = name.partition("@")[2].partition("-")
    ranked = rankings_of(results.get("answer_weight", 0.0)) if "/" in metric else None
    ks = () if draws == ALL and searched else (int(draws or 1),)
    try:
        config = MetricConfig(
            ks,
            (int(part),) if part and "gpass" not in name else (),
            (float(part or 1),) if "gpass" in name else (),
            votes="maj" in name or "answer" in name,
            searched=searched,
        )
        read = stream_rollouts(folder, "verdicts" if metric == ACCURACY else "all") if rollouts is None else rollouts
        rows = {rollout.problem.id: _values(rollout, metric, config, ranked) for rollout in read}
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{folder}: '{metric}' cannot be computed ({error}); known: {', '.join(known)}.") from None
    if not rows or metric not in next(iter(rows.values())):
        raise InputError(f"{folder}: no metric '{metric}'; known: {', '.join(known)}.")
    return {key: value for key, row in rows.items() if (value := row[metric]) is not None}


def _values(
    rollout: Rollout, metric: str, config: MetricConfig, ranked: Mapping[str, Ranking] | None
) -> Mapping[str, float | None]:
    """The metrics of a problem; of verdicts alone the one that needs no more."""
    if metric == ACCURACY:
        return {metric: rollout.accuracy}
    return problem_metrics(rollout, config, ranked)


def values_and_problems(folder: Path, metric: str) -> tuple[dict[str, float], dict[str, Problem]]:
    """A metric of each problem, and the problems; the responses, which are much larger, are let go as they are read."""
    problems: dict[str, Problem] = {}

    def rollouts() -> Iterator[Rollout]:
        for rollout in stream_rollouts(folder, "verdicts" if metric == ACCURACY else "all"):
            problems[rollout.problem.id] = rollout.problem
            yield rollout

    return problem_values(folder, metric, rollouts()), problems


Read = Callable[[Path, str], tuple[dict[str, float], dict[str, Problem]]]
"""Reads a folder's values and problems as `values_and_problems` does; one that keeps them reads each folder once."""


def compare_folders(
    first: Path, second: Path, metric: str = "accuracy", read: Read = values_and_problems
) -> tuple[PairedTest, int]:
    """The paired test of two evaluations of one task on the problems that both have, and how many those are.

    Raises:
        InputError: they share no problem, or the problems of one id differ.
    """
    pairs, clusters = shared_values(first, second, metric, read)
    a, b = [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
    return paired_test(a, b, clusters=clusters), len(pairs)


def shared_values(
    first: Path, second: Path, metric: str, read: Read = values_and_problems
) -> tuple[dict[str, tuple[float, float]], list[str] | None]:
    """A metric of both evaluations for each problem that both have, and the problems' clusters where some share one.

    Raises:
        InputError: they share no problem, or the problems of one id differ.
    """
    hashes = [read_results(folder)["hashes"]["data"] for folder in (first, second)]
    (a, problems), (b, others) = read(first, metric), read(second, metric)
    return pair_values((a, b), (problems, others), (first, second), same_data=hashes[0] == hashes[1])


def pair_values(
    values: tuple[Mapping[str, float], Mapping[str, float]],
    problems: tuple[Mapping[str, Problem], Mapping[str, Problem]],
    names: tuple[object, object],
    same_data: bool,
) -> tuple[dict[str, tuple[float, float]], list[str] | None]:
    """Both values of each problem that two evaluations have, and the problems' clusters where some share one.

    Args:
        values: by problem id, of both.
        problems: likewise; their questions must agree where the evaluations were not of the same data.
        names: of both, for errors.

    Raises:
        InputError: they share no problem, or the problems of one id differ.
    """
    a, b = values
    shared = [key for key in a if key in b]
    if not shared:
        raise InputError(f"{names[0]} and {names[1]} share no problem; compare evaluations of one task.")
    changed = [key for key in shared if problems[0][key].question != problems[1][key].question]
    if changed and not same_data:
        raise InputError(f"{names[0]} and {names[1]}: problem '{changed[0]}' differs; evaluate both on the same file.")
    return {key: (a[key], b[key]) for key in shared}, clusters_of([problems[0][key] for key in shared])


def sequential_sentence(
    first: Path,
    second: Path,
    metric: str,
    way: str,
    looks: int,
    seed: int,
    planned: int | None,
    read: Read = values_and_problems,
) -> tuple[str, dict[str, Any]]:
    """What a comparison says that may be looked at before all problems were asked, in words and as JSON.

    Args:
        way: obrien_fleming, pocock or e_process.
        looks: looks of the plan, at equal shares of the problems.
        seed: of the random order in which problems are taken.
        planned: problems of the whole comparison; None is all of the task.

    Raises:
        InputError: the problems known are no beginning of that order, some share a cluster, or the plan does not fit.
    """
    pairs, clusters = shared_values(first, second, metric, read)
    if clusters is not None:
        raise InputError(
            f"{first}: problems share clusters, so their order says something about the answers; compare without "
            "--sequential."
        )
    partial = {folder: limit for folder in (first, second) if (limit := read_results(folder)["limit"])}
    for folder, limit in partial.items():
        if limit.get("order") != seed:
            raise InputError(
                f"{folder}: is of the first {limit['problems']} problems of the file, which are no random part of it; "
                f"evaluate with --limit and --order {seed}, or all problems."
            )
    whole = max((limit["of"] for limit in partial.values()), default=len(pairs))
    total = planned or whole
    order = random_order(list(pairs), seed)[:total]
    differences = [pairs[key][1] - pairs[key][0] for key in order]
    names = f"{metric} of {second} minus {first}"
    if way == "e_process":
        bet = e_process(differences)
        verdict = f"rejected after {bet.stopped} problems" if bet.significant else "nothing is shown yet"
        facts = f"{names}: evidence {bet.evidence:.3g}, at most {bet.largest:.3g} (20 rejects), p = {bet.p_value:.3g}"
        return f"{facts} on {bet.problems} of {total} problems; {verdict}.", asdict(bet)
    if way not in get_args(Boundary):
        raise InputError(f"--sequential '{way}' is unknown; it is obrien_fleming, pocock or e_process.")
    try:
        test = group_sequential(differences, total, looks, cast(Boundary, way))
    except ValueError as error:
        raise InputError(f"{first} and {second}: {error}; correct --looks or --planned.") from None
    if test is None:
        return f"{names}: no look yet; the first is at {total // looks} problems, {len(order)} are known.", {}
    where = f"look {test.taken} of {test.looks}, {test.problems} of {total} problems"
    facts = f"{names} is {test.difference.value:+.4f} at {where}: |z| = {abs(test.z):.2f}, bound {test.bound:.2f}"
    if not test.ended:
        return f"{facts}; go on.", asdict(test)
    adjusted = test.adjusted or test.difference  # there is none where all differences are the same
    interval = f"{adjusted.value:+.4f} [{adjusted.low:+.4f}, {adjusted.high:+.4f}]"
    verdict = f"{second if test.difference.value > 0 else first} is better" if test.significant else "no winner"
    p_value = f"p = {1.0 if test.p_value is None else test.p_value:.3g}"
    return f"{facts}; {verdict}. Adjusted for the looks {interval}, {p_value}.", asdict(test)


def limits(folders: Sequence[Path]) -> tuple[str, ...]:
    """Of which problems alone each evaluation is, in words; "" of one that is of all."""
    return tuple(describe_limit(read_results(folder)) for folder in folders)


def describe_limit(results: Mapping[str, Any]) -> str:
    """Such as "only the first 8 of 1319 problems" of an evaluation that was limited; else ""."""
    limit = results.get("limit")
    if not limit:
        return ""
    which = f"{limit['problems']} of {limit['of']} problems"
    if "shard" in limit:
        return f"only {which}, shard {limit['shard']}"
    if "ids" in limit:
        return f"only {which}, chosen by their ids"
    if "chosen" in limit:
        return f"only {which}"  # samples of another program, which does not say why these
    until = f", until {limit['until']}" if "until" in limit else ""
    return f"only {which}, in random order{until}" if "order" in limit else f"only the first {which}"


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
