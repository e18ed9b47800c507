"""Grade responses: one, or many at once."""

from __future__ import annotations

from collections.abc import Sequence

from harness.grading.equivalence import is_equivalent
from harness.grading.extract import DEFAULT, AnswerProtocol, extract_answer
from harness.grading.verdict import Verdict


def grade(text: str, gold: str, *, grader: str = "strict", protocol: AnswerProtocol = DEFAULT) -> Verdict:
    """Extract the final answer of a response and compare it with the gold answer."""
    answer = extract_answer(text, protocol)
    if answer is None:
        return Verdict(False, None, "none", "no_answer")
    return Verdict(is_equivalent(gold, answer), answer, "exact")


def grade_many(
    texts: Sequence[str],
    golds: Sequence[str],
    *,
    grader: str = "strict",
    protocol: AnswerProtocol = DEFAULT,
    num_workers: int | None = None,
) -> list[Verdict]:
    """Grade `texts[i]` against `golds[i]` for every i, in order."""
    return [grade(t, g, grader=grader, protocol=protocol) for t, g in zip(texts, golds, strict=True)]
