"""Assemble the page: data, script and style in one file that opens from disk."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from harness.report.blocks import BlockWriter, Choice, as_text
from harness.report.lineage import depth_of, lineage
from harness.report.matrix import name_columns, tests
from harness.report.runs import Values, evaluation, find_runs, is_evaluation, is_training, names_of, training
from harness.report.trees import tree_set
from harness.store import replacing

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("base.js", "charts.js", "trees.js", "data.js", "samples.js", "compare.js", "overview.js", "page.js")
"""In the order in which they run; each may use what those before it define."""


@dataclass(frozen=True)
class PageConfig:
    """What a page holds."""

    title: str = ""
    choice: Choice = field(default_factory=Choice)
    """Of the problems of each evaluation and each file of trees."""
    iteration_choice: Choice = field(default_factory=lambda: Choice(25))
    """Of the problems of each iteration of a training run."""
    refresh: float = 0.0
    """Seconds after which the page loads itself again; 0 is never."""


def page_data(paths: Sequence[Path], config: PageConfig, writer: BlockWriter) -> dict[str, Any]:
    """All that the page shows of the runs at or below the given directories; samples go to the writer."""
    found = find_runs(paths)
    names = names_of(found, paths)
    evaluations: list[dict[str, Any]] = []
    values: list[Values] = []
    data: dict[str, Any] = {"trainings": [], "trees": []}
    for path, name in zip(found, names, strict=True):
        if path.is_file():
            data["trees"].append(tree_set(path, name, writer, config.choice))
            continue
        if is_evaluation(path):
            each, its_values = evaluation(path, name, writer, config.choice)
            evaluations.append(each)
            values.append(its_values)
        if is_training(path):
            data["trainings"].append(training(path, name, writer, config.iteration_choice))
    runs = lineage(found, names)
    depths = {run.path: depth_of(run, runs) for run in runs}
    models = name_columns(evaluations)
    oldest = min(evaluations, key=lambda each: depths[each["folder"]])["model"] if evaluations else ""
    return data | {
        "evaluations": evaluations,
        "models": models,
        "reference": oldest,
        "tests": tests(evaluations, values, oldest),
        "runs": [{**asdict(run), "depth": depths[run.path]} for run in runs],
        "pick": asdict(config.choice),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "refresh": config.refresh,
    }


def write_page(paths: Sequence[Path], output: Path, config: PageConfig = PageConfig()) -> int:
    """Write the page and return its length in bytes; samples pass through, whatever their number."""
    with replacing(output) as file:
        _write(paths, file, config)
        return file.tell()


def _write(paths: Sequence[Path], file: BinaryIO, config: PageConfig) -> None:
    style, *scripts = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", *SCRIPTS))
    script = "\n".join(scripts)
    # The policy names the one script that may run by its hash; a nonce in a file would be there for all to read.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    def data() -> str:
        return as_text(page_data(paths, config, BlockWriter(file))).replace("<", "\\u003c")

    filled: dict[str, Callable[[], str]] = {
        "title": lambda: html.escape(config.title),
        "style": lambda: style,
        "hash": lambda: f"sha256-{digest}",
        "data": lambda: f'<script type="application/json" id="data">{data()}</script>',
        "script": lambda: script,
    }
    # In the order in which they stand, so that blocks of samples come before the data that tells where they are.
    for i, part in enumerate(re.split(r"\{\{(\w+)\}\}", (ASSETS / "page.html").read_text(encoding="utf-8"))):
        file.write((filled[part]() if i % 2 else part).encode())
