"""Sums, products, integrals, derivatives and limits by numbers, where nothing else is free; the rest is for algebra."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from harness.grading.expression import Node, TooCostly, walk

MAX_TERMS = 2000
"""Terms of a sum or product that are added one by one."""
MAX_INTEGRAND = 40
"""Nodes of an integrand that is integrated by quadrature."""
ROUGH_DIGITS = 20
"""Digits to which limits are first taken: most wrong values differ in fewer."""
MAX_EVALUATIONS = 250
"""Values of a term or function from which a limit is extrapolated."""


class NeedsAlgebra(ArithmeticError):
    """The operation has no value by numbers alone."""


class Evaluator(Protocol):
    """What evaluates trees at one point (`numeric.Evaluator`), as its operations here see it."""

    mp: Any
    bound: dict[str, Any]
    inside_calculus: bool
    used_quadrature: bool
    rough: bool

    def value(self, node: Node) -> Any: ...
    def symbol(self, node: Node) -> Any: ...


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
    if mp.isint(first) and last == mp.inf:
        name = str(node.args[1].args[0].value)
        accumulate = mp.nsum if node.op == "sum" else mp.nprod
        value = _extrapolated(evaluator, node.args[0], name, lambda term: accumulate(term, [int(first), mp.inf]))
        far, near = (_farthest(evaluator, node.args[0], name, n, 0 if node.op == "sum" else 1) for n in (400, 100))
        if near and far >= near:
            raise NeedsAlgebra  # terms that do not fade have no sum, though extrapolation finds one
        return value
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
    size = max(abs(value), mp.mpf(10) ** -5)
    if error > mp.mpf(10) ** -8 * size:
        raise NeedsAlgebra
    evaluator.rough = evaluator.rough or error > mp.mpf(10) ** -38 * size
    return value


def _derivative(evaluator: Evaluator, node: Node) -> Any:
    name = str(node.args[1].value)
    here = evaluator.symbol(node.args[1])
    return evaluator.mp.diff(lambda x: _at(evaluator, node.args[0], name, x), here)


def _limit(evaluator: Evaluator, node: Node) -> Any:
    """A limit extrapolated from both sides of a finite point."""
    if len(node.args) != 2 or node.args[1].op != "rel" or node.args[1].args[0].op != "sym":
        raise NeedsAlgebra
    mp = evaluator.mp
    name, target = str(node.args[1].args[0].value), evaluator.value(node.args[1].args[1])
    if mp.im(target):
        raise NeedsAlgebra
    if not mp.isfinite(target):
        value = _extrapolated(evaluator, node.args[0], name, lambda f: mp.limit(f, target))
        side = 1 if target > 0 else -1
        far, near = (_farthest(evaluator, node.args[0], name, side * n, value) for n in (400, 100))
        if far > near + mp.mpf(10) ** -8 * (1 + abs(value)):
            raise NeedsAlgebra  # extrapolation gives values to what grows without bound
        return value
    right, left = (
        _extrapolated(evaluator, node.args[0], name, partial(_one_sided, mp, target, side)) for side in (1, -1)
    )
    if abs(right - left) > mp.mpf(10) ** -8 * (1 + abs(right)):
        raise ZeroDivisionError("the sides have different limits")
    return right


def _farthest(evaluator: Evaluator, body: Node, name: str, start: int, value: Any) -> Any:
    """The largest distance from a value at a few integers from `start` on."""
    mp = evaluator.mp
    step = 1 if start > 0 else -1
    try:
        return max(abs(_at(evaluator, body, name, mp.mpf(start + step * k)) - value) for k in range(5))
    except ArithmeticError as failure:
        raise NeedsAlgebra from failure


def _one_sided(mp: Any, target: Any, side: int, function: Callable[[Any], Any]) -> Any:
    return mp.limit(function, target, direction=side)


def _extrapolated(evaluator: Evaluator, body: Node, name: str, limit: Callable[[Any], Any]) -> Any:
    """A limit by extrapolation, believed only if fewer digits lead to the same value; at first a rough one."""
    if any(n.op in {"sym", "call"} and n.value != name and n.value not in evaluator.bound for n in walk(body)):
        raise NeedsAlgebra
    mp, values, evaluations = evaluator.mp, [], 0

    def at(x: Any) -> Any:
        nonlocal evaluations
        evaluations += 1
        if evaluations > MAX_EVALUATIONS:
            raise NeedsAlgebra
        return _at(evaluator, body, name, x)

    digits = mp.dps
    evaluator.rough = evaluator.rough or digits <= ROUGH_DIGITS
    for precision in (15, digits):
        mp.dps = precision
        try:
            values.append(limit(at))
        except (ArithmeticError, ValueError, TypeError, mp.NoConvergence) as failure:
            raise NeedsAlgebra from failure
        finally:
            mp.dps = digits
    if not all(mp.isfinite(v) for v in values) or abs(values[0] - values[1]) > 1e-10 * (1 + abs(values[1])):
        raise NeedsAlgebra
    evaluator.used_quadrature = True
    return values[1]
