"""The task: sums such as `3 + 14 + 9 ?`, solved from the left, and the small model that learns them.

    python configs/recipes/starter/task.py [--output runs/starter/data]

Writes sft.jsonl (with worked solutions), train.jsonl and test.jsonl (with answers alone) and the base model `base`.
For a task of yours, write rows with `question`, `answer` and, for the first file, `solution`; for a model of yours,
name its directory as `checkpoint` in 10_sft.yaml.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from harness.arithmetic.model import build_model, build_tokenizer
from harness.store import write_rows
from harness.types import Problem

SIZES = {"sft": 600, "train": 400, "test": 200}


def solution(terms: list[int]) -> str:
    """The sums from the left, a line each, and the answer in the last line."""
    lines = []
    while len(terms) > 1:
        terms = [terms[0] + terms[1], *terms[2:]]
        lines.append(" + ".join(map(str, terms)))
    return "\n".join([*lines, f"#### {terms[0]}"])


def problems(seed: int) -> Iterator[Problem]:
    """Endless distinct sums of three terms; the model's tokenizer knows the numbers from 0 to 50."""
    rng, seen = random.Random(seed), set()
    while True:
        terms = [rng.randint(0, 12) for _ in range(3)]
        question = " + ".join(map(str, terms))
        if question not in seen:
            seen.add(question)
            yield Problem(f"sums/{len(seen)}", question, str(sum(terms)), solution(terms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/starter/data"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stream = problems(options.seed)
    for name, size in SIZES.items():
        rows = [next(stream) for _ in range(size)]
        if name != "sft":
            rows = [Problem(row.id, row.question, row.answer) for row in rows]
        write_rows(options.output / f"{name}.jsonl", rows)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(options.output / "base")
    build_model(tokenizer, options.seed).save_pretrained(options.output / "base")
    print(f"{options.output}: {', '.join(f'{size} {name}' for name, size in SIZES.items())} problems, base model")


if __name__ == "__main__":
    main()
