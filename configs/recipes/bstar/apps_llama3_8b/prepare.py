"""APPS as the recipes beside this file read it: problems with unit tests, and solutions for the first fine-tuning.

    python configs/recipes/bstar/apps_llama3_8b/prepare.py TRAIN.jsonl TEST.jsonl [--output data]

TRAIN and TEST are the files of the data set (https://huggingface.co/datasets/codeparrot/apps). Problems without tests
or, in training, without solutions are dropped, and so are tests whose input is too long for a program. The paper trains
on 2,627 of the 5,000 training problems and does not say which; --num_train of them are kept, at random.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.evals.unit_tests import unit_tests
from harness.prompts.find import find_template
from harness.store import read_jsonl, write_rows
from harness.types import Problem, SFTExample

NUM_PROBE = 200
MAX_SOLUTIONS = 5
MAX_INPUT = 100_000
"""Characters of a test's input."""


def read(path: Path) -> Iterator[tuple[Problem, list[str]]]:
    """Problems with tests, and their solutions."""
    for number, row in read_jsonl(path):
        if not row.get("input_output"):
            continue
        tests = tuple(test for test in unit_tests(row, f"{path}:{number}") if len(test.input) <= MAX_INPUT)
        if tests:
            yield (
                Problem(str(row["problem_id"]), question(row), level=row.get("difficulty", ""), tests=tests),
                (json.loads(row["solutions"]) if row.get("solutions") else []),
            )


def question(row: dict[str, Any]) -> str:
    """The problem's text, the code to start from, and how the program is called, as in the data set's own prompt."""
    called = bool(row.get("starter_code")) or "fn_name" in json.loads(row["input_output"])
    parts = [row["question"].strip(), (row.get("starter_code") or "").strip()]
    parts.append("Use Call-Based format" if called else "Use Standard Input format")
    return "\n\n".join(filter(None, parts))


def sft_rows(rows: Sequence[tuple[Problem, list[str]]]) -> list[SFTExample]:
    template = find_template("apps")
    return [
        SFTExample(template.render(problem), solution.strip(), problem_id=problem.id)
        for problem, solutions in rows
        for solution in list(dict.fromkeys(solutions))[:MAX_SOLUTIONS]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--output", type=Path, default=Path("data"))
    parser.add_argument("--num_train", type=int, default=2627)
    options = parser.parse_args()
    rows = [(problem, solutions) for problem, solutions in read(options.train) if solutions]
    random.Random(0).shuffle(rows)
    probe, train = rows[:NUM_PROBE], rows[NUM_PROBE : NUM_PROBE + options.num_train]
    files: dict[str, Sequence[Any]] = {
        "apps_probe": [problem for problem, _ in probe],
        "apps_train": [problem for problem, _ in train],
        "apps_sft": sft_rows(train),
        "apps_test": [problem for problem, _ in read(options.test)],
    }
    for name, found in files.items():
        write_rows(options.output / f"{name}.jsonl", found)
        print(f"{options.output / name}.jsonl: {len(found)} rows")


if __name__ == "__main__":
    main()
