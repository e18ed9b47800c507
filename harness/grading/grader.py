"""Grade responses: one, or many at once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.grading.equivalence import decide
from harness.grading.extract import CHOICE, DEFAULT, AnswerProtocol, boxes, extract_answer
from harness.grading.verdict import Verdict

_LETTER = re.compile(r"\W*(?:text|mathrm|textbf|mathbf)?\W*[A-J]\W*")


def grade(
    text: str, gold: str, *, grader: str = "strict", protocol: AnswerProtocol = DEFAULT, decimals: int | None = None
) -> Verdict:
    """Extract the final answer of a response and compare it with the gold answer."""
    answer = read_answer(text, gold, protocol)
    if answer is None:
        return Verdict(False, None, "none", "no_answer")
    decision = decide(gold, answer, decimals)
    return Verdict(decision.same, answer, decision.rule, decision.status)


def read_answer(text: str, gold: str, protocol: AnswerProtocol = DEFAULT) -> str | None:
    """The final answer; where the gold is a choice letter and nothing is boxed, a letter is looked for first."""
    if protocol is DEFAULT and _LETTER.fullmatch(gold) and not boxes(text):
        found = extract_answer(text, CHOICE)
        if found is not None:
            return found
    return extract_answer(text, protocol)


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
