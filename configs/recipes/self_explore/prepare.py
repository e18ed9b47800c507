"""Worked solutions of GSM8K or MATH in the form that Self-Explore trains on: the answer in a last line of its own.

    python configs/recipes/self_explore/prepare.py gsm8k_train.jsonl.gz data/gsm8k_train.jsonl
    python configs/recipes/self_explore/prepare.py math_train.jsonl.gz data/math_train.jsonl

Rows have `question` or `problem`, `answer` and `solution`. GSM8K's `#### 18` becomes `The answer is 18`, its calculator
annotations stay. A solution without such a line gets `The answer is $...$.`. Rows without an answer are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from harness.store import read_jsonl, write_rows
from harness.types import Problem

PHRASE = "The answer is"


def with_answer_line(solution: str, answer: str) -> str:
    """The solution with its final answer in a last line."""
    if "#### " in solution:
        return solution.replace("#### ", f"{PHRASE} ")
    return solution if PHRASE in solution else f"{solution.rstrip()}\n{PHRASE} ${answer}$."


def problem(row: Mapping[str, str], index: int) -> Problem:
    return Problem(
        id=str(row.get("id", index)),
        question=(row.get("question") or row["problem"]).strip(),
        answer=row["answer"],
        solution=with_answer_line(row["solution"], row["answer"]),
        level=str(row.get("level") or ""),
        subject=row.get("subject") or "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    rows = [problem(row, number) for number, row in read_jsonl(options.source) if row.get("answer")]
    write_rows(options.output, rows)
    print(f"{options.output}: {len(rows)} rows")


if __name__ == "__main__":
    main()
