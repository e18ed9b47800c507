"""Which data and which checkpoint each run was made from, and what was made from it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.evals.samples import RESULTS, read_results
from harness.report.runs import ITERATION_FILES, METRICS, is_evaluation, is_trees, modified
from harness.store import read_json, read_yaml

FINAL = ("eval/accuracy", "rollout/accuracy", "val/loss", "train/loss")
"""Metrics of which a training run's last value stands for it, the first that it has."""


@dataclass(frozen=True)
class Run:
    """One run of a list: what it is, when it was made, and from what."""

    name: str
    path: str
    kind: str
    """fit, eval or trees."""
    when: str = ""
    """Start of a training run, end of an evaluation, in UTC."""
    model: str = ""
    """The checkpoint it began with or measured, as it was named."""
    parent: str = ""
    """Name of the run of this list that made the checkpoint."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Files or task with the first digits of their hashes."""
    result: str = ""
    """The final number, with its interval where there is one."""
    state: str = ""
    """Such as "2 iterations", "step 400"."""


def lineage(found: Sequence[Path], names: Sequence[str]) -> list[Run]:
    """The runs in an order in which each comes after the one it was made from."""
    runs = [
        _evaluation(path, name) if is_evaluation(path) else _trees(path, name) if is_trees(path) else _fit(path, name)
        for path, name in zip(found, names, strict=True)
    ]
    folders = {path.resolve(): name for path, name, run in zip(found, names, runs, strict=True) if run.kind == "fit"}
    known = [
        replace(run, parent=parent if (parent := made_by(run.model, path, folders)) != run.name else "")
        for run, path in zip(runs, found, strict=True)
    ]
    children: dict[str, list[Run]] = {}
    for run in known:
        children.setdefault(run.parent, []).append(run)
    return list(_below("", children))


def _below(name: str, children: Mapping[str, Sequence[Run]]) -> Iterator[Run]:
    for run in children.get(name, ()):
        yield run
        yield from _below(run.name, children)


def depth_of(run: Run, runs: Sequence[Run]) -> int:
    """How many runs it descends from."""
    parents = {each.name: each.parent for each in runs}
    depth, name = 0, run.parent
    while name:
        depth, name = depth + 1, parents[name]
    return depth


def made_by(model: str, run: Path, folders: Mapping[Path, str]) -> str:
    """The name of the training run that wrote a checkpoint; "" if it is none of these.

    The checkpoint is looked for from here and from the folders above the run, as the run may have been moved with its
    neighbours; a name without such a file is compared with the ends of the folders' paths.
    """
    if not model:
        return ""
    path = Path(model).expanduser()
    for top in (Path.cwd(), *run.resolve().parents):
        whole = (top / path).resolve()
        for folder in (whole, *whole.parents):
            if folder in folders and whole.exists():
                return folders[folder]
    for part in (path, *path.parents):
        if part.parts and not part.is_absolute():
            for folder, name in folders.items():
                if folder.parts[-len(part.parts) :] == part.parts:
                    return name
    return ""


def _evaluation(path: Path, name: str) -> Run:
    results = read_results(path)
    metric = next(iter(results["metrics"]), "")
    value = results["metrics"].get(metric) or {}
    return Run(
        name,
        str(path),
        "eval",
        modified(path / RESULTS),
        str(results.get("config", {}).get("model") or ""),
        data={results["task"]: str(results["hashes"]["data"])[:12]},
        result=f"{metric} {_number(value.get('value'))} [{_number(value.get('low'))}, {_number(value.get('high'))}]",
        state=f"{results['counts']['problems']} problems, {results['counts']['samples']} samples",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _trees(path: Path, name: str) -> Run:
    return Run(name, str(path), "trees", modified(path))


def _fit(path: Path, name: str) -> Run:
    config, record = path / "config.yaml", path / "environment.json"
    options = read_yaml(config) if config.is_file() else {}
    starts = read_json(record, "restore it, or remove it").get("starts", []) if record.is_file() else []
    data = {file: digest[:12] for file, digest in (starts[-1].get("data", {}) if starts else {}).items()}
    iterations, last = len(list(path.glob(ITERATION_FILES))), last_values(path / METRICS)
    final = next((metric for metric in FINAL if metric in last), "")
    state = [f"{iterations} iterations"] if iterations else []
    state += [f"step {last['step']:.0f}"] if "step" in last else []
    return Run(
        name,
        str(path),
        "fit",
        starts[0].get("started", "") if starts else modified(path / METRICS) if (path / METRICS).is_file() else "",
        checkpoint_of(options),
        data=data,
        result=f"{final} {last[final]:.4f}" if final else "",
        state=", ".join(state),
    )


def checkpoint_of(options: Mapping[str, Any]) -> str:
    """The checkpoint that a configuration of `harness fit` starts from; "" where it names none."""
    model = options.get("model") or {}
    arguments = model.get("init_args") or {} if isinstance(model, Mapping) else {}
    return str(arguments.get("checkpoint") or "")


def last_values(path: Path) -> dict[str, float]:
    """The last number in each column of a `metrics.csv`."""
    found: dict[str, float] = {}
    if path.is_file():
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    try:
                        found[name] = float(text)
                    except (TypeError, ValueError):
                        continue
    return found
