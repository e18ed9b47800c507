"""Which of a problem's answers mean the same: the classes that majority votes and diversity are counted over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

Equivalence = Callable[[str, str], bool]


def answer_classes(
    answers: Sequence[str | None],
    correct: Sequence[bool],
    *,
    several_golds: bool = False,
    equivalent: Equivalence | None = None,
) -> list[int]:
    """A class number for each answer, equal for equivalent ones and -1 for none.

    The grader has compared every answer with the gold one already, so right answers form one class and are never
    compared with wrong ones. Two plain numbers are compared as numbers, all else by the grader. Where equivalence is
    not transitive, an answer joins the first class whose first member it equals.

    Args:
        answers: of the samples of one problem.
        correct: their verdicts.
        several_golds: the problem accepts several different answers, so right ones may differ.
        equivalent: default `harness.grading.is_equivalent`.
    """
    same = equivalent or _grader()
    class_of: dict[tuple[str, bool], int] = {}
    members: list[tuple[str, bool, Fraction | None]] = []
    found = []
    for answer, right in zip(answers, correct, strict=True):
        if answer is None:
            found.append(-1)
            continue
        key = (answer.strip(), right)
        if key not in class_of:
            class_of[key] = _join(members, *key, right and not several_golds, same)
        found.append(class_of[key])
    return found


def _join(
    members: list[tuple[str, bool, Fraction | None]], answer: str, right: bool, merge: bool, same: Equivalence
) -> int:
    value = as_number(answer)
    for index, (other, other_right, other_value) in enumerate(members):
        if other_right != right:
            continue
        numbers = value is not None and other_value is not None
        if merge or (value == other_value if numbers else same(other, answer)):
            return index
    members.append((answer, right, value))
    return len(members) - 1


def as_number(answer: str) -> Fraction | None:
    """The value of a plain decimal, integer or fraction; None for anything else."""
    text = answer.strip().strip("$").replace(",", "").rstrip(".")
    if len(text) > 40 or not text or "e" in text.lower() or "_" in text:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def _grader() -> Equivalence:
    from harness.grading import is_equivalent

    return is_equivalent
