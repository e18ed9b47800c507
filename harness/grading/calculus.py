"""Sums, products, integrals and derivatives by numbers, where the limits are numbers; the rest is left to algebra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.grading.tree import Node, TooCostly

if TYPE_CHECKING:
    from harness.grading.numeric import Evaluator

MAX_TERMS = 2000
"""Terms of a sum or product that are added one by one."""
MAX_INTEGRAND = 40
"""Nodes of an integrand that is integrated by quadrature."""


class NeedsAlgebra(ArithmeticError):
    """The operation has no value by numbers alone."""


def evaluate(evaluator: Evaluator, node: Node) -> Any:
    """The value of an operation that binds a variable, at the evaluator's point. Raises NeedsAlgebra."""
    if evaluator.inside_calculus:
        raise NeedsAlgebra
    evaluator.inside_calculus = True
    try:
        return {"sum": _series, "prod": _series, "int": _integral, "diff": _derivative, "lim": _limit}[node.op](
            evaluator, node
        )
    finally:
        evaluator.inside_calculus = False


def _at(evaluator: Evaluator, body: Node, name: str, value: Any) -> Any:
    before = evaluator.bound.get(name)
    evaluator.bound[name] = value
    try:
        return evaluator.value(body)
    finally:
        if before is None:
            del evaluator.bound[name]
        else:
            evaluator.bound[name] = before


def _series(evaluator: Evaluator, node: Node) -> Any:
    if len(node.args) != 3 or node.args[1].op != "rel" or node.args[1].args[0].op != "sym":
        raise NeedsAlgebra
    mp = evaluator.mp
    first, last = evaluator.value(node.args[1].args[1]), evaluator.value(node.args[2])
    if not (mp.isfinite(first) and mp.isfinite(last) and mp.isint(first) and mp.isint(last)):
        raise NeedsAlgebra
    if last - first > MAX_TERMS:
        raise TooCostly("terms")
    total = mp.mpf(0 if node.op == "sum" else 1)
    for k in range(int(first), int(last) + 1):
        term = _at(evaluator, node.args[0], str(node.args[1].args[0].value), mp.mpf(k))
        total = total + term if node.op == "sum" else total * term
    return total


def _integral(evaluator: Evaluator, node: Node) -> Any:
    """Definite integrals by quadrature, trusted only if its error estimate leaves 38 digits."""
    from harness.grading.tree import walk

    if len(node.args) != 4 or node.value != "int" or len(walk(node.args[0])) > MAX_INTEGRAND:
        raise NeedsAlgebra
    mp = evaluator.mp
    low, high = evaluator.value(node.args[2]), evaluator.value(node.args[3])
    name = str(node.args[1].value)
    try:
        value, error = mp.quad(lambda x: _at(evaluator, node.args[0], name, x), [low, high], error=True, maxdegree=7)
    except ArithmeticError as failure:
        raise NeedsAlgebra from failure
    evaluator.used_quadrature = True
    if error > mp.mpf(10) ** -38 * max(abs(value), mp.mpf(10) ** -5):
        raise NeedsAlgebra
    return value


def _derivative(evaluator: Evaluator, node: Node) -> Any:
    name = str(node.args[1].value)
    here = evaluator.symbol(node.args[1])
    return evaluator.mp.diff(lambda x: _at(evaluator, node.args[0], name, x), here)


def _limit(evaluator: Evaluator, node: Node) -> Any:
    raise NeedsAlgebra
