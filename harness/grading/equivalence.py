"""Do two answers mean the same? From cheap to costly: strings, exact numbers, trees, random points, algebra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from harness.grading import words
from harness.grading.compare import Comparison
from harness.grading.expression import Node, ParseError
from harness.grading.extract import value_in
from harness.grading.normalize import MAX_LENGTH, normalize
from harness.grading.parse import parse
from harness.grading.symbolic import tame
from harness.grading.workers import JobTimeout, pool
from harness.types import AnswerStatus

_STATES = re.compile(
    r"^(?!.*\b(?:not|no|or|either|maybe|if|than|between)\b).*\b[a-z]{3,} .*\b(?:is|are|equals)\b.*\d", re.IGNORECASE
)
_ALTERNATIVE = r"(?:\\?(?:or|and)\b|,|/)\s*\(?[A-J]\b"
_SIMPLE = re.compile(r"([-+]?)([1-9]\d{0,2}(?:,\d{3})+|\d{0,300})(\.\d{1,300})?")
MAX_OPEN = 4
"""Pairs of one comparison that go to computer algebra."""
ALGEBRA_SECONDS = 0.4
"""Deadline of computer algebra on one pair of answers; what it has not proved by then it rarely proves."""


@dataclass(frozen=True)
class Decision:
    """Whether two answers are the same, and what decided it."""

    same: bool
    rule: str
    status: AnswerStatus = "ok"
    open: tuple[tuple[Node, Node], ...] = ()
    """Pairs of expressions that only computer algebra could decide."""


def is_equivalent(gold: str, answer: str, *, decimals: int | None = None) -> bool:
    """Whether two bare answers are the same; either may stand in `$...$` or a box.

    `decimals` is the number of places to which the task asks to round; by default an exact answer is not equalled by a
    rounded one.
    """
    return decide(gold, answer, decimals).same


def decide(gold: str, answer: str, decimals: int | None = None) -> Decision:
    """The whole cascade for one pair of bare answers; repeated pairs are remembered."""
    return (_decide if len(gold) + len(answer) <= MAX_LENGTH else _decide.__wrapped__)(gold, answer, decimals)


@lru_cache(maxsize=65536)
def _decide(gold: str, answer: str, decimals: int | None) -> Decision:
    decision = decide_cheaply(gold, answer) if decimals is None else None
    if decision is None:
        decision = decide_fully(gold, answer, decimals)
    if not decision.open or decision.same:
        return decision
    if not all(tame(node) for pair in decision.open for node in pair):
        return Decision(False, "symbolic", "timeout")
    try:
        proved = pool().run("algebra", decision.open, ALGEBRA_SECONDS)
    except JobTimeout:
        return Decision(False, "symbolic", "timeout")
    return Decision(proved, "symbolic")


def decide_cheaply(gold: str, answer: str) -> Decision | None:
    """The answer where strings or two plain numbers settle it; None otherwise."""
    if not answer.strip():
        return Decision(False, "none", "no_answer")
    if gold == answer and len(gold) <= MAX_LENGTH:
        return Decision(True, "exact")
    if len(gold) > 400 or len(answer) > 400:
        return None
    left, right = _plain_number(gold), _plain_number(answer)
    if left is not None and right is not None:
        return Decision(left == right, "numeric")
    return None


@lru_cache(maxsize=16384)
def _plain_number(text: str) -> Fraction | None:
    text = text.strip().strip("$").strip()
    found = _SIMPLE.fullmatch(text)
    if not found or not (found[2] or found[3]):
        return None
    if found[3] and len(found[3]) > 13:
        return None  # perhaps a float as a program prints it
    return Fraction(found[1] + (found[2] or "0").replace(",", "") + (found[3] or ""))


def decide_fully(gold: str, answer: str, decimals: int | None = None) -> Decision:
    """Normal forms, words and trees."""
    if max(len(gold), len(answer)) > MAX_LENGTH:
        return Decision(gold.split() == answer.split(), "exact")
    left, right = normalize(gold), normalize(answer)
    if left == right:
        return Decision(bool(left), "exact")
    if not left or not right:
        return Decision(False, "none", "no_answer" if not right else "parse_failure")
    if (decided := _by_choice(left, right)) is not None:
        return Decision(decided, "choice")
    times = words.time_of_day(left), words.time_of_day(right)
    if times[0] and times[1]:
        return Decision(words.same_time(times[0], times[1]), "time")
    trees = [_tree(text) for text in (left, right)]
    if trees[0] is None or trees[1] is None:
        return _by_words(left, right, trees[0], trees[1])
    comparison = Comparison(decimals)
    try:
        same = comparison.same(trees[0], trees[1])
    except TimeoutError:
        return Decision(False, comparison.rule, "timeout")
    except RecursionError:
        return Decision(False, comparison.rule, "parse_failure")
    status: AnswerStatus = "timeout" if comparison.too_costly and not same else "ok"
    return Decision(same, comparison.rule, status, () if same else tuple(comparison.open[:MAX_OPEN]))


def _tree(text: str) -> Node | None:
    meaning = words.meaning(text)
    if meaning in _CONCEPTS:
        return _CONCEPTS[meaning]
    number = words.as_number(text)
    try:
        return parse(number if number is not None else text)
    except (ParseError, RecursionError, ValueError):
        return None


_CONCEPTS = {
    "<empty>": Node("const", (), "empty"),
    "<reals>": Node("const", (), "bbR"),
}


def _by_choice(gold: str, answer: str) -> bool | None:
    """Multiple choice: the gold is a letter, perhaps with the option's text; a bare text may answer for its option."""
    if (several := words.letters(gold)) is not None and (others := words.letters(answer)) is not None:
        return several == others
    left = words.choice(gold)
    if left is None:
        return None
    right = words.choice(answer) or (words.choice(answer.upper()) if re.fullmatch(r"\(?[a-j]\)?\.?", answer) else None)
    if right is None:
        return None if not left[1] else (normalize(left[1]) == normalize(answer) or None)
    if left[1] and left[1] and not right[1] and re.fullmatch(r"[=<>+\-*/^_].*", left[1]):
        return None
    if re.match(_ALTERNATIVE, left[1]):
        return None
    return left[0] == right[0] and not re.match(_ALTERNATIVE, right[1])


def _by_words(gold: str, answer: str, left: Node | None, right: Node | None) -> Decision:
    if words.same_words(gold, answer):
        return Decision(True, "text")
    compact = [re.sub(r"(?<!\d)\s|\s(?!\d)|[{}]|\\(?:text|left|right)\b", "", text) for text in (gold, answer)]
    if compact[0] == compact[1]:
        return Decision(True, "text")
    stated = [
        value_in(text) if tree is None and _STATES.search(text) else text
        for text, tree in ((gold, left), (answer, right))
    ]
    if stated != [gold, answer] and all(_tree(normalize(text)) is not None for text in stated):
        return decide_fully(stated[0], stated[1])
    failed = right is None and left is not None
    return Decision(False, "text", "parse_failure" if failed else "ok")
