"""Gold answers with one small change are wrong answers."""

from __future__ import annotations

import random

from harness.grading import is_equivalent
from tests.grading.mutations import mutants
from tests.grading.test_data import FILES, _rows, needs_data

NO_MISTAKES = (
    "i^{15}=",
    "i^{26}=",
    "i^{304}=",
    "1_7",
    r"\lim _{n \rightarrow \infty} n^{2} /\left(2 n^{2}",
    r"\cos \left(\frac{10 \pi}{3}",
)
"""Golds of which a change keeps the meaning by chance: powers of `i^4 = 1`, `1_7 = 1_8`, a limit in which a constant
does not count, and `\\sin(11\\pi/3) = \\sin(10\\pi/3)`."""
SAMPLE = 300
"""Golds drawn: a few seconds. `python -m tests.grading.test_mutations` takes all of them."""


def _golds() -> list[str]:
    return sorted({row["answer"].strip() for name in FILES for row in _rows(name) if row["answer"].strip()})


def accepted(golds: list[str], seed: int) -> tuple[int, list[tuple[str, str, str]]]:
    """The number of wrong answers made of the golds, and those that are accepted."""
    made = [m for m in mutants(golds, seed) if not any(m[1].strip("$").startswith(g) for g in NO_MISTAKES)]
    return len(made), [mutant for mutant in made if is_equivalent(*mutant[1:])]


@needs_data
def test_hardly_a_gold_with_one_small_change_is_accepted():
    made, wrong = accepted(random.Random(7).sample(_golds(), SAMPLE), seed=7)
    assert made > SAMPLE
    assert len(wrong) <= 1, wrong  # docs/grading.md lists all that are accepted


if __name__ == "__main__":
    made, wrong = accepted(_golds(), seed=0)
    print(f"{len(wrong)} of {made} accepted")
    for mutant in wrong:
        print(mutant)
