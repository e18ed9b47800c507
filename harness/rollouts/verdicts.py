"""Verdicts on responses: by the grader, whatever the number of golds, by unit tests, or by instructions."""

from __future__ import annotations

from collections.abc import Sequence

from harness.grading import AnswerProtocol, Verdict, chosen, grade_many, option_text
from harness.grading.answer_protocols import find_answer_protocol
from harness.grading.instructions import verdict
from harness.rewards.unit_tests import UnitTests, program_of
from harness.types import Problem

NO_PROGRAM = Verdict(False, None, "none", "no_answer")


def grade_pairs(
    pairs: Sequence[tuple[Problem, str]],
    answer_protocol: str | AnswerProtocol,
    grader: str,
    finished: Sequence[bool] | None = None,
    num_workers: int | None = None,
) -> list[Verdict]:
    """Verdicts on responses: by the unit tests or the instructions of problems that have some, else by the grader.

    `finished[i]` is false where a response ended by length, so that only an answer it marked counts; `num_workers` is
    at most how many processes compare answers, by default one for each core.
    """
    ended = [True] * len(pairs) if finished is None else finished
    tested = [index for index, (problem, _) in enumerate(pairs) if problem.tests]
    instructed = [index for index, (problem, _) in enumerate(pairs) if problem.instructions]
    others = [index for index in range(len(pairs)) if not (pairs[index][0].tests or pairs[index][0].instructions)]
    graded = _grade([(*pairs[i], ended[i]) for i in others], answer_protocol, grader, num_workers)
    found = dict(zip(others, graded, strict=True))
    found |= {index: verdict(pairs[index][0].instructions, pairs[index][1]) for index in instructed}
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


def _grade(
    rows: Sequence[tuple[Problem, str, bool]],
    answer_protocol: str | AnswerProtocol,
    grader: str,
    num_workers: int | None,
) -> list[Verdict]:
    """The grader's verdicts; where a problem accepts several answers, any one of them makes a response right.

    What the right option says is such an answer too, where a response marks a value and chooses no letter.
    """
    golds = [
        {problem.answer: finished} | dict.fromkeys(problem.accepted_answers, finished) | _option(problem, text)
        for problem, text, finished in rows
    ]
    found = grade_many(
        [text for (_, text, _), several in zip(rows, golds, strict=True) for _ in several],
        [gold for several in golds for gold in several],
        grader=grader,
        protocol=find_answer_protocol(answer_protocol),
        finished=[finished for several in golds for finished in several.values()],
        num_workers=num_workers,
    )
    verdicts = iter(found)
    groups = [[next(verdicts) for _ in several] for several in golds]
    return [next((verdict for verdict in group if verdict.correct), group[0]) for group in groups]


def _option(problem: Problem, text: str) -> dict[str, bool]:
    """The text of the right option as a gold for marked answers only, if the response chooses no letter."""
    option = option_text(problem.answer, problem.choices) if problem.choices else None
    return {option: False} if option is not None and chosen(text) is None else {}
