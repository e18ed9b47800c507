"""Flat arithmetic expressions, solved by rewriting them line by line.

    6 * 5 - 12 + 24 + 6 ?      the problem (its level is the number of operators)
    6 * 5 - 12 + 30            each line reduces one adjacent pair of the line before
    30 - 12 + 30
    18 + 30
    48
    #### 48

Any order that respects precedence is right, so a problem has many correct solutions and each line can be checked.
All numbers, also those on the way, lie between 0 and `MAX_VALUE`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence

from harness.errors import InputError
from harness.types import Problem

MAX_VALUE = 50
MAX_TERM = 12
"""Largest summand that is not a product."""
MAX_FACTOR = 6
PRODUCT_SHARE = 0.35
LEVELS = (2, 3, 4, 5)
SPLITS = {"test": range(10), "probe": range(10, 15), "sft": range(15, 50), "train": range(50, 100)}
"""Buckets (of 100) of the hash of an expression that belong to each split, which makes the splits disjoint."""

MAX_MISSES = 100_000
"""Expressions drawn in a row that are known already, after which no new one is expected."""

Expression = tuple[int | str, ...]
"""Numbers and operators in turn, such as (6, "*", 5, "-", 12)."""
Form = Callable[[Expression, Sequence[tuple[int, Expression]]], str]
"""Writes the solution of an expression that takes a path of reductions (`random_path`)."""


def write(expression: Expression) -> str:
    return " ".join(map(str, expression))


def read(text: str) -> Expression | None:
    """The expression that a line holds, or None if it is not one in exactly the form `write` gives."""
    words = text.split(" ")
    if len(words) % 2 == 0:
        return None
    for i, word in enumerate(words):
        if i % 2 and word not in ("+", "-", "*"):
            return None
        if i % 2 == 0 and not (word.isascii() and word.isdigit() and len(word) <= 4):
            return None
    expression = tuple(word if i % 2 else int(word) for i, word in enumerate(words))
    return expression if write(expression) == text else None


def random_expression(rng: random.Random, level: int) -> Expression:
    """An expression of `level` operators whose running total stays between 0 and `MAX_VALUE`."""
    while True:
        expression: list[int | str] = []
        operators, total = 0, 0
        while operators < level or not expression:
            sign = rng.choice("+-") if expression else "+"
            if expression:
                expression.append(sign)
                operators += 1
            if operators < level and rng.random() < PRODUCT_SHARE:
                a, b = rng.randint(2, MAX_FACTOR), rng.randint(2, MAX_FACTOR)
                expression += [a, "*", b]
                operators, value = operators + 1, a * b
            else:
                value = rng.randint(1, MAX_TERM)
                expression.append(value)
            total += value if sign == "+" else -value
            if not 0 <= total <= MAX_VALUE:
                break
        else:
            if operators == level:
                return tuple(expression)


def reductions(expression: Expression) -> list[Expression]:
    """All expressions that one right reduction of an adjacent pair leads to."""
    return [following for _, following in steps_from(expression)]


def steps_from(expression: Expression) -> list[tuple[int, Expression]]:
    """All right reductions of an adjacent pair: the place of its operator, and the expression that is left.

    A product may be computed at any time; a sum or difference only where no product touches it and no minus stands
    before it, and only if the result is between 0 and `MAX_VALUE`.
    """
    found = []
    for i in range(1, len(expression), 2):
        a, operator, b = expression[i - 1], expression[i], expression[i + 1]
        assert isinstance(a, int)
        assert isinstance(b, int)
        before = expression[i - 2] if i >= 2 else "+"
        after = expression[i + 2] if i + 2 < len(expression) else "+"
        if operator == "*":
            value = a * b
        elif before == "+" and after != "*":
            value = a + b if operator == "+" else a - b
        else:
            continue
        if 0 <= value <= MAX_VALUE:
            found.append((i, (*expression[: i - 1], value, *expression[i + 2 :])))
    return found


def random_path(rng: random.Random, expression: Expression) -> list[tuple[int, Expression]]:
    """Right reductions down to a number, their order drawn at random; each as `steps_from` gives it."""
    path = []
    while len(expression) > 1:
        place, expression = rng.choice(steps_from(expression))
        path.append((place, expression))
    return path


def as_lines(expression: Expression, path: Sequence[tuple[int, Expression]]) -> str:
    """The solution that takes this path, line by line; ends in `#### answer`."""
    last = path[-1][1] if path else expression
    return "\n".join([*(write(following) for _, following in path), f"#### {last[0]}"])


def random_solution(rng: random.Random, expression: Expression) -> str:
    """One right solution, its order drawn at random; ends in `#### answer`."""
    return as_lines(expression, random_path(rng, expression))


def valid_steps(question: str, steps: Sequence[str]) -> list[bool]:
    """For each line of a solution (its newline included or not), whether it and all lines before it are right."""
    current = read(question)
    valid: list[bool] = []
    for step in steps:
        line = step.removesuffix("\n")
        right = current is not None and all(valid)
        if right and current is not None:
            if line.startswith("#### "):
                right, current = len(current) == 1 and line == f"#### {current[0]}", None
            else:
                following = read(line)
                right = following in reductions(current)
                current = following
        valid.append(right)
    return valid


def bucket(question: str) -> int:
    """The bucket from 0 to 99 that decides which split an expression belongs to."""
    return int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") % 100


def problems(
    split: str, seed: int, levels: Sequence[int] = LEVELS, solutions: bool = False, form: Form = as_lines
) -> Iterator[Problem]:
    """Endless distinct problems of a split, the levels in turn; the same seed gives the same sequence.

    Distinct seeds may repeat one another's problems, distinct splits never do. `form` writes the solutions.

    Raises:
        InputError: a level has no problems left.
    """
    rng = random.Random(f"{split}-{seed}")
    seen: set[str] = set()
    number = misses = 0
    while True:
        level = levels[number % len(levels)]
        expression = random_expression(rng, level)
        question = write(expression)
        if question in seen or bucket(question) not in SPLITS[split]:
            misses += 1
            if misses > MAX_MISSES:
                raise InputError(f"levels: of level {level} there are few problems, not {number + 1}; ask for fewer.")
            continue
        misses = 0
        seen.add(question)
        path = random_path(rng, expression)
        yield Problem(
            id=f"arithmetic/{split}/{seed}/{number}",
            question=question,
            answer=str(path[-1][1][0]),
            solution=form(expression, path) if solutions else "",
            source="arithmetic",
            level=str(level),
        )
        number += 1
