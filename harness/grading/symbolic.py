"""Computer algebra, the last and costliest stage: built from trees by constructors, run only in a worker process."""

from __future__ import annotations

from typing import Any

from harness.grading.exact import rational
from harness.grading.expression import Node, replaced, walk

_FUNCTIONS = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec",
    "arccsc": "acsc", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "arccoth": "acoth", "arcsech": "asech", "arccsch": "acsch",
    "ceil": "ceiling",
    "max": "Max", "min": "Min", "Re": "re", "Im": "im", "conj": "conjugate", "sgn": "sign",
}  # fmt: skip
_PLAIN = {
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "sinh",
    "cosh",
    "tanh",
    "sech",
    "csch",
    "coth",
    "floor",
    "gcd",
    "lcm",
    "erf",
    "arg",
}
MAX_TERMS = 10_000
"""Terms of a finite sum or product that are added up."""


MAX_NODES = 60
MAX_EXPONENT = 12


def tame(node: Node) -> bool:
    """Whether computer algebra has a prospect on a tree: not too large, no towers of powers, no high degrees."""
    nodes = walk(node)
    return len(nodes) <= MAX_NODES and all(_tame_power(*n.args) for n in nodes if n.op == "pow")


def _tame_power(base: Node, exponent: Node) -> bool:
    if not any(n.op == "sym" for n in walk(exponent)):
        value = rational(exponent)
        return value is None or abs(value) <= MAX_EXPONENT or rational(base) is not None
    return not any(n.op == "sym" for n in walk(base)) and not any(
        n.op == "pow" and any(m.op == "sym" for m in walk(n.args[1])) for n in walk(exponent)
    )


class Unsupported(ValueError):
    """The tree has no counterpart in computer algebra here."""


def prove_same(pairs: tuple[tuple[Node, Node], ...]) -> bool:
    """Whether computer algebra finds any of the pairs equal. May run long: call it where it can be killed."""
    for gold, answer in pairs:
        try:
            difference = expression(gold) - expression(answer)
            if _is_zero(difference):
                return True
        except (Unsupported, ArithmeticError, TypeError, ValueError, NotImplementedError, AttributeError):
            continue
    return False


def _is_zero(difference: Any) -> bool:
    import sympy

    value = difference.doit()
    if value == 0:
        return True
    if value.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative):
        return False
    return bool(sympy.simplify(value) == 0)


def expression(node: Node) -> Any:
    """The sympy expression of a tree, integrals and sums not yet worked out."""
    import sympy as sp

    args = node.args
    match node.op:
        case "num":
            return sp.Rational(node.value.numerator, node.value.denominator)
        case "dec":
            return sp.Rational(node.value[0].numerator, node.value[0].denominator)
        case "sym":
            return sp.Symbol(str(node.value))
        case "const":
            constants = {"pi": sp.pi, "e": sp.E, "i": sp.I, "inf": sp.oo}
            if node.value not in constants:
                raise Unsupported(str(node.value))
            return constants[node.value]
        case "call":
            return sp.Function(str(node.value))(*(expression(arg) for arg in args))
        case "int" | "sum" | "prod" | "lim" | "diff":
            return _bound(node)
        case "func" | "log":
            return _function(node)
    values = [expression(arg) for arg in args]
    match node.op, values:
        case "add", _:
            return sp.Add(*values)
        case "neg", [a]:
            return -a
        case "mul", [a, b]:
            return a * b
        case "div", [a, b]:
            return a / b
        case "pow", [a, b]:
            return a**b
        case "root", [a, b]:
            return a ** (1 / b)
        case "abs", [a]:
            return sp.Abs(a)
        case "fact", [a]:
            return sp.gamma(a + 1)
        case "binom", [a, b]:
            return sp.binomial(a, b)
        case "pct", [a]:
            return a / 100
        case "deg", [a]:
            return a * sp.pi / 180
        case "group", [a]:
            return a
    raise Unsupported(node.op)


def _function(node: Node) -> Any:
    import sympy as sp

    values = [expression(arg) for arg in node.args]
    if node.op == "log":
        return sp.log(*values)
    name = str(node.value)
    if name not in _FUNCTIONS and name not in _PLAIN:
        raise Unsupported(name)
    return getattr(sp, _FUNCTIONS.get(name, name))(*values)


def _sequences(node: Node) -> Node:
    r"""The body of a sum or product, in which the terms of a sequence (`a_k` in `\sum_k a_k`) depend on its index."""
    body = node.args[0]
    if node.op not in {"sum", "prod"} or len(node.args) < 2 or node.args[1].op != "rel":
        return body
    index = node.args[1].args[0]
    terms = {n: str(n.value).partition("_") for n in walk(body) if n.op == "sym"}
    return replaced(
        body, {n: Node("call", (index,), name) for n, (name, _, subscript) in terms.items() if subscript == index.value}
    )


def _bound(node: Node) -> Any:
    """Operations that bind a variable."""
    import sympy as sp

    body = expression(_sequences(node))
    if node.op == "diff":
        return sp.Derivative(body, expression(node.args[1]))
    if node.op == "int":
        variable, *bounds = (expression(arg) for arg in node.args[1:])
        if node.value != "int" or len(bounds) not in {0, 2}:
            raise Unsupported("integral")
        return sp.Integral(body, (variable, *bounds))
    relation = node.args[1] if len(node.args) > 1 else None
    if relation is None or relation.op != "rel" or len(relation.args) != 2 or relation.args[0].op != "sym":
        raise Unsupported("limits")
    variable, start = expression(relation.args[0]), expression(relation.args[1])
    if node.op == "lim":
        return sp.Limit(body, variable, start)
    end = expression(node.args[2]) if len(node.args) > 2 else None
    if end is None or (start.is_number and end.is_number and end.is_finite and end - start > MAX_TERMS):
        raise Unsupported("range")
    return (sp.Sum if node.op == "sum" else sp.Product)(body, (variable, start, end))
