"""A line for each evaluation: in results.csv beside its folder, and in Weights & Biases where a project is named."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.artifacts import log_artifact, use_artifact
from harness.evals.compare import describe_limit
from harness.store import numbered

TABLE = "results.csv"
COLUMNS = (
    "time",
    "folder",
    "task",
    "protocol",
    "engine",
    "weights",
    "metric",
    "value",
    "low",
    "high",
    "error",
    "problems",
    "limit",
)
SENT = ("task", "limit", "protocol", "sampling", "grader", "engine", "hashes", "config")
"""What Weights & Biases is told of an evaluation beside its numbers."""


def record(results: Mapping[str, Any], folder: Path, wandb_project: str = "") -> None:
    """Append the metrics to `results.csv` in the parent folder, one line each, and send them to the project."""
    path = folder.parent / TABLE
    if path.exists() and path.read_text(encoding="utf-8").partition("\n")[0] != ",".join(COLUMNS):
        os.replace(path, numbered(path))  # of a version with other columns
    fresh = not path.exists()
    known = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": folder.name,
        "task": results["task"],
        "protocol": results["protocol"]["name"],
        "engine": results["engine"],
        "weights": results["hashes"]["weights"],
        "limit": describe_limit(results),
    }
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        for name, metric in results["metrics"].items():
            writer.writerow({column: cell(value) for column, value in {**known, "metric": name, **metric}.items()})
    if wandb_project:
        send(results, folder, wandb_project)


def cell(value: object) -> object:
    """The value as a spreadsheet may show it: text that it would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def send(results: Mapping[str, Any], folder: Path, project: str) -> None:
    """One Weights & Biases run with the metrics as its summary; offline where no key is set.

    It uses the artifacts of the weights and the rows, and logs one of the evaluation (`harness.artifacts`).
    """
    import wandb

    keyed = os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE")
    run = wandb.init(
        project=project,
        name=f"{folder.parent.name}/{folder.name}",
        job_type="eval",
        dir=str(folder),
        config={key: results[key] for key in SENT},
        tags=["limited"] if results["limit"] else None,
        mode=None if keyed else "offline",
        settings=wandb.Settings(console="off", quiet=True, silent=not keyed),
    )
    flat: dict[str, Any] = {}
    for name, metric in results["metrics"].items():
        flat[f"eval/{results['task']}/{name}"] = metric["value"]
        flat[f"eval/{results['task']}/{name}_low"] = metric["low"]
        flat[f"eval/{results['task']}/{name}_high"] = metric["high"]
    run.summary.update(flat)
    hashes, model = results["hashes"], str(results["config"].get("model") or "")
    made_from = [
        use_artifact(run, "weights", hashes["weights"], {"path": model}),
        use_artifact(run, "data", hashes["data"], {"task": results["task"]}),
    ]
    log_artifact(run, "evaluation", hashes["samples"], {"path": str(folder), "made_from": made_from})
    run.finish()
