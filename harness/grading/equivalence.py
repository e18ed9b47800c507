"""Do two answers mean the same? From cheap to costly: strings, exact numbers, trees, random points, algebra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from harness.grading import conditions, words
from harness.grading.compare import Comparison
from harness.grading.expression import Node, ParseError
from harness.grading.normalize import MAX_LENGTH, normalize
from harness.grading.parse import parse
from harness.grading.symbolic import tame
from harness.grading.workers import JobTimeout, pool
from harness.types import AnswerStatus

_STATES = re.compile(
    r"^(?!.*\b(?:not|no|or|either|maybe|if|than|between)\b).*\b[a-z]{3,} .*\b(?:is|are|equals)\b.*\d", re.IGNORECASE
)
_VALUE = re.compile(r"\d+(?:[.,]\d+)*|(?<![A-Za-z\\])[b-zB-HJ-Z](?![A-Za-z'])")
"""A number, or a letter that is no word."""
_SIMPLE = re.compile(r"([-+]?)([1-9]\d{0,2}(?:,\d{3})+|\d{0,300})(\.\d{1,300})?")
MAX_OPEN = 4
"""Pairs of one comparison that go to computer algebra."""
ALGEBRA_SECONDS = 0.4
"""Processor seconds of computer algebra on one pair of answers; what it has not proved by then it rarely proves."""


@dataclass(frozen=True)
class Decision:
    """Whether two answers are the same, and what decided it."""

    same: bool
    rule: str
    status: AnswerStatus = "ok"
    open: tuple[tuple[Node, Node], ...] = ()
    """Pairs of expressions that only computer algebra could decide."""


def is_equivalent(gold: str, answer: str) -> bool:
    """Whether two bare answers are the same; either may stand in `$...$` or a box."""
    return decide(gold, answer).same


def decide(gold: str, answer: str) -> Decision:
    """The whole cascade for one pair of bare answers; repeated pairs are remembered."""
    return (_decide if len(gold) + len(answer) <= MAX_LENGTH else _decide.__wrapped__)(gold, answer)


@lru_cache(maxsize=65536)
def _decide(gold: str, answer: str) -> Decision:
    if (decided := decide_cheaply(gold, answer)) is not None:
        return decided
    pool().start_ahead()
    decision = decide_fully(gold, answer)
    return settle(decision)


def settle(decision: Decision) -> Decision:
    """The decision once computer algebra has tried the pairs that were left open."""
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


def decide_fully(gold: str, answer: str) -> Decision:
    """Normal forms, conditions, words and trees."""
    if max(len(gold), len(answer)) > MAX_LENGTH:
        return Decision(gold.split() == answer.split(), "exact")
    return _decide_normal(normalize(gold), normalize(answer))


def _decide_normal(left: str, right: str) -> Decision:
    """The verdict on two normal forms."""
    if left == right:
        return Decision(bool(left), "exact")
    if not left or not right:
        return Decision(False, "none", "no_answer" if not right else "parse_failure")
    if (decided := _by_choice(left, right)) is not None:
        return Decision(decided, "choice")
    signs = [sorted(re.findall(r"\\(wedge|vee)\b", text)) for text in (left, right)]
    if all(signs) and signs[0] != signs[1]:
        return Decision(False, "text")  # "and" and "or" between statements
    times = words.time_of_day(left), words.time_of_day(right)
    if times[0] and times[1]:
        return Decision(words.same_time(times[0], times[1]), "time")
    left, right = _with_points(left, right)
    conditional = conditions.clauses(left), conditions.clauses(right)
    if conditional[0] or conditional[1]:
        return _by_conditions(
            conditional[0] or [conditions.Clause(left, ())], conditional[1] or [conditions.Clause(right, ())]
        )
    trees = [_tree(text) for text in (left, right)]
    if trees[1] is None and trees[0] is not None and trees[0].op != "rel":
        trees[1] = _behind_the_last_equals(right)
    if trees[0] is None or trees[1] is None:
        return _by_words(left, right, trees[0], trees[1])
    comparison = Comparison()
    try:
        same = comparison.same(trees[0], trees[1])
    except TimeoutError:
        return Decision(False, comparison.rule, "timeout")
    except RecursionError:
        return Decision(False, comparison.rule, "parse_failure")
    status: AnswerStatus = "timeout" if comparison.too_costly and not same else "ok"
    return Decision(same, comparison.rule, status, () if same else tuple(comparison.open[:MAX_OPEN]))


def _by_conditions(gold: list[conditions.Clause], answer: list[conditions.Clause]) -> Decision:
    """Values under conditions: what only algebra could decide of them stays open where there is one value."""
    decisions: list[Decision] = []

    def same(left: str, right: str) -> bool:
        decisions.append(_decide_normal(left, right))
        return decisions[-1].same

    result = conditions.same_clauses(gold, answer, same)
    if len(decisions) == 1 and not result and not decisions[0].same:
        return decisions[0]
    return Decision(result, "condition")


def _tree(text: str) -> Node | None:
    meaning = words.meaning(text)
    if meaning in _CONCEPTS:
        return _CONCEPTS[meaning]
    number = words.as_number(text)
    try:
        return parse(number if number is not None else text)
    except (ParseError, RecursionError, ValueError):
        return None


def _behind_the_last_equals(text: str) -> Node | None:
    """The value that ends a derivation or a sentence: `\\text{Total}=3+4=7`; None where no value stands there."""
    level, cut = 0, None
    for index, char in enumerate(text):
        level += (char in "([{") - (char in ")]}")
        if char == "=" and level == 0 and text[index - 1 : index] not in {"<", ">", "!", "="}:
            cut = index
    if not cut or re.search(r"\b(?:not|no)\b|\\ne\b", text[:cut]):
        return None
    value = _tree(text[cut + 1 :])
    return None if value is None or value.op in {"rel", "list"} else value


_COMMA_NUMBER = re.compile(r"([-+]?\d{1,4}),(\d+)(?=\D*$)")
_POINTS_AND_COMMA = re.compile(r"([-+]?\d{1,3}(?:\.\d{3})+),(\d+)(?=\D*$)")


def _with_points(left: str, right: str) -> tuple[str, str]:
    """Decimal commas as points: `0,63` and `12,50` where the other side is one value, `1.234,56` everywhere."""
    sides = [left, right]
    for index, text in enumerate(sides):
        if found := _POINTS_AND_COMMA.match(text):
            sides[index] = found[1].replace(".", "") + "." + found[2] + text[found.end() :]
        elif (
            (found := _COMMA_NUMBER.match(text))
            and not re.search(r"[,;{(\[]|\\(?:and|or|vee|wedge|pm|mp)\b", text[found.end() :] + sides[1 - index])
            and (found[1].lstrip("+-") == "0" or len(found[2]) not in {1, 3})
        ):
            sides[index] = f"{found[1]}.{found[2]}{text[found.end() :]}"
    return sides[0], sides[1]


_CONCEPTS = {
    "<empty>": Node("const", (), "empty"),
    "<reals>": Node("const", (), "bbR"),
}


def _by_choice(gold: str, answer: str) -> bool | None:
    """Multiple choice: the gold is a letter, perhaps with the option's text; a bare text may answer for its option."""
    rows = words.letter_row(gold), words.letter_row(answer)
    if rows[0] or rows[1]:
        return rows[0] == rows[1]
    several, others = words.letters(gold), words.letters(answer)
    if several is not None and others is not None:
        return several == others
    if several is not None and words.gold_choice(answer) is not None:
        return False
    left = words.gold_choice(gold)
    if left is None:
        return None
    right = words.choice(answer) or (words.choice(answer.upper()) if re.fullmatch(r"\(?[a-j]\)?\.?", answer) else None)
    if right is None:
        if left[1]:
            return _decide_normal(normalize(left[1]), answer).same
        return False if re.search(r"(?<![\\a-z])[a-z]{2,}", answer) else None
    if left[0] != right[0] or re.match(words.ALTERNATIVE, right[1]):
        return False
    return not (left[1] and right[1]) or not _contradict(left[1], right[1])


def _contradict(gold: str, answer: str) -> bool:
    """Whether two texts of one option say different things: both can be read, and differ."""
    texts = [normalize(text) for text in (gold, answer)]
    return all(_tree(text) is not None for text in texts) and not _decide_normal(texts[0], texts[1]).same


def _stated(sentence: str) -> str:
    """What stands behind the last "is" or "=" of a sentence."""
    flat = re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", sentence)
    return re.split(r"(?<![<>!])=|\b(?:is|are|equals)\b", flat)[-1].strip(" .;:")


def _by_words(gold: str, answer: str, left: Node | None, right: Node | None) -> Decision:
    if words.same_words(gold, answer):
        return Decision(True, "text")
    prose = [tree is None and bool(_STATES.search(text)) for text, tree in ((gold, left), (answer, right))]
    if prose[0] and len(_VALUE.findall(gold if prose[1] else re.split(r"[.;]\s", gold)[-1])) > 1:
        return Decision(False, "text")  # which of its values is the answer?
    stated = [_stated(text) if is_prose else text for text, is_prose in zip((gold, answer), prose, strict=True)]
    if any(prose) and all(text and _tree(text) is not None for text in stated):
        return _decide_normal(stated[0], stated[1])
    failed = right is None and left is not None
    return Decision(False, "text", "parse_failure" if failed else "ok")
