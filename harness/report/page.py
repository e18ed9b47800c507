"""Assemble the page: data, script and style in one file that opens from disk."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.report.formulas import formulas, texts_of
from harness.report.runs import evaluation, find_runs, is_evaluation, is_training, names_of, training
from harness.report.trees import tree_set

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("base.js", "charts.js", "trees.js", "samples.js", "page.js")
"""In the order in which they run; each may use what those before it define."""

ITERATION_PROBLEMS = 25
"""Problems shown of each iteration's rollouts."""


def page_data(paths: Sequence[Path], max_problems: int) -> dict[str, Any]:
    """All that the page shows of the runs at or below the given directories."""
    found = find_runs(paths)
    names = names_of(found, paths)
    data: dict[str, Any] = {
        "evaluations": [
            evaluation(folder, name, max_problems)
            for folder, name in zip(found, names, strict=True)
            if is_evaluation(folder)
        ],
        "trainings": [
            training(folder, name, min(max_problems, ITERATION_PROBLEMS))
            for folder, name in zip(found, names, strict=True)
            if is_training(folder)
        ],
        "trees": [
            tree_set(path, name, max_problems) for path, name in zip(found, names, strict=True) if path.is_file()
        ],
    }
    mark_disagreement(data["evaluations"])
    data["formulas"] = formulas(texts_of(data))
    return data


def mark_disagreement(evaluations: Sequence[dict[str, Any]]) -> None:
    """Set `disagreement` on the problems that some responses, of any run of the task, get right and others wrong."""
    verdicts: dict[tuple[str, str], set[bool]] = {}
    for each in evaluations:
        for problem in each["problems"]:
            key = each["results"]["task"], problem["id"]
            verdicts.setdefault(key, set()).update(row["correct"] for row in problem["responses"])
    for each in evaluations:
        for problem in each["problems"]:
            problem["disagreement"] = len(verdicts[each["results"]["task"], problem["id"]]) == 2


def build_page(paths: Sequence[Path], title: str, max_problems: int) -> str:
    """The page as HTML."""
    data = json.dumps(page_data(paths, max_problems), ensure_ascii=False).replace("<", "\\u003c")
    style, *scripts = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", *SCRIPTS))
    script = "\n".join(scripts)
    # The policy names the one script that may run by its hash; a nonce in a file would be there for all to read.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    filled = {
        "title": html.escape(title),
        "style": style,
        "data": data,
        "script": script,
        "hash": f"sha256-{digest}",
    }
    # One pass, so that nothing inside what is filled in is taken for a slot.
    return re.sub(
        r"\{\{(title|style|data|script|hash)\}\}",
        lambda slot: filled[slot[1]],
        (ASSETS / "page.html").read_text(encoding="utf-8"),
    )
