"""What the grader says of one response."""

from __future__ import annotations

from dataclasses import dataclass

from harness.types import AnswerStatus


@dataclass(frozen=True)
class Verdict:
    """Whether a response's final answer equals the gold answer, and how that was decided."""

    correct: bool
    answer: str | None
    """The final answer found; None if there was none."""
    rule: str
    """The rule that decided: exact, numeric, symbolic, tuple, interval, set, matrix, choice, text, equation, ..."""
    status: AnswerStatus = "ok"
    """Anything but "ok" is counted apart from a wrong answer."""
