"""The graders by name: the strict one, and those that published numbers were made with.

The others follow the rules of their sources, weaknesses included, but read formulas with this package's parser, so they
evaluate nothing and, with a limit on length, cannot hang. Their versions go into result files beside the numbers.
"""

from __future__ import annotations

import ast
import cmath
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import InputError
from harness.grading import latex_rules
from harness.grading.equivalence import Decision, decide
from harness.grading.exact import rational
from harness.grading.expression import Node, ParseError, TooCostly
from harness.grading.normalize import MAX_LENGTH, normalize
from harness.grading.numeric import Evaluator, grant
from harness.grading.parse import parse
from harness.grading.values import Undecided, same_value


@dataclass(frozen=True)
class Grader:
    """A named rule for when an answer equals the gold answer."""

    name: str
    version: str
    """Changes whenever some verdict may."""
    decide: Callable[[str, str], Decision]

    @property
    def label(self) -> str:
        """Name and version, as result files hold them."""
        return f"{self.name}-{self.version}"


def _trees(*texts: str) -> list[Node] | None:
    try:
        return [parse(normalize(text)) for text in texts]
    except (ParseError, RecursionError, ValueError):
        return None


def _equal_expressions(gold: str, answer: str) -> bool:
    """Symbolic equality of two single expressions, as `simplify(a - b) == 0` would find it."""
    trees = _trees(gold, answer)
    if trees is None:
        return False
    grant()
    try:
        return same_value(trees[0], trees[1])
    except (Undecided, TooCostly, TimeoutError):
        return False


def _bounded(rule: Callable[[str, str], Decision]) -> Callable[[str, str], Decision]:
    """The rule with the strict grader's limit on length, beyond which only the same words are the same answer."""

    def decide_bounded(gold: str, answer: str) -> Decision:
        if max(len(gold), len(answer)) > MAX_LENGTH:
            return Decision(gold.split() == answer.split(), "exact")
        return rule(gold, answer)

    return decide_bounded


def _by_prm800k(gold: str, answer: str) -> Decision:
    if latex_rules.hendrycks(gold) == latex_rules.hendrycks(answer):
        return Decision(True, "exact")
    left, right = latex_rules.prm800k(gold), latex_rules.prm800k(answer)
    if left == right and left:
        return Decision(True, "exact")
    if not left or not right:
        return Decision(False, "none", "no_answer" if not right else "ok")
    parts_g, parts_a = _split_tuple(left), _split_tuple(right)
    if len(parts_g) != len(parts_a) or (len(parts_g) > 1 and (left[0], left[-1]) != (right[0], right[-1])):
        return Decision(False, "tuple")
    return Decision(all(_same_element(g, a) for g, a in zip(parts_g, parts_a, strict=True)), "symbolic")


def _same_element(gold: str, answer: str) -> bool:
    """Two unequal fractions are wrong even if one reduces to the other; an integer gold wants an integer."""
    fraction, integer = r"-?\d+\.?/0*[1-9]\d*\.?", r"-?\d+"
    if gold == answer:
        return True
    if re.fullmatch(fraction, gold) and re.fullmatch(fraction, answer):
        return False
    if bool(re.fullmatch(integer, gold)) != bool(re.fullmatch(integer, answer)):
        return False
    return _equal_expressions(gold, answer)


def _split_tuple(text: str) -> list[str]:
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and not re.search(r"[()\[\]]", text[1:-1]):
        return [part.strip() for part in text[1:-1].split(",")]
    return [text]


def _by_minerva(gold: str, answer: str) -> Decision:
    left, right = latex_rules.minerva(gold), latex_rules.minerva(answer)
    if left == right and left:
        return Decision(True, "exact")
    return Decision(bool(left and right) and _equal_expressions(left, right), "symbolic")


def _by_hendrycks(gold: str, answer: str) -> Decision:
    left, right = latex_rules.hendrycks(gold), latex_rules.hendrycks(answer)
    return Decision(left == right and bool(left), "exact")


def _by_rstar(gold: str, answer: str) -> Decision:
    """rStar-Math's first checker (lineage of ToRA, arXiv:2309.17452).

    Numbers agree to 1e-4, factors of 100 are taken for percent, brackets are ignored.
    """
    for left, right in ((gold, answer), (latex_rules.hendrycks(gold), latex_rules.hendrycks(answer))):
        if left.strip().lower() == right.strip().lower() and left.strip():
            return Decision(True, "exact")
        if _loosely_equal(left.strip(), right.strip()):
            return Decision(True, "loose")
    return Decision(False, "loose")


def _loosely_equal(gold: str, answer: str) -> bool:
    if re.fullmatch(r"[A-E]", gold) and re.sub(r"[^A-E]", "", answer)[-1:] == gold and len(answer) <= 10:
        return True
    numbers = [_number(text) for text in (gold, answer)]
    if numbers[0] is not None and numbers[1] is not None:
        return any(
            math.isclose(numbers[1], target, rel_tol=1e-4)
            for target in (numbers[0] / 100, numbers[0], numbers[0] * 100)
        )
    bare = [re.sub(r"[{}()\[\]\s]", "", text).lower() for text in (gold, answer)]
    if bare[0] == bare[1] and bare[0]:
        return True
    parts = [
        text[1:-1].split(",") if re.fullmatch(r"[(\[].+[)\]]", text) and "," in text else [] for text in (gold, answer)
    ]
    if parts[0] and len(parts[0]) == len(parts[1]):
        return all(_loosely_equal(g.strip(), a.strip()) for g, a in zip(parts[0], parts[1], strict=True))
    return decide(gold, answer).same or _close_values(gold, answer)


def _number(text: str) -> float | None:
    trees = _trees(text.rstrip("%").replace("\\", "") if re.fullmatch(r"[-\d.,]+\\?%", text) else text)
    value = rational(trees[0]) if trees else None
    try:
        return None if value is None else float(value) / (100 if text.endswith("%") else 1)
    except OverflowError:
        return None


def _close_values(gold: str, answer: str) -> bool:
    trees = _trees(gold, answer)
    if trees is None:
        return False
    grant()
    try:
        x, y = (complex(Evaluator().value(tree)) for tree in trees)
    except (ArithmeticError, ValueError):
        return False
    if not (cmath.isfinite(x) and cmath.isfinite(y)):
        return False  # infinity would be within 1e-4 of itself of every number
    return abs(x - y) <= 1e-4 * max(abs(x), abs(y))


def _by_bbeh(gold: str, answer: str) -> Decision:
    """The fuzzy rule of BIG-Bench Extra Hard (arXiv:2502.19187, google-deepmind/bbeh, evaluate.py).

    In lower case: `(a)` is `a`; where neither has that form, numbers are compared as numbers, and quotes, brackets
    around the whole, a question mark at the end and the blank behind a comma do not count. Nor does a box around the
    answer, here also where more lines follow, which the authors' program does not see.
    """
    plain = answer.strip().removesuffix(".").replace("**", "").strip("$")
    for command in ("boxed{", "text{", "texttt{"):
        if command in plain and plain.endswith("}"):
            plain = plain[:-1].split(command)[1]
    left, right = (text.strip().lower().replace(", ", ",") for text in (gold, plain.strip().removesuffix(".")))
    for one, other in ((right, left), (left, right)):
        if len(one) == 3 and (one[0], one[2]) == ("(", ")"):
            return Decision(other in (one, one[1]), "loose")
    same = left.replace("'", "") == right.replace("'", "") or right == f"{left}?" or _same_float(left, right)
    return Decision(same or right == f"[{left}]" or left == f"[{right}]", "loose")


def _same_float(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return False


def _by_value(gold: str, answer: str) -> Decision:
    """Both are Python literals of equal values, as CRUXEval asks (arXiv:2401.03065), which runs `gold == answer`.

    Where the gold is no literal, only the same text is right.
    """
    try:
        value = ast.literal_eval(gold.strip())
    except _NO_LITERAL:
        return Decision("".join(gold.split()) == "".join(answer.split()), "exact")
    try:
        return Decision(value == ast.literal_eval(answer.strip()), "exact")
    except _NO_LITERAL:
        return Decision(False, "none", "parse_failure")


_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)

GRADERS: dict[str, Grader] = {
    grader.name: grader
    for grader in (
        Grader("strict", "3", decide),
        Grader("prm800k", "2", _bounded(_by_prm800k)),
        Grader("rstar", "2", _bounded(_by_rstar)),
        Grader("minerva", "2", _bounded(_by_minerva)),
        Grader("hendrycks", "2", _bounded(_by_hendrycks)),
        Grader("bbeh", "1", _bounded(_by_bbeh)),
        Grader("literal", "1", _bounded(_by_value)),
    )
}
"""The graders by name."""


def named(name: str) -> Grader:
    """The grader of that name. Raises InputError for an unknown one."""
    if name not in GRADERS:
        raise InputError(f"Unknown grader {name!r}; the graders are {', '.join(GRADERS)}.")
    return GRADERS[name]
