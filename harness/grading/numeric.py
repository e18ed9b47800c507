"""Values of answer trees at random points, to many digits: a fast refuter, and at enough points and digits a proof.

Two expressions built from the usual functions that agree at several random points to 40 digits are the same but for an
accident of probability about 10**-30 (Schwartz-Zippel for polynomials). Every operation is bounded before it is made.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from harness.grading.calculus import ROUGH_DIGITS, NeedsAlgebra, evaluate
from harness.grading.exact import digits_in_base
from harness.grading.expression import Node, TooCostly, walk

DIGITS = 50
MAX_DIGITS = 1500
MAX_BITS = 10_000_000
"""Binary exponent beyond which no value is followed."""
WIDE_SAMPLES = 64
"""Points at which trees of several variables are compared where they bend or jump."""
_SMALL = 60
"""The largest sample where a variable counts terms or factors."""
_INTEGERS = (*range(13), -1, -2, -3, -7, 16, 23, 50, 81, 97, 100, 128, 240, 365, 1000, 4096, -12, -40, -365)
_FRACTIONS = tuple(
    Fraction(f) for f in ("1/3", "7/5", "-2/7", "5/2", "-17/3", "317/10", "-632/10", "1087/5", "-9/8", "-40001/7")
)
MAX_OPERATIONS = 300_000
"""Operations on numbers that one comparison may take. A count and no clock, so that no verdict depends on the load."""
_LOCAL = threading.local()


def grant() -> None:
    """Begin a comparison in this thread: its count of operations starts anew."""
    _LOCAL.operations = 0


def spend(operations: int) -> None:
    """Count operations of this thread's comparison. Raises TimeoutError beyond the budget."""
    _LOCAL.operations = getattr(_LOCAL, "operations", 0) + operations
    if _LOCAL.operations > MAX_OPERATIONS:
        raise TimeoutError("operations")


class Undefined(ArithmeticError):
    """No value at this point."""


def context(digits: int) -> Any:
    """This thread's own mpmath context, so that no precision is shared."""
    if not hasattr(_LOCAL, "context"):
        import mpmath

        _LOCAL.context = mpmath.MPContext()
    _LOCAL.context.dps = digits
    return _LOCAL.context


class Evaluator:
    """Evaluates trees at one point."""

    def __init__(
        self,
        digits: int = DIGITS,
        point: int = 0,
        signs: str = "+",
        log10: bool = False,
        sample: Mapping[str, Fraction] | None = None,
    ) -> None:
        self.mp = context(digits)
        self.point = point if sample is None else zlib.crc32(repr(sorted(sample.items())).encode())
        self.signs = signs
        self.log10 = log10
        self.lost_bits = 0
        """Bits by which an addend was larger than what it was added to: agreement means nothing below them."""
        self.bound: dict[str, Any] = {
            name: self.mp.mpf(value.numerator) / value.denominator for name, value in (sample or {}).items()
        }
        self.cancelled = False
        """Whether two addends left nothing but rounding, or a difference too small for these digits."""
        self.inside_calculus = False
        self.used_quadrature = False
        """Whether an integral or limit was taken by numbers, good to few digits where it is singular at an end."""
        self.rough = False
        """Whether an integral is known to 8 digits only, enough to tell it from other values."""

    def value(self, node: Node) -> Any:
        operation = _OPERATIONS.get(node.op)
        if operation is None:
            raise Undefined(node.op)
        spend(1)
        try:
            value = (
                operation(self, *node.args)
                if node.value is None and operation is not evaluate
                else operation(self, node)
            )
        except (ZeroDivisionError, ValueError, OverflowError, AttributeError, TypeError) as error:
            raise Undefined(str(error)) from error
        if self.mp.isnan(value):
            raise Undefined("nan")
        if not self.mp.isinf(value) and value and self.magnitude(value) > MAX_BITS:
            raise TooCostly("size")
        return value

    def magnitude(self, value: Any) -> int:
        size = abs(self.mp.mag(value)) if value else 0
        return size if isinstance(size, int) else MAX_BITS + 1

    def symbol(self, node: Node) -> Any:
        if node.value in self.bound:
            return self.bound[node.value]
        name, _, index = str(node.value).partition("_")
        if index in self.bound:  # a term of a sequence
            name += f"_{self.mp.nstr(self.bound[index], 12)}"
        seed = zlib.crc32(f"{name if index in self.bound else node.value}/{self.point}".encode())
        value = self.mp.mpf(seed) / 2**32 * 1.5 + 0.3
        if self.signs == "-" or (self.signs == "?" and seed & 1):
            value = -value
        if self.signs == "z":
            value = self.mp.mpc(value, self.mp.mpf(zlib.crc32(f"{node.value}|{self.point}".encode())) / 2**32 + 0.2)
        if self.signs == "int":
            value = self.mp.mpf(2 + seed % 7)
        return value

    def constant(self, node: Node) -> Any:
        mp = self.mp
        if node.value not in {"pi", "e", "i", "inf"}:
            raise Undefined(str(node.value))
        return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1), "inf": mp.inf}[node.value]

    def call(self, node: Node) -> Any:
        """An unknown function: some smooth function of its arguments, another one for every name and point."""
        seed = zlib.crc32(f"{node.value}/{self.point}".encode()) % 1000 + 1
        total = self.mp.mpf(seed) / 7
        for place, arg in enumerate(node.args):
            total += (place + 2) * self.mp.sin(self.value(arg) * (seed % 13 + 1) / 9 + seed)
        return total

    def add(self, *args: Node) -> Any:
        total = self.value(args[0])
        for arg in args[1:]:
            other = self.value(arg)
            if total and other and not self.inside_calculus and not self.mp.isinf(total) and not self.mp.isinf(other):
                self.lost_bits = max(self.lost_bits, abs(self.mp.mag(total) - self.mp.mag(other)))
            before, total = total, total + other
            if other and abs(total) < abs(before) * self.mp.mpf(10) ** (20 - self.mp.dps):
                self.cancelled = True
        return total

    def power(self, base: Node, exponent: Node) -> Any:
        return self.raise_to(self.value(base), self.value(exponent))

    def raise_to(self, base: Any, exponent: Any) -> Any:
        mp = self.mp
        if mp.isinf(base) or mp.isinf(exponent):
            raise Undefined("infinite power")
        if not base:
            if mp.re(exponent) > 0:
                return mp.mpf(0)
            raise Undefined("zero to no positive power")
        if self.inside_calculus and mp.re(exponent * mp.log(base)) < -1_000_000:
            return mp.mpf(0)  # a tail of an integrand
        if self.magnitude(exponent) > 64 or abs(exponent) * (self.magnitude(base) + 1) > MAX_BITS:
            raise TooCostly("power")
        if mp.isint(exponent):
            return base ** int(mp.re(exponent))
        return mp.exp(exponent * mp.log(base))

    def root(self, inner: Node, index: Node) -> Any:
        """The real root where there is one: odd roots of negative numbers are negative."""
        value, degree = self.value(inner), self.value(index)
        mp = self.mp
        if mp.isint(degree) and int(mp.re(degree)) % 2 and not mp.im(value) and mp.re(value) < 0:
            return -self.raise_to(-value, 1 / degree)
        if degree == 2:
            return mp.sqrt(value)
        return self.raise_to(value, 1 / degree) if value else value

    def factorial(self, inner: Node) -> Any:
        value = self.value(inner)
        if self.magnitude(value) > 24:
            raise TooCostly("factorial")
        return self.mp.gamma(value + 1)

    def log(self, node: Node) -> Any:
        value = self.mp.log(self.value(node.args[0]))
        if len(node.args) == 2:
            return value / self.mp.log(self.value(node.args[1]))
        return value / self.mp.log(10) if self.log10 and node.value == "log" else value

    def function(self, node: Node) -> Any:
        values = [self.value(arg) for arg in node.args]
        mp, name = self.mp, str(node.value)
        if name in {"max", "min"}:
            return (max if name == "max" else min)(mp.re(v) for v in values)
        if name in {"gcd", "lcm"}:
            return self.common(name, node.args)
        [value] = values
        if name not in {"Re", "Im", "conj", "floor", "ceil", "sgn"} and self.magnitude(value) > 3000:
            raise TooCostly(name)
        simple = {
            "Re": mp.re,
            "Im": mp.im,
            "conj": mp.conj,
            "sgn": mp.sign,
            "arg": mp.arg,
            "floor": lambda v: mp.floor(self.snapped(v)),
            "ceil": lambda v: mp.ceil(self.snapped(v)),
        }
        if name in simple:
            return simple[name](value)
        if name in _INVERSE_SIDES:
            return self.inverse(name, value)
        return getattr(mp, name.replace("arc", "a"))(value)

    def inverse(self, name: str, value: Any) -> Any:
        """arccot, arcsec and the like through the function whose branch is not in dispute."""
        return getattr(self.mp, _INVERSE_SIDES[name])(1 / value) if value else self.mp.pi / 2

    def determinant(self, matrix: Node) -> Any:
        rows = [list(row.args) for row in matrix.args]
        if len(rows) != len(rows[0]) or len(rows) > 6:
            raise Undefined("determinant")
        return self.mp.det(self.mp.matrix([[self.value(cell) for cell in row] for row in rows]))

    def modulo(self, a: Node, b: Node) -> Any:
        return self.snapped(self.value(a)) % self.snapped(self.value(b))

    def snapped(self, value: Any) -> Any:
        """An integer that rounding has missed, as in the floor of `\\log_2 8`."""
        nearest = self.mp.nint(self.mp.re(value))
        near = abs(value - nearest) <= self.mp.mpf(10) ** (10 - self.mp.dps) * (1 + abs(value))
        return nearest if near else value

    def common(self, name: str, args: tuple[Node, ...]) -> Any:
        """gcd and lcm of integers."""
        values = [self.snapped(self.value(arg)) for arg in args]
        if not all(self.mp.isint(v) for v in values):
            raise Undefined(name)
        return self.mp.mpf((math.gcd if name == "gcd" else math.lcm)(*(int(self.mp.re(v)) for v in values)))


_INVERSE_SIDES = {
    "arcsec": "acos",
    "arccsc": "asin",
    "arccot": "atan",
    "arcsech": "acosh",
    "arccsch": "asinh",
    "arccoth": "atanh",
}

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "num": lambda e, n: e.mp.mpf(n.value.numerator) / n.value.denominator,
    "dec": lambda e, n: e.mp.mpf(n.value[0].numerator) / n.value[0].denominator,
    "based": lambda e, n: e.mp.mpf(digits_in_base(*n.value)),
    "group": lambda e, a: e.value(a),
    "sym": lambda e, n: e.symbol(n),
    "const": lambda e, n: e.constant(n),
    "call": lambda e, n: e.call(n),
    "add": Evaluator.add,
    "neg": lambda e, a: -e.value(a),
    "mul": lambda e, a, b: e.value(a) * e.value(b),
    "div": lambda e, a, b: e.value(a) / e.value(b),
    "mod": Evaluator.modulo,
    "pow": Evaluator.power,
    "root": Evaluator.root,
    "abs": lambda e, a: abs(e.value(a)),
    "pct": lambda e, a: e.value(a) / 100,
    "deg": lambda e, a: e.value(a) * e.mp.pi / 180,
    "fact": Evaluator.factorial,
    "fact2": lambda e, a: e.mp.fac2(e.value(a)),
    "binom": lambda e, a, b: e.mp.binomial(e.value(a), e.value(b)),
    "log": Evaluator.log,
    "func": Evaluator.function,
    "det": Evaluator.determinant,
    "int": evaluate,
    "sum": evaluate,
    "prod": evaluate,
    "lim": evaluate,
    "diff": evaluate,
}


@lru_cache(maxsize=16384)
def symbols(node: Node) -> frozenset[str]:
    """The names of the variables and unknown functions in a tree."""
    return frozenset(str(n.value) for n in walk(node) if n.op in {"sym", "call"})


def real_value(node: Node) -> Any:
    """The real value of a constant tree to 50 digits or infinity. Raises ArithmeticError where there is none."""
    evaluator = Evaluator()
    value = evaluator.value(node)
    if evaluator.mp.im(value) and abs(evaluator.mp.im(value)) > abs(value) * evaluator.mp.mpf(10) ** -40:
        raise Undefined("not real")
    return evaluator.mp.re(value)


def bends(*nodes: Node) -> bool:
    """Whether a tree with variables bends or jumps, so that it must be compared far and wide."""
    return any(_bends(node) for node in nodes)


@lru_cache(maxsize=16384)
def _bends(node: Node) -> bool:
    return any(
        (n.op in {"abs", "mod"} or (n.op == "func" and n.value in _JUMPS)) and bool(symbols(n)) for n in walk(node)
    )


_JUMPS = {"floor", "ceil", "max", "min", "gcd", "lcm", "sgn"}


def wide_samples(*nodes: Node) -> list[dict[str, Fraction]]:
    """Points of both signs and several magnitudes, and those beside the constants of the trees, where steps lie.

    The letters i to n stand for integers, and every letter does where a remainder or common divisor is taken.
    """
    parts = [n for node in nodes for n in walk(node)]
    names = sorted(set().union(*(symbols(node) for node in nodes)))
    written = {abs(n.value if n.op == "num" else n.value[0]) for n in parts if n.op in {"num", "dec"}}
    constants = sorted((c for c in written if 1 < c <= 10**6), reverse=True)[:6]
    near = [c for k in constants for c in (k - 1, k, k + 1, 2 * k - 1, 2 * k, 3 * k + 1, -k, -k - 1)]
    integers = [Fraction(v) for v in (*_INTEGERS, *near) if Fraction(v).denominator == 1]
    others = [*_FRACTIONS, *(c for c in near if c.denominator > 1), *(k + Fraction(1, 2) for k in constants)]
    if any(n.op == "func" and n.value in {"gcd", "lcm"} for n in parts):
        integers = [v for v in integers if v > 0]
    if any(n.op in {"sum", "prod", "fact", "fact2", "binom", "int"} for n in parts):
        integers = [v for v in integers if abs(v) <= _SMALL]
        others = [v for v in others if abs(v) <= _SMALL]
    if any(n.op in {"sum", "prod"} for n in parts):
        integers = [v for v in integers if v > 0]  # a sum without terms says nothing
    whole = any(n.op == "mod" or (n.op == "func" and n.value in {"gcd", "lcm"}) for n in parts)
    choices = {
        name: list(dict.fromkeys(integers if whole or name[0] in "ijklmnNMK" else integers + others)) for name in names
    }
    if len(names) == 1:
        return [{names[0]: value} for value in choices[names[0]]]
    return [
        {name: values[zlib.crc32(f"{name}|{k}".encode()) % len(values)] for name, values in choices.items()}
        for k in range(WIDE_SAMPLES)
    ]


def agree(
    a: Node,
    b: Node,
    point: int = 0,
    signs: str = "+",
    log10: bool = False,
    digits: int = DIGITS,
    sample: Mapping[str, Fraction] | None = None,
) -> bool:
    """Whether two trees have the same value at one point. Raises ArithmeticError where that cannot be told.

    A point is the number from which each variable draws its value, or the values themselves in `sample`.
    """
    if digits == DIGITS and _differ_roughly(a, b, point, signs, log10, sample):
        return False
    evaluator = Evaluator(digits, point, signs, log10, sample)
    mp = evaluator.mp
    x, y = evaluator.value(a), evaluator.value(b)
    if mp.isinf(x) or mp.isinf(y):
        return bool(x == y)
    difference, size = abs(x - y), max(abs(x), abs(y))
    if evaluator.rough and difference < size * mp.mpf(10) ** -4:
        raise NeedsAlgebra
    if evaluator.used_quadrature and size * mp.mpf(10) ** -38 < difference < size * mp.mpf(10) ** -12:
        raise NeedsAlgebra
    if difference > size * mp.mpf(10) ** (12 - digits):
        if difference > mp.mpf(10) ** (20 - digits) or digits > DIGITS:
            return False
        return _vanishes(a, b, point, signs, log10, sample, difference)
    if evaluator.lost_bits > 60:
        needed = int(evaluator.lost_bits * 0.302) + DIGITS
        if needed > MAX_DIGITS:
            raise TooCostly("digits")
        if digits < needed:
            return agree(a, b, point, signs, log10, needed, sample)
    if evaluator.cancelled and digits == DIGITS and not evaluator.used_quadrature:
        evaluator = Evaluator(3 * DIGITS, point, signs, log10, sample)
        x, y = evaluator.value(a), evaluator.value(b)
        size = max(abs(x), abs(y))
        return bool(size < mp.mpf(10) ** (20 - 3 * DIGITS) or abs(x - y) <= size * mp.mpf(10) ** -DIGITS)
    return True


def _infinite(node: Node) -> bool:
    return node.op == "lim" or (node.op in {"sum", "prod"} and node.args[-1] == Node("const", (), "inf"))


def _differ_roughly(
    a: Node, b: Node, point: int, signs: str, log10: bool, sample: Mapping[str, Fraction] | None
) -> bool:
    """Whether limits and series, costly to many digits, already differ in the first few."""
    if not any(_infinite(n) for node in (a, b) for n in walk(node)):
        return False
    try:
        return not agree(a, b, point, signs, log10, ROUGH_DIGITS, sample)
    except NeedsAlgebra:
        return False


def _vanishes(
    a: Node,
    b: Node,
    point: int,
    signs: str,
    log10: bool,
    sample: Mapping[str, Fraction] | None,
    difference: Any,
) -> bool:
    """Whether a tiny difference is rounding: with twice the digits rounding shrinks, a true difference stays."""
    evaluator = Evaluator(2 * DIGITS, point, signs, log10, sample)
    again = abs(evaluator.value(a) - evaluator.value(b))
    return bool(again < difference * evaluator.mp.mpf(10) ** -(DIGITS // 2))
