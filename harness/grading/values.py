"""Are two expressions equal? Exact arithmetic first, then values at random points, computer algebra last."""

from __future__ import annotations

from fractions import Fraction

from harness.grading.calculus import NeedsAlgebra
from harness.grading.exact import rational
from harness.grading.expression import Node, TooCostly, walk
from harness.grading.numeric import Evaluator, Undefined, agree, bends, symbols, wide_samples

MACHINE_DIGITS = 13
"""A decimal with this many significant digits or more is a float as a program prints it, not a rounding by hand."""
_POINTS = 3
_IRRATIONAL = {"sym", "const", "call", "log", "func", "int", "sum", "prod", "lim", "diff", "deg"}


class Undecided(Exception):
    """Numbers do not tell whether the two are equal; computer algebra may."""


def same_value(gold: Node, answer: Node) -> bool:
    """Whether two expressions have one value wherever both are defined.

    Raises Undecided where only algebra can tell, TooCostly where the values have too many digits.
    """
    if gold == answer:
        return True
    left, right = rational(gold), rational(answer)
    if left is not None and right is not None:
        return left == right or same_decimal(gold, answer, left, right)
    if _power_decides(gold, answer):
        return False
    if (left is None) != (right is None) and not (symbols(gold) | symbols(answer)) and _has_decimal(gold, answer):
        return _decimal_against_irrational(gold, answer)
    return _same_numerically(gold, answer)


def _power_decides(gold: Node, answer: Node) -> bool:
    """Infinities and the empty set equal only themselves."""
    special = {n.value for n in (gold, answer) if n.op == "const"} & {"inf", "empty", "ldots"}
    return bool(special) and gold != answer and not (gold.op == answer.op == "neg")


def _has_decimal(*nodes: Node) -> bool:
    return any(decimal_digits(node) is not None for node in nodes)


def decimal_digits(node: Node) -> int | None:
    """Significant digits of a decimal such as `3.14` or `2.5 \\times 10^{-3}`; None for anything else."""
    if node.op == "dec":
        return int(node.value[1])
    if node.op in {"neg", "group", "pct"}:
        return decimal_digits(node.args[0])
    if node.op == "mul" and node.args[1].op == "pow" and rational(node.args[1].args[0]) == 10:
        return decimal_digits(node.args[0])
    return None


def same_decimal(gold: Node, answer: Node, left: Fraction, right: Fraction) -> bool:
    """Whether one of two unequal rationals is the other as a machine prints it."""
    for node, written, exact in ((gold, left, right), (answer, right, left)):
        digits = decimal_digits(node)
        if digits is not None and digits >= MACHINE_DIGITS and exact and written and (exact > 0) == (written > 0):
            other = decimal_digits(answer if node is gold else gold)
            if other is None and _prints_as(exact, written, digits):
                return True
    return False


def _prints_as(exact: Fraction, written: Fraction, digits: int) -> bool:
    """Whether `exact` rounded to `digits` significant digits is `written`, or both are the same double."""
    size = abs(written)
    exponent = len(str(size.numerator)) - len(str(size.denominator))
    if size < Fraction(10) ** exponent:
        exponent -= 1
    unit = Fraction(10) ** (exponent - digits + 1)
    if abs(exact - written) * 2 <= unit:
        return True
    try:
        return digits >= 15 and float(exact) == float(written)
    except OverflowError:
        return False


def _decimal_against_irrational(gold: Node, answer: Node) -> bool:
    """An irrational number is never its decimal, unless that is printed to machine precision."""
    written, exact = (gold, answer) if decimal_digits(gold) is not None else (answer, gold)
    digits = decimal_digits(written)
    value = rational(written)
    try:
        if agree(written, exact):
            return True
    except ArithmeticError:
        return False
    if digits is None or value is None or digits < MACHINE_DIGITS:
        return False
    try:
        number = Evaluator().value(exact)
        if number.imag:
            return False
        close = Fraction(str(number.real))
    except (ArithmeticError, ValueError):
        return False
    return bool(close) and _prints_as(close, value, digits)


def _same_numerically(gold: Node, answer: Node) -> bool:
    if any(_is_antiderivative(a) and _derivative_differs(a, b) for a, b in ((gold, answer), (answer, gold))):
        return False
    names = symbols(gold) | symbols(answer)
    if _same_at_points(gold, answer, names, log10=False):
        return True
    has_log = any(n.op == "log" and len(n.args) == 1 and n.value == "log" for n in (*walk(gold), *walk(answer)))
    return has_log and _same_at_points(gold, answer, names, log10=True)


def _is_antiderivative(node: Node) -> bool:
    return node.op == "int" and len(node.args) == 2 and node.value == "int"


def _derivative_differs(integral: Node, other: Node) -> bool:
    """Whether the derivative of an expression is not the integrand: then algebra need not find the integral."""
    body, variable = integral.args
    derivative = Node("diff", (other, variable)) if not _is_antiderivative(other) else other.args[0]
    if other.op == "int" and other.args[1] != variable:
        return False
    try:
        return not agree(body, derivative, digits=25)
    except ArithmeticError:
        return False


def _same_at_points(gold: Node, answer: Node, names: frozenset[str], log10: bool) -> bool:
    if (_coprime(gold) and not bends(answer)) or (_coprime(answer) and not bends(gold)):
        gold, answer = (_as_polynomials(node) for node in (gold, answer))
    if bends(gold, answer) and not _has_conjugate(gold, answer):
        return _same_widely(gold, answer, log10)
    agreed = 0
    signs = "z" if _has_conjugate(gold, answer) else "+"
    for point in range(1 if not names else 4 * _POINTS):
        try:
            if not agree(gold, answer, point, signs, log10):
                if names and _parity(gold, answer):
                    return _same_at_integers(gold, answer, log10)
                if not names or not _beyond_reals(gold, answer, point, log10):
                    return False
                continue
        except NeedsAlgebra as error:
            if _counts_terms(gold, answer):
                return _same_at_integers(gold, answer, log10)
            raise Undecided("algebra") from error
        except Undefined:
            continue
        agreed += 1
        if agreed == _POINTS:
            break
    if not agreed:
        return False
    if not names or not (_has_root(gold) or _has_root(answer)):
        return True
    return _same_widely(gold, answer, log10, both_signs=_has_root(gold) != _has_root(answer))


def _same_widely(gold: Node, answer: Node, log10: bool, both_signs: bool = True) -> bool:
    """Whether two trees agree at points far and near wherever both have real values."""
    agreed, costly = 0, False
    for sample in wide_samples(gold, answer):
        if not both_signs and any(value <= 0 for value in sample.values()):
            continue
        try:
            values = [Evaluator(log10=log10, sample=sample).value(node) for node in (gold, answer)]
            real = [abs(value.imag) < 1e-30 for value in values]
            if real[0] != real[1] and _only_one_has_bars(gold, answer):
                return False
            if all(real):
                if values[0] != values[1] and not agree(gold, answer, log10=log10, sample=sample):
                    return False
                agreed += 1
        except NeedsAlgebra as error:
            raise Undecided("algebra") from error
        except TooCostly:
            costly = True
        except Undefined:
            continue
    if costly and not agreed:
        raise TooCostly("samples")
    return agreed >= _POINTS


def _coprime(node: Node) -> bool:
    """`\\gcd(a, b)` of indeterminates alone: letters that do not usually stand for integers."""
    return (
        node.op == "func"
        and node.value in {"gcd", "lcm"}
        and len(set(node.args)) == len(node.args) > 1
        and all(arg.op == "sym" and arg.value in set("abcdxyz") for arg in node.args)
    )


def _as_polynomials(node: Node) -> Node:
    """The greatest common divisor of indeterminates is 1, their least common multiple the product."""
    if not _coprime(node):
        return node
    product = node.args[0]
    for arg in node.args[1:]:
        product = Node("mul", (product, arg))
    return product if node.value == "lcm" else Node("num", (), Fraction(1))


def _has_conjugate(*nodes: Node) -> bool:
    """Whether the variables stand for complex numbers."""
    return any(n.op == "func" and n.value in {"conj", "Re", "Im", "arg"} and symbols(n) for m in nodes for n in walk(m))


def _has_root(node: Node) -> bool:
    """Whether a root is taken of a variable, so that another branch may lie beyond the first points."""
    return any(
        n.op in {"root", "pow"} and bool(symbols(n.args[0])) and (n.op == "root" or _fractional(n.args[1]))
        for n in walk(node)
    )


def _fractional(exponent: Node) -> bool:
    value = rational(exponent)
    return value is not None and value.denominator != 1


def _beyond_reals(gold: Node, answer: Node, point: int, log10: bool) -> bool:
    """Whether a point lies outside the real domain of a side, where branches differ: `artanh x` for x > 1."""
    nodes = (*walk(gold), *walk(answer))
    if Node("const", (), "i") in nodes or any(n.op in {"lim", "sum", "prod", "int", "diff"} for n in nodes):
        return False
    try:
        values = [Evaluator(point=point, log10=log10).value(node) for node in (gold, answer)]
    except ArithmeticError:
        return False
    return any(abs(v.imag) > 1e-30 for v in values)


def _counts_terms(gold: Node, answer: Node) -> bool:
    """Whether the variables are numbers of terms, as in `\\sum_{k=1}^n k`."""
    ends = {n.args[2] for node in (gold, answer) for n in walk(node) if n.op in {"sum", "prod"} and len(n.args) == 3}
    return (
        bool(ends)
        and {n.op for n in ends} == {"sym"}
        and symbols(gold) | symbols(answer)
        <= {str(n.value) for n in ends}
        | {str(n.value) for node in (gold, answer) for n in walk(node) if n.op == "sym" and _bound_in(n, gold, answer)}
    )


def _bound_in(name: Node, *nodes: Node) -> bool:
    return any(
        n.op in {"sum", "prod"} and len(n.args) == 3 and n.args[1].op == "rel" and n.args[1].args[0] == name
        for node in nodes
        for n in walk(node)
    )


def _only_one_has_bars(gold: Node, answer: Node) -> bool:
    """`\\ln|x|` is defined where `\\ln x` is not; the author of the bars meant them."""
    kinds = [{n.op for n in walk(node)} for node in (gold, answer)]
    return all("log" in k for k in kinds) and ("abs" in kinds[0]) != ("abs" in kinds[1])


def _parity(gold: Node, answer: Node) -> bool:
    """Whether the variables stand for integers: `(-1)^n`, `\\cos n\\pi`."""
    nodes = (*walk(gold), *walk(answer))
    return any(n.op == "pow" and n.args[0].op in {"num", "neg"} and (rational(n.args[0]) or 0) < 0 for n in nodes) and {
        n.value for n in nodes if n.op == "sym"
    } <= {"n", "k", "m"}


def _same_at_integers(gold: Node, answer: Node, log10: bool) -> bool:
    try:
        return all(agree(gold, answer, point, "int", log10) for point in range(6))
    except ArithmeticError:
        return False
