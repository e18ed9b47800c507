"""Exact rational arithmetic on answer trees, within a budget of digits."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from harness.grading.expression import Node, TooCostly

MAX_BITS = 20_000
"""Bits of a numerator or denominator."""


class NotRational(ArithmeticError):
    """The tree has no rational value, or none that exact arithmetic finds."""


@lru_cache(maxsize=16384)
def rational(node: Node) -> Fraction | None:
    """The value of a constant tree as a fraction; None where it is irrational, symbolic, undefined or too large."""
    try:
        return _value(node)
    except (ArithmeticError, ValueError):
        return None


def _value(node: Node) -> Fraction:
    operation = _OPERATIONS.get(node.op)
    if operation is None:
        raise NotRational(node.op)
    value = operation(node)
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooCostly("digits")
    return value


def _sum(node: Node) -> Fraction:
    return sum((_value(arg) for arg in node.args), Fraction(0))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """`base ** exponent` where it is rational: fractional exponents need perfect powers."""
    if exponent.denominator != 1:
        base, exponent = _root(base, exponent.denominator), Fraction(exponent.numerator)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base != 0 and size * abs(exponent) > MAX_BITS:
        raise TooCostly("power")
    if base == 0 and exponent <= 0:
        raise NotRational("zero to no positive power")
    if abs(base) == 1:
        return base if exponent % 2 else Fraction(1)
    return base**exponent.numerator


def _root(value: Fraction, index: int) -> Fraction:
    if index < 1 or index > 64 or value < 0:
        raise NotRational("root")
    parts = [_integer_root(part, index) for part in (value.numerator, value.denominator)]
    return Fraction(parts[0], parts[1])


def _integer_root(value: int, index: int) -> int:
    if index == 2:
        root = math.isqrt(value)
    else:
        low, high = 0, 1 << (value.bit_length() // index + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**index <= value else (low, middle - 1)
        root = low
    if root**index != value:
        raise NotRational("no perfect power")
    return root


def _root_node(node: Node) -> Fraction:
    inner, index = (_value(arg) for arg in node.args)
    if index.denominator != 1:
        raise NotRational("index")
    if inner < 0 and index.numerator % 2:
        return -_root(-inner, index.numerator)
    return _root(inner, index.numerator)


def _integer(node: Node, limit: int) -> int:
    value = _value(node)
    if value.denominator != 1:
        raise NotRational("no integer")
    if not 0 <= value <= limit:
        raise TooCostly("range") if value > limit else NotRational("negative")
    return value.numerator


def _binomial(node: Node) -> Fraction:
    n, k = _integer(node.args[0], 2000), _integer(node.args[1], 2000)
    return Fraction(math.comb(n, k))


def _choose(node: Node) -> Fraction:
    """`C(10, 3)` and `P(5, 2)`: combinations and permutations."""
    if node.value not in {"C", "P"} or len(node.args) != 2:
        raise NotRational(str(node.value))
    n, k = _integer(node.args[0], 2000), _integer(node.args[1], 2000)
    return Fraction(math.comb(n, k) if node.value == "C" else math.perm(n, k))


def _function(node: Node) -> Fraction:
    values = [_value(arg) for arg in node.args]
    if node.value in {"max", "min"}:
        return max(values) if node.value == "max" else min(values)
    if node.value in {"gcd", "lcm"} and all(v.denominator == 1 for v in values):
        return Fraction((math.gcd if node.value == "gcd" else math.lcm)(*(v.numerator for v in values)))
    if node.value in {"floor", "ceil", "conj", "sgn"} and len(values) == 1:
        [value] = values
        return {
            "floor": Fraction(math.floor(value)),
            "ceil": Fraction(math.ceil(value)),
            "conj": value,
            "sgn": Fraction((value > 0) - (value < 0)),
        }[node.value]
    raise NotRational(str(node.value))


def digits_in_base(text: str, base: str) -> int:
    """The value of a numeral written in a base from 2 to 36. Raises ValueError for digits the base does not have."""
    words = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
    number = words.get(base) or int(base)
    if number < 2:
        raise ValueError(f"no base {base}")
    return int(text, number)


_OPERATIONS = {
    "num": lambda n: n.value,
    "dec": lambda n: n.value[0],
    "based": lambda n: Fraction(digits_in_base(*n.value)),
    "group": lambda n: _value(n.args[0]),
    "add": _sum,
    "neg": lambda n: -_value(n.args[0]),
    "mul": lambda n: _value(n.args[0]) * _value(n.args[1]),
    "div": lambda n: _value(n.args[0]) / _value(n.args[1]),
    "mod": lambda n: _value(n.args[0]) % _value(n.args[1]),
    "pow": lambda n: _power(_value(n.args[0]), _value(n.args[1])),
    "root": _root_node,
    "pct": lambda n: _value(n.args[0]) / 100,
    "abs": lambda n: abs(_value(n.args[0])),
    "fact": lambda n: Fraction(math.factorial(_integer(n.args[0], 1500))),
    "fact2": lambda n: Fraction(math.prod(range(_integer(n.args[0], 1500), 0, -2))),
    "binom": _binomial,
    "call": _choose,
    "func": _function,
}
