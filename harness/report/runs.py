"""What a page shows of run directories: evaluations, training runs, their curves and samples."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evals.compare import describe_limit
from harness.evals.judge import read_judged
from harness.evals.samples import RESULTS, read_results, read_rollouts
from harness.metrics.estimators import pass_at_k
from harness.metrics.intervals import Estimate, mean_interval
from harness.metrics.summary import MetricConfig, evaluate, rankings_of
from harness.rollouts.iteration import read_manifest
from harness.store import read_jsonl, read_rows
from harness.types import Problem, Rollout

DEPTH = 4
"""How deep below a given directory runs are looked for."""

ABOUT = ("id", "question", "answer", "solution", "level", "subject", "source")
ITERATION_FILES = "rollouts/iter_[0-9]*.json"


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The directories of evaluations and training runs and the files of search trees at or below the given paths.

    Raises:
        InputError: a path does not exist, or nothing was found below it.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such directory; give the directory of a run or a file of search trees.")
        below = list(_runs_below(path)) if path.is_dir() else [path] if is_trees(path) else []
        if not below:
            raise InputError(
                f"{path}: holds no evaluation (results.json), no training run (metrics.csv) and no search trees "
                "(the output of `harness trees`)."
            )
        found += [each for each in below if each not in found]
    return found


def _runs_below(path: Path) -> Iterable[Path]:
    for folder in folders(path, DEPTH):
        if is_evaluation(folder) or is_training(folder):
            yield folder
        yield from filter(is_trees, sorted(folder.iterdir()))


def folders(path: Path, depth: int) -> Iterable[Path]:
    yield path
    if depth:
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith(".") and child.name not in ("checkpoints", "hf", "wandb"):
                yield from folders(child, depth - 1)


def is_evaluation(folder: Path) -> bool:
    return (folder / RESULTS).is_file()


def is_training(folder: Path) -> bool:
    return (folder / "metrics.csv").is_file() or any(folder.glob(ITERATION_FILES))


def is_trees(path: Path) -> bool:
    """Whether a file holds search trees, as its first row tells."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")) or not path.is_file():
        return False
    try:
        return any({"problem", "nodes"} <= set(row) for _, row in islice(read_jsonl(path), 1))
    except InputError:  # a folder may hold files that are none of ours
        return False


def names_of(found: Sequence[Path], given: Sequence[Path]) -> list[str]:
    """Short names that differ: each run below the directory it was given by, without what all names begin with."""
    tops = [path.resolve() for path in given]
    parts = []
    for path in (path.resolve() for path in found):
        top = next(top for top in tops if path.is_relative_to(top))
        parts.append((top.name, *path.relative_to(top).parts))
    if len(parts) == 1:
        return [parts[0][-1]]
    shared = len(_common(parts))
    return ["/".join(part[shared:]) or part[-1] for part in parts]


def _common(parts: Sequence[Sequence[str]]) -> list[str]:
    shared = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared


def evaluation(folder: Path, name: str, max_problems: int) -> dict[str, Any]:
    """One evaluation for the page."""
    results = read_results(folder)
    rollouts = read_rollouts(folder)
    limit = describe_limit(results)
    if judged := read_judged(folder):
        results["metrics"][f"accuracy with judge {judged['judge']['model']}"] = judged["accuracy_with_judge"]
    return {
        "name": f"{name} ({limit})" if limit else name,
        "results": {key: value for key, value in results.items() if key != "protocol"},
        "protocol": {key: results["protocol"].get(key) for key in ("name", "system", "user", "answer_protocol")},
        "pass_curve": pass_curve(rollouts),
        "problems": [problem(rollout) for rollout in rollouts[:max_problems]],
        "num_problems": len(rollouts),
    }


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... and n itself."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def pass_curve(rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    """pass@k with intervals for k = 1, 2, 4, ... up to the samples that every problem has."""
    n = min((len(rollout.responses) for rollout in rollouts), default=0)
    found = []
    for k in powers_of_two(n) if n else []:
        values = [
            float(pass_at_k(len(rollout.responses), sum(row.correct for row in rollout.responses), k))
            for rollout in rollouts
        ]
        found.append({"x": k, **point(mean_interval(values))})
    return found


def point(estimate: Estimate) -> dict[str, Any]:
    return {"y": finite(estimate.value), "low": finite(estimate.low), "high": finite(estimate.high)}


def finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def about(problem: Problem) -> dict[str, Any]:
    """What the page says of a problem before its responses."""
    return {name: getattr(problem, name) for name in ABOUT}


def problem(rollout: Rollout) -> dict[str, Any]:
    """A problem and its responses."""
    return {
        **about(rollout.problem),
        "responses": [
            {
                "steps": list(row.response.steps),
                "values": list(row.response.step_values),
                "answer": row.answer,
                "correct": row.correct,
                "status": row.status,
                "reward": finite(row.reward),
                "tokens": len(row.response.token_ids),
                "truncated": row.response.finish_reason == "length",
            }
            for row in rollout.responses
        ],
    }


def training(folder: Path, name: str, max_problems: int) -> dict[str, Any]:
    """One training run for the page: curves from metrics.csv, and what each iteration decided and sampled."""
    iterations: list[dict[str, Any]] = []
    for path in sorted(folder.glob(ITERATION_FILES)):
        decision, sampled = read_manifest(path), path.with_suffix(".jsonl")
        rollouts = read_rows(sampled, Rollout) if sampled.is_file() else []
        iterations.append(
            {
                "iteration": decision.get("iteration", len(iterations) + 1),
                "grid": grid(decision.get("decision") or {}),
                "monitors": {key: finite(value) for key, value in (decision.get("monitors") or {}).items()},
                "config": decision.get("config"),
                "seconds": decision.get("seconds"),
                "tokens": decision.get("tokens"),
                "draws": draws(rollouts, decision.get("answer_weight", 1.0)),
                "problems": [problem(rollout) for rollout in rollouts[:max_problems]],
                "num_problems": len(rollouts),
            }
        )
    return {"name": name, "iterations": iterations, "curves": curves(folder / "metrics.csv")}


def grid(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The balance score of each (temperature, threshold), and the chosen one; None if nothing was searched."""
    scores = decision.get("balance_scores")
    if not scores:
        return None
    return {
        "temperatures": decision["temperatures"],
        "thresholds": decision["thresholds"],
        "scores": scores,
        "chosen": decision.get("chosen"),
        "balance_score": decision.get("balance_score"),
        "n_star": decision.get("n_star"),
    }


def draws(rollouts: Sequence[Rollout], answer_weight: float | None) -> dict[str, list[dict[str, Any]]]:
    """pass@k and reward@k of an iteration's samples, for k = 1, 2, 4, ... n; the reward's weight of the verdict."""
    n = min((len(rollout.responses) for rollout in rollouts), default=0)
    if not n:
        return {}
    ks = tuple(powers_of_two(n))
    ranked = rankings_of(answer_weight)
    metrics = evaluate(rollouts, MetricConfig(ks, votes=False), ranked)
    found: dict[str, list[dict[str, Any]]] = {"pass@k": [{"x": k, **point(metrics[f"pass@{k}"])} for k in ks]}
    for ranking in ranked:
        found[f"reward@k/{ranking}"] = [
            {"x": k, **point(metrics[f"reward@{k}/{ranking}"])} for k in ks if f"reward@{k}/{ranking}" in metrics
        ]
    return found


def curves(path: Path) -> dict[str, list[list[float]]]:
    """The columns of metrics.csv as (x, y): x is the iteration where a row has one, and the step otherwise."""
    found: dict[str, list[list[float]]] = {}
    if not path.is_file():
        return found
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if "/" not in (name or "") or not text:
                    continue
                axis = row.get("iteration") if name.startswith(("rollout/", "eval/")) else row.get("step")
                if not axis:
                    continue
                try:
                    x, y = float(axis), float(text)
                except ValueError:
                    continue
                if math.isfinite(y):
                    found.setdefault(name, []).append([x, y])
    return {name: found[name] for name in sorted(found)}
