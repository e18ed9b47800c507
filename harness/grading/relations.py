"""Equations, inequalities, and the names in front of answers (`x =`, `f(x) =`, `P(A) =`)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from harness.grading.calculus import NeedsAlgebra
from harness.grading.expression import Node, TooCostly
from harness.grading.numeric import DIGITS, MAX_DIGITS, Evaluator, Undefined, bends, context, symbols, wide_samples
from harness.grading.regions import FLIPPED
from harness.grading.values import Undecided

_ZERO = Node("num", (), Fraction(0))
_POINTS = 4
_OF_MATRICES = {Node("num", (), Fraction(-1)), Node("neg", (Node("num", (), Fraction(1)),)), Node("sym", (), "T")}


def is_label(node: Node) -> bool:
    """Whether a side merely names the answer: a variable, `f(x)`, `AB`, `\\cos A`, `(x, y)`, but no expression."""
    match node.op:
        case "sym" | "call":
            return True
        case "const":
            return node.value in {"e", "i"}
        case "mul":
            return all(_segment(arg) for arg in node.args)
        case "abs" | "group":
            return is_label(node.args[0])
        case "pow":  # an inverse or transposed matrix
            return _segment(node.args[0]) and node.args[1] in _OF_MATRICES
        case "func":
            if node.value in {"gcd", "lcm", "max", "min"}:
                return all(arg.op == "sym" for arg in node.args)
            return len(node.args) == 1 and (
                _segment(node.args[0]) or (node.value != "conj" and node.args[0].op == "sym")
            )
        case "div" | "ratio":
            return all(_segment(arg) for arg in node.args)
        case "paren":
            return node.value == ("(", ")") and all(is_label(arg) for arg in node.args)
    return False


def _segment(node: Node) -> bool:
    """A geometric name such as AB, S_{ABC} or an angle."""
    if node.op == "mul":
        return all(_segment(arg) for arg in node.args) or (node.args[0].value == "m" and _segment(node.args[1]))
    if node.op in {"abs", "func"} and len(node.args) == 1:
        return _segment(node.args[0])
    if node.op == "call":
        return node.value in {"angle", "triangle", "measuredangle", "widetilde", "P"}
    return node.op == "sym" and str(node.value)[0].isupper()


def is_asked_sum(node: Node) -> bool:
    """Whether a side is what contests ask for, `m+n` or `100a+b`: letters for parts of an answer, not for unknowns."""
    return node.op == "add" and all(_is_part(arg) for arg in node.args)


def _is_part(node: Node) -> bool:
    if node.op == "neg":
        return _is_part(node.args[0])
    if node.op == "mul":
        return node.args[0].op == "num" and _is_part(node.args[1])
    return node.op == "sym" and node.value in _PARTS


_PARTS = set("abcdkmnpqrsABCDKMNPQRS")


def split_label(node: Node) -> tuple[Node | None, Node]:
    """The name in front of an answer, if any, and the answer itself; a chain of equations gives its last value."""
    if node.op != "rel":
        return None, node
    operators, sides = node.value, node.args
    if "approx" in operators:
        cut = operators.index("approx")
        if cut > 0 or not is_label(sides[0]) or symbols(sides[1]):
            return split_label(sides[0] if cut == 0 else Node("rel", sides[: cut + 1], operators[:cut]))
        operators = tuple("=" if op == "approx" else op for op in operators)
    if operators in {("in",), ("equiv",)} and is_label(sides[0]):
        return sides[0], sides[1]
    if set(operators) != {"="}:
        return None, node
    if is_label(sides[0]):
        return sides[0], sides[-1]
    if is_label(sides[-1]) and not symbols(sides[0]):
        return sides[-1], sides[0]
    if not any(symbols(side) for side in sides):
        return None, sides[-1]
    if len(sides) > 2 and not symbols(sides[-1]):
        return None, Node("rel", (sides[0], sides[-1]), ("=",))
    return None, node


def difference(node: Node) -> Node:
    """Left minus right of a relation."""
    return Node("add", (node.args[0], Node("neg", (node.args[1],))))


def links(node: Node) -> list[Node]:
    """A chain of relations as pairs: `a < b < c` is `a < b` and `b < c`."""
    return [
        Node("rel", (left, right), (op,)) for left, op, right in zip(node.args, node.value, node.args[1:], strict=False)
    ]


def same_equation(gold: Node, answer: Node) -> bool:
    """Whether two equations have the same solutions: their differences are proportional, or vanish together.

    Raises Undecided where only algebra can tell, TooCostly where values have too many digits.
    """
    a, b = difference(gold), difference(answer)
    if symbols(a) != symbols(b) and not (symbols(a) and symbols(b)):
        return False
    ratio = _constant_ratio(a, b)
    if ratio is not None and _is_identity(a):
        return _constant_ratio(gold.args[0], answer.args[0]) == 1
    if ratio is not None:
        return ratio != 0
    above_a, above_b = _over_common_denominator(a)[0], _over_common_denominator(b)[0]
    ratio = _constant_ratio(above_a, above_b)
    if ratio is not None:
        return ratio != 0
    if bends(a, b):
        return False
    return _vanish_together(above_a, above_b) and _vanish_together(above_b, above_a)


def same_inequality(gold: Node, answer: Node) -> bool:
    """Whether one inequality is the other scaled, shifted or turned round."""
    [op_a], [op_b] = gold.value, answer.value
    if op_a not in FLIPPED or op_b not in FLIPPED:
        return False
    ratio = _constant_ratio(difference(gold), difference(answer))
    if ratio is None or abs(ratio.imag) > 1e-30 or not ratio.real:
        return False
    return bool(op_b == (op_a if ratio.real > 0 else FLIPPED[op_a]))


def _values(a: Node, b: Node, point: int, sample: Mapping[str, Fraction] | None) -> tuple[Any, Any, int]:
    """Both values at one point, and the digits they have: as many as their addends differ in size, and 50 more."""
    evaluator = Evaluator(point=point, signs="?", sample=sample)
    values = evaluator.value(a), evaluator.value(b)
    if evaluator.lost_bits <= 60:
        return *values, DIGITS
    digits = int(evaluator.lost_bits * 0.302) + DIGITS
    if digits > MAX_DIGITS:
        raise TooCostly("digits")
    evaluator = Evaluator(digits, point, "?", sample=sample)
    return evaluator.value(a), evaluator.value(b), digits


def _constant_ratio(a: Node, b: Node) -> Any:
    """b / a if it is the same at every point, 1 if both vanish everywhere; None otherwise."""
    ratios: list[Any] = []
    zeros = 0
    wide = bends(a, b)
    points: list[tuple[int, Mapping[str, Fraction] | None]] = (
        [(0, sample) for sample in wide_samples(a, b)] if wide else [(60 + k, None) for k in range(4 * _POINTS)]
    )
    for point, sample in points:
        try:
            x, y, digits = _values(a, b, point, sample)
        except NeedsAlgebra as error:
            raise Undecided("algebra") from error
        except Undefined:
            continue
        except TooCostly:
            if wide:
                continue
            raise
        mp = context(digits)
        if not (mp.isfinite(x) and mp.isfinite(y)):
            continue  # the quotient of two infinities says nothing
        tiny = mp.mpf(10) ** (10 - digits)
        if abs(x) < tiny or abs(y) < tiny:
            if abs(x) < tiny and abs(y) < tiny:
                zeros += 1
                continue
            return None
        ratios.append(y / x)
        if abs(ratios[-1] - ratios[0]) > abs(ratios[0]) * mp.mpf(10) ** (15 - digits):
            return None
        if len(ratios) == _POINTS and not wide:
            return ratios[0]
    if not ratios:
        return Evaluator().mp.mpf(1) if zeros >= _POINTS else None
    return ratios[0]


def _is_identity(node: Node) -> bool:
    """Whether a difference vanishes everywhere, so that its equation is true and says only what its sides say."""
    try:
        return all(abs(Evaluator(point=point).value(node)) < 1e-30 for point in range(60, 63))
    except ArithmeticError:
        return False


def _over_common_denominator(node: Node) -> tuple[Node, Node]:
    """Numerator and denominator, not reduced."""
    one = Node("num", (), Fraction(1))
    match node.op:
        case "add":
            above, below = _over_common_denominator(node.args[0])
            for arg in node.args[1:]:
                n, d = _over_common_denominator(arg)
                if d == below:
                    above = Node("add", (above, n))
                else:
                    above = Node("add", (Node("mul", (above, d)), Node("mul", (n, below))))
                    below = Node("mul", (below, d))
            return above, below
        case "neg":
            above, below = _over_common_denominator(node.args[0])
            return Node("neg", (above,)), below
        case "mul" | "div":
            (n1, d1), (n2, d2) = (_over_common_denominator(arg) for arg in node.args)
            if node.op == "div":
                n2, d2 = d2, n2
            return Node("mul", (n1, n2)), Node("mul", (d1, d2))
        case "group":
            return _over_common_denominator(node.args[0])
    return node, one


def _vanish_together(a: Node, b: Node) -> bool:
    """Whether b is zero at random points where a is zero, found by solving a = 0 for each of its variables."""
    names = sorted(symbols(a))
    if not names or symbols(b) - symbols(a):
        return False
    found = False
    for name in names[:3]:
        for point in range(80, 92):
            evaluator = Evaluator(point=point, signs="?")
            mp = evaluator.mp
            try:
                root = _solve(evaluator, a, name)
                if root is None:
                    continue
                evaluator.bound[name] = root
                slope_point = root * (1 + mp.mpf(10) ** -10) if root else mp.mpf(10) ** -10
                value = evaluator.value(b)
                evaluator.bound[name] = slope_point
                nearby = evaluator.value(b)
            except NeedsAlgebra as error:
                raise Undecided("algebra") from error
            except TooCostly:
                raise
            except ArithmeticError:
                continue
            if abs(value) > mp.mpf(10) ** -12 * max(abs(nearby), mp.mpf(10) ** -22):
                return False
            found = found or evaluator.lost_bits <= 60  # else too few digits to tell zero from a small addend
    return found


def _solve(evaluator: Evaluator, a: Node, name: str) -> Any:
    """A complex root by the secant method from a point of the evaluator's own, or None."""
    mp = evaluator.mp
    first = 3 * mp.expjpi(evaluator.point * mp.mpf("0.37")) * evaluator.symbol(Node("sym", (), name + "'"))
    second = first * mp.mpf("1.07") + mp.mpf("0.01")

    def at(x: Any) -> Any:
        evaluator.bound[name] = x
        return evaluator.value(a)

    f0, f1 = at(first), at(second)
    for _ in range(60):
        if f1 == f0:
            return None
        first, second = second, second - f1 * (second - first) / (f1 - f0)
        f0, f1 = f1, at(second)
        if abs(second - first) <= abs(second) * mp.mpf(10) ** -42 or not f1:
            return second
    return None
