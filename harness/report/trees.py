"""What a page shows of files of search trees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.report.blocks import BlockWriter, Choice
from harness.report.runs import about, finite
from harness.rollouts.trees import SearchTree, by_problem, read_trees


def tree_set(path: Path, name: str, writer: BlockWriter, choice: Choice) -> dict[str, Any]:
    """One file for the page: each problem with all its trees."""
    groups = by_problem(read_trees(path))
    return {"name": name, "folder": str(path), "samples": writer.problems(map(record, groups), choice)}


def record(trees: Sequence[SearchTree]) -> dict[str, Any]:
    """A problem with its trees; of the responses, which the page's script reads off them, only the verdicts."""
    leaves = [tree.nodes[index] for tree in trees for index in tree.answered()]
    responses = [{"correct": leaf.correct, "status": "ok" if leaf.answer else "no_answer"} for leaf in leaves]
    return {**about(trees[0].problem), "trees": [nodes(tree) for tree in trees], "responses": responses}


def nodes(tree: SearchTree) -> list[dict[str, Any]]:
    """The nodes in the order in which they are stored, without what is false or empty; the page's script knows that."""
    rows: Iterable[dict[str, Any]] = (
        {
            "parent": node.parent,
            "step": node.step,
            "state": node.state,
            "visits": node.visit_count,
            "q": finite(node.q_value),
            "value": None if node.value is None else finite(node.value),
            "correct": node.correct,
            "answer": node.answer,
            "error": node.error,
            "failed": node.failed,
            "tokens": len(node.token_ids),
            "cut": node.finish_reason == "length",
        }
        for node in tree.nodes
    )
    return [
        {key: value for key, value in row.items() if value is not False and value is not None and value != ""}
        for row in rows
    ]
