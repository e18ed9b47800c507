"""Labelled pairs by others, and the gold answers of the benchmarks, where the data folder exists."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from harness.grading import grade, is_equivalent

DATA = Path(os.environ.get("HARNESS_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
FILES = sorted(p.name for p in DATA.glob("*.jsonl*") if "grader_cases" not in p.name) if DATA.is_dir() else []
needs_data = pytest.mark.skipif(not FILES, reason="no data folder")
SEVERAL_BOXES = {
    "math.jsonl.gz": {2717, 2913, 2937},
    "math_train.jsonl.gz": {334, 504, 3694, 3997, 4253, 5419, 5446, 6780, 6816, 6843, 7414},
}
"""Rows whose solution boxes more, or less, than the gold answer holds; docs/grading.md says which is which."""


def _rows(name):
    opener = gzip.open if name.endswith(".gz") else open
    with opener(DATA / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_every_gold_answer_equals_itself(name):
    golds = {row["answer"] for row in _rows(name) if row["answer"].strip()}
    assert [gold for gold in golds if not is_equivalent(gold, f" {gold} ")] == []


@needs_data
@pytest.mark.parametrize("name", [n for n in FILES if n.startswith(("gsm8k", "math", "minerva", "aime", "aqua"))])
def test_every_worked_solution_gives_its_gold_answer(name):
    wrong = set()
    for row in _rows(name):
        solution = row.get("solution") or ""
        marked = any(mark in solution for mark in ("boxed", "framebox", "####", "nswer"))
        if marked and row["answer"].strip() and not grade(solution, row["answer"]).correct:
            wrong.add(int(row["id"].rsplit("/", 1)[-1]) if "/" in row["id"] else row["id"])
    assert wrong == SEVERAL_BOXES.get(name, set())


@needs_data
def test_labelled_pairs_are_graded_as_their_authors_label_them():
    rows = [row for row in _rows("grader_cases_dev.jsonl") if not row.get("debatable")]
    same = [
        is_equivalent(r["gold"], r["pred"]) if r["kind"] == "pair" else grade(r["pred"], r["gold"]).correct
        for r in rows
    ]
    right = sum(s == r["label"] for s, r in zip(same, rows, strict=True))
    false_accepts = sum(s and not r["label"] for s, r in zip(same, rows, strict=True))
    assert right >= 0.98 * len(rows)
    assert false_accepts <= 0.007 * sum(not r["label"] for r in rows)
