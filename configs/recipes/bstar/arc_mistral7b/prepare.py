"""ARC as the recipes beside this file read it: options as (A), (B), ... whatever their labels in the source.

    python configs/recipes/bstar/arc_mistral7b/prepare.py TRAIN.jsonl.gz TEST.jsonl.gz [--output data]

TRAIN is a file of ARC questions for training (easy and challenge, 6,615 in the paper), TEST the challenge test; rows
hold `question` (or `problem`), `choices` and `answer`. 200 training questions are set aside to compare sampling
settings, and those whose question and options stand in TEST as well are dropped.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from harness.evals.rows import to_problem
from harness.evals.task import find_tasks
from harness.problems import normalized_question
from harness.store import read_jsonl, write_rows
from harness.types import Problem

NUM_PROBE = 200


def read(path: Path) -> list[Problem]:
    """Problems with distinct questions."""
    [task] = find_tasks("arc_challenge")
    found: dict[str, Problem] = {}
    for number, row in read_jsonl(path):
        problem = to_problem(row, f"{path}:{number}", number, task, {})
        found.setdefault(normalized_question(problem.question), problem)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--output", type=Path, default=Path("data"))
    options = parser.parse_args()
    test = read(options.test)
    held_out = {normalized_question(problem.question) for problem in test}
    train = [problem for problem in read(options.train) if normalized_question(problem.question) not in held_out]
    random.Random(0).shuffle(train)
    files = {"arc_probe": train[:NUM_PROBE], "arc_train": train[NUM_PROBE:], "arc_challenge_test": test}
    for name, problems in files.items():
        write_rows(options.output / f"{name}.jsonl", problems)
        print(f"{options.output / name}.jsonl: {len(problems)} problems")


if __name__ == "__main__":
    main()
