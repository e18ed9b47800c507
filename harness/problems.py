"""Problems from JSONL files, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.store import read_jsonl, to_row
from harness.types import Problem, UnitTest

QUESTION_COLUMNS = ("question", "problem")


def read_problems(path: str | Path, *, need_answer: bool = True) -> list[Problem]:
    """Read a file of problems: `question` (or `problem`), `answer`, and whatever else `Problem` has.

    Rows without an `id` are numbered.

    Raises:
        InputError: no such file, a malformed line, a missing column, an empty answer where one is needed, a repeated
            id, or no rows; the message names file and line.
    """
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for number, row in read_jsonl(path):
        problem = _problem(row, f"{path}:{number}", Path(path).name.partition(".")[0], len(problems), need_answer)
        if problem.id in lines:
            raise InputError(f"{path}:{number}: id '{problem.id}' was used before, on line {lines[problem.id]}.")
        lines[problem.id] = number
        problems.append(problem)
    if not problems:
        raise InputError(f"{path}: holds no rows; a file of problems needs at least one.")
    return problems


def _problem(row: Mapping[str, Any], place: str, name: str, index: int, need_answer: bool) -> Problem:
    question = next((row[column] for column in QUESTION_COLUMNS if row.get(column)), None)
    if question is None:
        raise InputError(f"{place}: missing column 'question' (or 'problem'); found {sorted(row)}.")
    if need_answer and not row.get("tests") and not str(row.get("answer") or "").strip():
        raise InputError(f"{place}: the column 'answer' is missing or empty; found {sorted(row)}.")
    return Problem(
        id=str(row.get("id", f"{name}/{index}")),
        question=str(question),
        answer=str(row.get("answer") or ""),
        solution=str(row.get("solution") or ""),
        source=str(row.get("source") or ""),
        level=str(row.get("level") or ""),
        subject=str(row.get("subject") or ""),
        choices=tuple(map(str, row.get("choices") or ())),
        accepted_answers=tuple(map(str, row.get("accepted_answers") or ())),
        tests=tuple(to_row(UnitTest, test, place) for test in row.get("tests") or ()),
    )


def read_all_problems(paths: Sequence[str | Path], *, need_answer: bool = True) -> list[Problem]:
    """Read several files; raises `InputError` if two of them share an id."""
    problems: list[Problem] = []
    owner: dict[str, str | Path] = {}
    for path in paths:
        for problem in read_problems(path, need_answer=need_answer):
            if problem.id in owner:
                raise InputError(f"{path}: id '{problem.id}' also stands in {owner[problem.id]}.")
            owner[problem.id] = path
            problems.append(problem)
    return problems


def normalized_question(question: str) -> str:
    """A question without blanks and in one case: equal for two ways of writing the same problem."""
    return "".join(question.casefold().split())


def shared_questions(first: Sequence[Problem], second: Sequence[Problem]) -> list[str]:
    """Ids of the problems of `first` whose normalised question also stands in `second`."""
    known = {normalized_question(problem.question) for problem in second}
    return [problem.id for problem in first if normalized_question(problem.question) in known]
