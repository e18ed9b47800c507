"""Verdicts on responses: by the grader, whatever the number of golds, or by unit tests."""

from __future__ import annotations

from collections.abc import Sequence

from harness.grading import AnswerProtocol, Verdict, grade_many
from harness.grading.answer_protocols import find_answer_protocol
from harness.rewards.unit_tests import UnitTests, program_of
from harness.types import Problem

NO_PROGRAM = Verdict(False, None, "none", "no_answer")


def grade_pairs(
    pairs: Sequence[tuple[Problem, str]], answer_protocol: str | AnswerProtocol, grader: str
) -> list[Verdict]:
    """Verdicts on responses: by the unit tests of problems that have some, else by the grader."""
    tested = [index for index, (problem, _) in enumerate(pairs) if problem.tests]
    others = [index for index, (problem, _) in enumerate(pairs) if not problem.tests]
    found = dict(zip(others, _grade([pairs[i] for i in others], answer_protocol, grader), strict=True))
    found |= zip(tested, _run_tests([pairs[i] for i in tested]), strict=True)
    return [found[index] for index in range(len(pairs))]


def _run_tests(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """A response's answer is its program; it is right if it passes all tests."""
    if not pairs:
        return []
    programs = [program_of(text) for _, text in pairs]
    results = UnitTests().run([problem for problem, _ in pairs], programs)
    return [
        Verdict(bool(passed) and all(passed), program, "tests") if program.strip() else NO_PROGRAM
        for program, passed in zip(programs, results, strict=True)
    ]


def _grade(pairs: Sequence[tuple[Problem, str]], answer_protocol: str | AnswerProtocol, grader: str) -> list[Verdict]:
    """The grader's verdicts; where a problem accepts several answers, any one of them makes a response right."""
    golds = [(problem.answer, *(a for a in problem.accepted_answers if a != problem.answer)) for problem, _ in pairs]
    found = grade_many(
        [text for (_, text), several in zip(pairs, golds, strict=True) for _ in several],
        [gold for several in golds for gold in several],
        grader=grader,
        protocol=find_answer_protocol(answer_protocol),
    )
    rows = iter(found)
    groups = [[next(rows) for _ in several] for several in golds]
    return [next((verdict for verdict in group if verdict.correct), group[0]) for group in groups]
