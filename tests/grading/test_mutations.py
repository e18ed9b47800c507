"""Gold answers with one small change are wrong answers."""

from __future__ import annotations

import random

from harness.grading import is_equivalent
from tests.grading.mutations import mutants
from tests.grading.test_data import FILES, _rows, needs_data

SAMPLE = 300
"""Golds drawn: a few seconds. `python -m tests.grading.test_mutations` takes all of them."""


def _golds() -> list[str]:
    return sorted({row["answer"].strip() for name in FILES for row in _rows(name) if row["answer"].strip()})


def accepted(golds: list[str], seed: int) -> tuple[int, list[tuple[str, str, str]]]:
    """The number of wrong answers made of the golds, and those that are accepted."""
    made = list(mutants(golds, seed))
    return len(made), [mutant for mutant in made if is_equivalent(*mutant[1:])]


@needs_data
def test_hardly_a_gold_with_one_small_change_is_accepted():
    made, wrong = accepted(random.Random(7).sample(_golds(), SAMPLE), seed=7)
    assert made > SAMPLE
    assert len(wrong) <= 2, wrong  # docs/grading.md lists the kinds that are no mistakes


if __name__ == "__main__":
    made, wrong = accepted(_golds(), seed=0)
    print(f"{len(wrong)} of {made} accepted")
    for mutant in wrong:
        print(mutant)
