"""What a page shows of run directories: evaluations, training runs, their curves and samples."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.evals.compare import describe_limit
from harness.evals.judge import read_judged
from harness.evals.samples import RESULTS, read_results, stream_rollouts
from harness.metrics.estimators import pass_at_k
from harness.metrics.intervals import Estimate, mean_interval
from harness.metrics.summary import MetricConfig, clusters_of, evaluate, rankings_of
from harness.report.blocks import BlockWriter, Choice
from harness.rollouts.iteration import read_manifest
from harness.store import read_jsonl, stable_hash, to_row
from harness.types import Problem, Response, Rollout, ScoredResponse

DEPTH = 4
"""How deep below a given directory runs are looked for."""

ABOUT = ("id", "question", "answer", "solution", "level", "subject", "source")
ITERATION_FILES = "rollouts/iter_[0-9]*.json"
METRICS = "metrics.csv"
UNREAD = Response()
"""Stands for all whose texts are no longer needed."""


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
    """A directory and those below it that may hold runs."""
    if not path.is_dir():
        return
    yield path
    if depth:
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith(".") and child.name not in ("checkpoints", "hf", "wandb"):
                yield from folders(child, depth - 1)


def state_of(paths: Sequence[Path], page: Path) -> frozenset[tuple[str, int, int]]:
    """Name, size and time of all files that a page may show, without the page's own; it changes when they do."""
    found = set()
    for path in paths:
        below = [path] if path.is_file() else [each for folder in folders(path, DEPTH) for each in folder.iterdir()]
        for each in below:
            with contextlib.suppress(OSError):  # it may go away meanwhile
                status = each.stat()
                if each.is_file() and each.resolve() != page.resolve() and not each.name.startswith("."):
                    found.add((str(each), status.st_size, status.st_mtime_ns))
    return frozenset(found)


def is_evaluation(folder: Path) -> bool:
    return (folder / RESULTS).is_file()


def is_training(folder: Path) -> bool:
    return (folder / METRICS).is_file() or any(folder.glob(ITERATION_FILES))


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


@dataclass
class Values:
    """What is kept of an evaluation's problems once their responses are written: enough to compare and to draw."""

    accuracy: dict[str, float] = field(default_factory=dict)
    counts: list[tuple[int, int]] = field(default_factory=list)
    """(responses, right ones) of each problem."""
    problems: dict[str, Problem] = field(default_factory=dict)
    """Of each problem its cluster, and a hash in place of its question."""

    def add(self, rollout: Rollout) -> None:
        asked, count = rollout.problem, len(rollout.responses)
        right = sum(row.correct for row in rollout.responses)
        self.counts.append((count, right))
        self.accuracy[asked.id] = right / max(count, 1)
        self.problems[asked.id] = Problem(asked.id, f"{stable_hash(asked.question):x}", cluster=asked.cluster)


def evaluation(folder: Path, name: str, writer: BlockWriter, choice: Choice) -> tuple[dict[str, Any], Values]:
    """One evaluation for the page, its samples written, and what comparisons need of it."""
    results, values = read_results(folder), Values()
    limit = describe_limit(results)
    if judged := read_judged(folder):
        results["metrics"][f"accuracy with judge {judged['judge']['model']}"] = judged["accuracy_with_judge"]

    def records() -> Iterator[dict[str, Any]]:
        for rollout in stream_rollouts(folder, "texts"):
            values.add(rollout)
            yield problem(rollout)

    samples = writer.problems(records(), choice)
    return {
        "name": f"{name} ({limit})" if limit else name,
        "folder": str(folder),
        "written": modified(folder / RESULTS),
        "results": {key: value for key, value in results.items() if key != "protocol"},
        "protocol": {key: results["protocol"].get(key) for key in ("name", "system", "user", "answer_protocol")},
        "pass_curve": pass_curve(values.counts, clusters_of(list(values.problems.values()))),
        "samples": samples,
    }, values


def modified(path: Path) -> str:
    """When a file was last written, in UTC."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... and n itself."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def pass_curve(counts: Sequence[tuple[int, int]], clusters: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """pass@k with intervals for k = 1, 2, 4, ... up to the samples that every problem has.

    Args:
        counts: (responses, right ones) of each problem.
    """
    n = min((count for count, _ in counts), default=0)
    sizes, right = np.array(counts).reshape(-1, 2).T
    return [
        {"x": k, **point(mean_interval(pass_at_k(sizes, right, k), clusters=clusters))}
        for k in (powers_of_two(n) if n else [])
    ]


def point(estimate: Estimate) -> dict[str, Any]:
    return {"y": finite(estimate.value), "low": finite(estimate.low), "high": finite(estimate.high)}


def finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def about(problem: Problem) -> dict[str, Any]:
    """What the page says of a problem before its responses."""
    return {name: getattr(problem, name) for name in ABOUT}


def problem(rollout: Rollout) -> dict[str, Any]:
    """A problem and its responses, without what the page's script takes for granted."""
    return {**about(rollout.problem), "responses": [response(row) for row in rollout.responses]}


def response(row: ScoredResponse) -> dict[str, Any]:
    """One response: its text, where its steps end if they have values or are several, and what was made of it."""
    steps, values = row.response.steps, row.response.step_values
    found: dict[str, Any] = {"text": row.response.text, "status": row.status, "tokens": len(row.response.token_ids)}
    if values or len(steps) > 1:
        found["ends"] = list(itertools.accumulate(map(length, steps)))
    if values:
        found["values"] = [finite(value) for value in values]
    if row.answer is not None:
        found["answer"] = row.answer
    if row.reward != float(row.correct):
        found["reward"] = finite(row.reward)
    flags = {"correct": row.correct, "truncated": row.response.finish_reason == "length"}
    return found | {name: True for name, flag in flags.items() if flag}


def length(text: str) -> int:
    """Of a text as the page's script counts it: characters beyond the basic plane are two there."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def training(folder: Path, name: str, writer: BlockWriter, choice: Choice) -> dict[str, Any]:
    """One training run for the page: curves from metrics.csv, and what each iteration decided and sampled."""
    iterations: list[dict[str, Any]] = []
    for path in sorted(folder.glob(ITERATION_FILES)):
        decision = read_manifest(path)
        slim: list[Rollout] = []
        samples = writer.problems(_records(path.with_suffix(".jsonl"), slim), choice)
        iterations.append(
            {
                "iteration": decision.get("iteration", len(iterations) + 1),
                "grid": grid(decision.get("decision") or {}),
                "monitors": {key: finite(value) for key, value in (decision.get("monitors") or {}).items()},
                "config": decision.get("config"),
                "seconds": decision.get("seconds"),
                "tokens": decision.get("tokens"),
                "draws": draws(slim, decision.get("answer_weight", 1.0)),
                "samples": samples,
            }
        )
    return {
        "name": name,
        "folder": str(folder),
        "iterations": iterations,
        "curves": curves(folder / METRICS),
    }


def _records(path: Path, slim: list[Rollout]) -> Iterator[dict[str, Any]]:
    """The problems of an iteration for the page; `slim` gets its rollouts without their texts and tokens."""
    for number, row in read_jsonl(path) if path.is_file() else ():
        rollout = to_row(Rollout, row, f"{path}:{number}")
        slim.append(replace(rollout, responses=tuple(replace(row, response=UNREAD) for row in rollout.responses)))
        yield problem(rollout)


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
                axis = row.get("iteration") if name.startswith(("rollout/", "eval/", "time/")) else row.get("step")
                if not axis:
                    continue
                try:
                    x, y = float(axis), float(text)
                except ValueError:
                    continue
                if math.isfinite(y):
                    found.setdefault(name, []).append([x, y])
    return {name: found[name] for name in sorted(found)}
