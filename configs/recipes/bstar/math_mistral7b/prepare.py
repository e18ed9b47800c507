"""MATH as B-STaR's recipes read it: solutions in steps apart by a blank line, the bare answer under `# Answer`.

    python configs/recipes/bstar/math_mistral7b/prepare.py TRAIN.jsonl.gz TEST.jsonl.gz MATH500.jsonl.gz [--output data]

TRAIN and TEST are the 7,500 and 5,000 problems of MATH, MATH500 the 500 of TEST that are kept for evaluation (rows with
`problem` or `question`, `answer`, `solution`). As in the paper 4,000 others of TEST join TRAIN and 500 are left for
validation; which ones it does not say, here they are drawn at random. Rows without an answer, repeated questions, and
training questions that stand in MATH500 are left out, so that a few less than 11,500 are trained on.

The 600 problems on which sampling settings are compared are drawn from the training problems, as in the paper, and stay
there: the recipes say so with `probe_among_problems`. --probe_apart takes them out of the training file.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.problems import normalized_question, read_problems
from harness.store import write_rows
from harness.types import Problem

NUM_FROM_TEST, NUM_PROBE = 4000, 600
WHOLE = re.compile(
    r"\[asy\].*?\[/asy\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\\\[.*?\\\]|\$\$.*?\$\$|(?<!\\)\$(?:\\.|[^$\\])*\$",
    re.DOTALL,
)
"""Pictures, environments and formulas, within which no step ends."""
STEP_ENDS = re.compile(r"(?<=[.!?])(?:\s*\n\s*|[ ]+(?=[A-Z\0]))")
"""Ends of sentences: at the end of a line, or before a capital letter or a formula."""


def masked(match: re.Match[str]) -> str:
    """As many characters without any end of a step; a formula's own full stop still ends its sentence."""
    found = match[0]
    stop = "." if re.search(r"[.!?]\s*(?:\$+|\\\])\Z", found) else "\0"
    return "\0" * (len(found) - 1) + stop


def steps(solution: str) -> list[str]:
    """The sentences of a solution, without blank lines in them, which would end a step."""
    text = solution.strip()
    cuts = [0, *(match.end() for match in STEP_ENDS.finditer(WHOLE.sub(masked, text))), len(text)]
    found = [re.sub(r"\n\s*\n", "\n", text[start:end].strip()) for start, end in itertools.pairwise(cuts)]
    return [step for step in found if step]


def with_steps(problem: Problem) -> Problem:
    """The problem, its solution in the form that the template `bstar` reads."""
    return replace(problem, solution="\n\n".join([*steps(problem.solution), "# Answer", problem.answer]))


def read(path: Path) -> list[Problem]:
    """The problems with an answer and a solution."""
    found = [problem for problem in read_problems(path, need_answer=False) if problem.answer and problem.solution]
    return [replace(problem, question=problem.question.strip()) for problem in found]


def distinct(problems: Iterable[Problem], other_than: Iterable[Problem] = ()) -> list[Problem]:
    """Problems whose question was not there before, nor among others."""
    seen = {normalized_question(problem.question) for problem in other_than}
    return [
        problem
        for problem in problems
        if (name := normalized_question(problem.question)) not in seen and not seen.add(name)  # type: ignore[func-returns-value]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("math500", type=Path)
    parser.add_argument("--output", type=Path, default=Path("data"))
    parser.add_argument("--probe_apart", action="store_true", help="take the probe problems out of the training file")
    options = parser.parse_args()
    evaluated = read(options.math500)
    train = distinct(read(options.train), other_than=evaluated)
    others = distinct(read(options.test), other_than=[*evaluated, *train])
    random.Random(0).shuffle(others)
    train += others[:NUM_FROM_TEST]
    random.Random(1).shuffle(train)
    files = {
        "train": train[NUM_PROBE:] if options.probe_apart else train,
        "probe": train[:NUM_PROBE],
        "validation": others[NUM_FROM_TEST:],
    }
    named = {f"bstar_math_{name}": problems for name, problems in files.items()} | {"bstar_math500": evaluated}
    for name, problems in named.items():
        write_rows(options.output / f"{name}.jsonl", [with_steps(problem) for problem in problems])
        print(f"{options.output / name}.jsonl: {len(problems)} problems")


if __name__ == "__main__":
    main()
