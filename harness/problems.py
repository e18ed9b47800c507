"""Problems from files of rows, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.sources import Given, Source, find_source, read_source
from harness.store import to_row
from harness.types import Problem, UnitTest

QUESTION_COLUMNS = ("question", "problem")


def read_problems(given: Given, *, need_answer: bool = True) -> list[Problem]:
    """Read a source of problems: `question` (or `problem`), `answer`, and whatever else `Problem` has.

    Rows without an `id` are numbered.

    Args:
        given: a file, a folder, a data set of the hub, or the fields of `harness.sources.Source`.

    Raises:
        InputError: no such file, a malformed line, a missing column, an empty answer where one is needed, a repeated
            id, or no rows; the message names file and line.
    """
    problems: list[Problem] = []
    places: dict[str, str] = {}
    source = find_source(given)
    name = Path(source.path).name.partition(".")[0]
    for place, row in read_source(source):
        problem = _problem(row, place, name, len(problems), need_answer)
        if problem.id in places:
            raise InputError(f"{place}: id '{problem.id}' was used before, at {places[problem.id]}.")
        places[problem.id] = place
        problems.append(problem)
    if not problems:
        raise InputError(f"{source}: holds no rows; a file of problems needs at least one.")
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


def read_all_problems(given: Sequence[Given], *, need_answer: bool = True) -> list[Problem]:
    """Read several sources; raises `InputError` if two of them share an id, or one has a weight."""
    problems: list[Problem] = []
    owner: dict[str, Source] = {}
    for source in map(find_source, given):
        if source.weight is not None:
            raise InputError(f"source {source}: weight mixes rows of training; problems have none, leave it out.")
        for problem in read_problems(source, need_answer=need_answer):
            if problem.id in owner:
                raise InputError(f"{source}: id '{problem.id}' also stands in {owner[problem.id]}.")
            owner[problem.id] = source
            problems.append(problem)
    return problems


def normalized_question(question: str) -> str:
    """A question without blanks and in one case: equal for two ways of writing the same problem."""
    return "".join(question.casefold().split())


def shared_questions(first: Sequence[Problem], second: Sequence[Problem]) -> list[str]:
    """Ids of the problems of `first` whose normalised question also stands in `second`."""
    known = {normalized_question(problem.question) for problem in second}
    return [problem.id for problem in first if normalized_question(problem.question) in known]
