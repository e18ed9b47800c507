"""The model card of a training run: recipe, data, lineage, and what evaluations of its checkpoints measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.errors import InputError
from harness.evals.compare import describe_limit
from harness.evals.samples import read_results
from harness.report.lineage import Run, checkpoint_of, lineage
from harness.report.runs import find_runs, is_training, names_of
from harness.store import read_json, read_yaml

MARK = "<!-- written by harness card; a card without this line is never replaced -->"
SHOWN = ("accuracy", "pass@", "maj@", "reward@")
"""Metrics of a card begin with one of these; the others are in results.json."""


def card(run: Path, beside: Path) -> str:
    """The text of a README.md, with the metadata at its head that the model hub reads.

    Args:
        run: directory of a training run.
        beside: folder below which the runs it was made from and the evaluations of its checkpoints are looked for.

    Raises:
        InputError: there is no training run, or one of its files cannot be read.
    """
    if not is_training(run) or not (run / "config.yaml").is_file():
        raise InputError(
            f"{run}: holds no training run (config.yaml, metrics.csv); give the run_dir of a `harness fit`."
        )
    found = find_runs([beside]) if beside.is_dir() else []
    if not any(path.resolve() == run.resolve() for path in found):
        found = [run, *found]
    runs = lineage(found, names_of(found, [beside, run]))
    by_path = {Path(each.path).resolve(): each for each in runs}
    own = by_path[run.resolve()]
    measured = [read_results(Path(each.path)) for each in runs if each.kind == "eval" and each.parent == own.name]
    chain = ancestors(own, runs)
    config, start = read_yaml(run / "config.yaml"), _start(run)
    head = yaml.safe_dump(metadata(run.resolve().name, chain[0].model, measured), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{head}---",
        MARK,
        f"# {run.resolve().name}",
        _summary(own, chain),
        "## Evaluation",
        evaluation_table(measured) if measured else "No evaluation of it was found.",
        "## Lineage",
        _lineage(chain),
        "## Data",
        _data(chain),
        "## Recipe",
        _recipe(config, start),
    ]
    return "\n\n".join(parts) + "\n"


def ancestors(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The runs from the first one that its checkpoint came from down to the run itself."""
    by_name = {each.name: each for each in runs}
    chain = [run]
    while chain[0].parent:
        chain.insert(0, by_name[chain[0].parent])
    return chain


def metadata(name: str, base: str, measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the model hub reads of a card (the metadata of its model cards)."""
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": results["task"], "type": results["task"]},
            "metrics": [{"type": "accuracy", "value": results["metrics"]["accuracy"]["value"]}],
        }
        for results in measured
        if not results.get("limit")
    ]
    found: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if base and not Path(base).exists() and base.count("/") == 1:
        found["base_model"] = base
    if results:
        found["model-index"] = [{"name": name, "results": results}]
    return found


def _summary(run: Run, chain: Sequence[Run]) -> str:
    began = f" from `{chain[0].model}`" if chain[0].model else ""
    steps = f" in {len(chain)} runs" if len(chain) > 1 else ""
    return f"Trained{began}{steps}; {run.state or 'no step is logged'}, started {run.when or 'at an unknown time'}."


def evaluation_table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Values with their 95 % intervals, and how each was measured."""
    lines = [
        "| task | metric | value | 95 % interval | problems × samples | protocol | sampling | grader |",
        "|" + "---|" * 8,
    ]
    for results in measured:
        counts, sampling = results["counts"], results["sampling"]
        each = max(1, counts["samples"] // max(1, counts["problems"]))
        temperature = sampling["temperature"]
        drawn = "unknown" if temperature is None else "greedy" if temperature == 0 else f"temperature {temperature:g}"
        limit = describe_limit(results)
        for name, metric in results["metrics"].items():
            if name.startswith(SHOWN) and metric["value"] is not None:
                error = metric.get("error") if name == "accuracy" and each > 1 else None
                cells = [
                    f"{results['task']} ({limit})" if limit else results["task"],
                    name if error is None else f"{name} (avg@{each})",
                    f"{metric['value']:.4f}"
                    if error is None
                    else f"{metric['value']:.4f} (standard error {error:.4f})",
                    f"{metric['low']:.4f} to {metric['high']:.4f}",
                    f"{metric['problems']} × {each}",
                    str(results["protocol"]["name"]),
                    f"{drawn}, at most {sampling['max_tokens']} tokens",
                    f"{results['grader']['name']} {results['grader']['version']}",
                ]
                lines.append("| " + " | ".join(cells) + " |")
    versions = sorted({results["versions"]["harness"] for results in measured})
    weights = sorted({str(results["hashes"]["weights"]) for results in measured})
    said = f"Measured by harness {', '.join(versions)}, weights {', '.join(weights)}; every interval is over problems."
    return "\n".join([*lines, "", said])


def _lineage(chain: Sequence[Run]) -> str:
    lines = [f"1. `{chain[0].model or 'unknown'}`"]
    lines += [
        f"{i}. `{run.name}` ({run.state or 'unknown length'}) {run.result}".rstrip() for i, run in enumerate(chain, 2)
    ]
    return "\n".join(lines)


def _data(chain: Sequence[Run]) -> str:
    rows = [
        (run.name, name, digest) for run in chain for name, digest in _start(Path(run.path)).get("data", {}).items()
    ]
    lines = [f"| {run} | `{name}` | `{digest}` |" for run, name, digest in rows]
    return "\n".join(["| run | file | SHA-256 |", "|---|---|---|", *lines]) if lines else "No data file is on record."


def _start(run: Path) -> dict[str, Any]:
    """The last entry of environment.json; {} where there is none."""
    path = run / "environment.json"
    starts = read_json(path, "restore it, or remove it").get("starts", []) if path.is_file() else []
    return starts[-1] if starts else {}


def _recipe(config: Mapping[str, Any], start: Mapping[str, Any]) -> str:
    said = [f"Started from `{checkpoint_of(config) or 'a checkpoint that is not named'}`"]
    if commit := ((start.get("git") or {}).get("harness") or {}).get("commit"):
        said.append(f"harness {start.get('harness', '')} at commit {commit}")
    if packages := start.get("packages"):
        said.append(
            ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "vllm") if name in packages)
        )
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    command = f"`{' '.join(map(str, start['command']))}`\n\n" if start.get("command") else ""
    return f"{'; '.join(said)}.\n\n{command}```yaml\n{text}```"
