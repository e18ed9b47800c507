"""The grader's verdicts on responses, whatever the number of golds."""

from __future__ import annotations

from collections.abc import Sequence

from harness.grading import PROTOCOLS, Verdict, grade_many
from harness.types import Problem


def grade_pairs(pairs: Sequence[tuple[Problem, str]], answer_protocol: str, grader: str) -> list[Verdict]:
    """Verdicts on responses; where a problem accepts several answers, any one of them makes a response right."""
    golds = [(problem.answer, *(a for a in problem.accepted_answers if a != problem.answer)) for problem, _ in pairs]
    found = grade_many(
        [text for (_, text), several in zip(pairs, golds, strict=True) for _ in several],
        [gold for several in golds for gold in several],
        grader=grader,
        protocol=PROTOCOLS[answer_protocol],
    )
    rows = iter(found)
    groups = [[next(rows) for _ in several] for several in golds]
    return [next((verdict for verdict in group if verdict.correct), group[0]) for group in groups]
