"""Subsets of the real line: intervals, unions, conditions on one variable, compared as sets of numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.grading.expression import Node
from harness.grading.numeric import Evaluator, Undefined, context, real_value, symbols

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}
MAX_PIECES = 200


class Piece(NamedTuple):
    """An interval, with `closed` for each end; a point is closed at both."""

    low: Any
    high: Any
    low_closed: bool
    high_closed: bool


Region = tuple[Piece, ...]


class NoRegion(Exception):
    """The tree is no subset of the real line."""


def is_region(node: Node) -> bool:
    """Whether the tree can only mean a set of numbers, where `(1, 2)` alone could be a pair."""
    if node.op in {"union", "inter", "minus", "builder"}:
        return True
    if node.op == "const":
        return node.value in {"bbR", "empty"} or str(node.value).startswith("bb")
    if node.op == "paren" and len(node.args) == 2:
        return node.value in {("(", "]"), ("[", ")"), ("]", "["), ("]", "]"), ("[", "[")} or any(
            _infinite(a) for a in node.args
        )
    if node.op == "rel":
        return all(op in {"<", "<=", ">", ">=", "!=", "in", "notin"} for op in node.value)
    if node.op == "list" and node.value == "or" and any(is_region(arg) for arg in node.args):
        return all(is_region(arg) or _is_point(arg) for arg in node.args)
    if node.op == "list" and any(arg.op == "builder" for arg in node.args):
        return False
    return node.op == "list" and bool(node.args) and all(is_region(arg) for arg in node.args)


def _is_point(node: Node) -> bool:
    """`x = 1` beside conditions on x."""
    return node.op == "rel" and node.value == ("=",) and node.args[0].op == "sym" and not symbols(node.args[1])


def _infinite(node: Node) -> bool:
    if node.op in {"neg", "add", "group"}:
        return any(_infinite(a) for a in node.args)
    return node.op == "const" and node.value == "inf"


def region(node: Node) -> Region:
    """The pieces of a set of numbers in order, merged. Raises NoRegion, or ArithmeticError for ends without a value."""
    mp = context(50)
    pieces = _pieces(node)
    if len(pieces) > MAX_PIECES:
        raise NoRegion("too many pieces")
    pieces = sorted(
        (p for p in pieces if p.low < p.high or (p.low == p.high and p.low_closed and p.high_closed)),
        key=lambda p: (p.low, not p.low_closed),
    )
    merged: list[Piece] = []
    for piece in pieces:
        if merged and (_close(piece.low, merged[-1].high) or piece.low < merged[-1].high):
            last = merged[-1]
            touching = _close(piece.low, last.high)
            if not touching or piece.low_closed or last.high_closed:
                higher = piece if piece.high > last.high else last
                closed = higher.high_closed or (
                    _close(piece.high, last.high) and (piece.high_closed or last.high_closed)
                )
                low_closed = last.low_closed or (_close(piece.low, last.low) and piece.low_closed)
                merged[-1] = Piece(last.low, higher.high, low_closed, closed)
                continue
        merged.append(piece)
    return tuple(
        Piece(p.low, p.high, p.low_closed and not mp.isinf(p.low), p.high_closed and not mp.isinf(p.high))
        for p in merged
    )


def _close(a: Any, b: Any) -> bool:
    if a == b:
        return True
    mp = context(50)
    if mp.isinf(a) or mp.isinf(b):
        return False
    return bool(abs(a - b) <= mp.mpf(10) ** -35 * max(abs(a), abs(b)))


def same_region(a: Region, b: Region) -> bool:
    """Whether two merged regions hold the same numbers."""
    return len(a) == len(b) and all(
        _close(p.low, q.low) and _close(p.high, q.high) and p[2:] == q[2:] for p, q in zip(a, b, strict=True)
    )


def _pieces(node: Node) -> list[Piece]:
    mp = context(50)
    match node.op:
        case "paren" if len(node.args) == 2 and node.value[0] != "<":
            low, high = (real_value(arg) for arg in node.args)
            opening, closing = node.value
            if low > high or (low == high and (opening, closing) != ("[", "]")):
                raise NoRegion("ends in the wrong order")
            return [Piece(low, high, opening == "[", closing == "]")]
        case "set":
            if Node("const", (), "empty") in node.args:
                raise NoRegion("a set of sets")
            points = [real_value(arg) for arg in node.args]
            return [Piece(p, p, True, True) for p in points]
        case "const" if node.value == "bbR":
            return [Piece(-mp.inf, mp.inf, False, False)]
        case "const" if node.value in {"bbR+", "bbR-", "bbR*"}:
            below, above = Piece(-mp.inf, mp.mpf(0), False, False), Piece(mp.mpf(0), mp.inf, False, False)
            return {"+": [above], "-": [below], "*": [below, above]}[node.value[-1]]
        case "const" if node.value == "empty":
            return []
        case "union":
            return [piece for arg in node.args for piece in _pieces(arg)]
        case "inter":
            return _intersection([region(arg) for arg in node.args])
        case "minus":
            return _intersection([region(node.args[0]), _complement(region(node.args[1]))])
        case "builder":
            return _builder(node)
        case "rel":
            return _relation(node)
        case "list":
            return _conditions(node)
        case "group" | "neg" if node.op == "group":
            value = real_value(node.args[0])
            return [Piece(value, value, True, True)]
    raise NoRegion(node.op)


def _builder(node: Node) -> list[Piece]:
    member, condition = node.args
    conditions = list(condition.args) if condition.op == "list" else [condition]
    if member.op == "rel" and member.value == ("in",):
        member = member.args[0]
    kept = [
        c for c in conditions if not (c.op == "rel" and c.value == ("in",) and c.args[1] == Node("const", (), "bbR"))
    ]
    if not kept:
        return _pieces(Node("const", (), "bbR"))
    if member.op != "sym" or any(symbols(c) != {member.value} for c in kept):
        raise NoRegion("not one variable")
    return _pieces(kept[0] if len(kept) == 1 else Node("list", tuple(kept), condition.value))


def _conditions(node: Node) -> list[Piece]:
    """Several conditions: alternatives behind "or"; behind commas and "and" all of them, if that leaves anything."""
    if len({frozenset(symbols(arg)) for arg in node.args if arg.op == "rel"}) > 1:
        raise NoRegion("several variables")
    parts = [region(arg) for arg in node.args]
    if node.value == "or" or any(arg.op != "rel" for arg in node.args):
        return [piece for part in parts for piece in part]
    common = _intersection(parts)
    return common or [piece for part in parts for piece in part]


def _relation(node: Node) -> list[Piece]:
    """`a < x <= b`, `x \\ne 3`, `x \\in S`: linear conditions on one bare variable or unknown."""
    if node.value == ("in",):
        return _pieces(node.args[1])
    if node.value == ("notin",):
        return list(_complement(region(node.args[1])))
    found: Region | None = None
    unknown = None
    for left, operator, right in zip(node.args, node.value, node.args[1:], strict=False):
        if symbols(right) and not symbols(left):
            left, operator, right = right, FLIPPED.get(operator, operator), left
        if left.op not in {"sym", "call"} or symbols(right) or operator not in FLIPPED or unknown not in {None, left}:
            raise NoRegion("no condition on one variable")
        unknown = left
        part = _half_line(operator, right)
        found = part if found is None else tuple(_intersection([found, part]))
    return list(found or ())


def _half_line(operator: str, bound: Node) -> Region:
    mp = context(50)
    value = real_value(bound)
    below, above = Piece(-mp.inf, value, False, operator == "<="), Piece(value, mp.inf, operator == ">=", False)
    if operator == "=":
        return (Piece(value, value, True, True),)
    return {"<": (below,), "<=": (below,), ">": (above,), ">=": (above,), "!=": (below, above)}[operator]


def _intersection(parts: list[Region]) -> list[Piece]:
    result = list(parts[0])
    for part in parts[1:]:
        crossed = []
        for p in result:
            for q in part:
                low, high = max(p.low, q.low), min(p.high, q.high)
                low_closed = all(r.low_closed for r in (p, q) if r.low == low)
                high_closed = all(r.high_closed for r in (p, q) if r.high == high)
                if low < high or (low == high and low_closed and high_closed):
                    crossed.append(Piece(low, high, low_closed, high_closed))
        result = crossed
    return result


def _complement(part: Region) -> Region:
    mp = context(50)
    gaps, low, closed = [], -mp.inf, False
    for piece in part:
        gaps.append(Piece(low, piece.low, closed, not piece.low_closed))
        low, closed = piece.high, not piece.high_closed
    gaps.append(Piece(low, mp.inf, closed, False))
    return tuple(g for g in gaps if g.low < g.high or (g.low == g.high and g.low_closed and g.high_closed))


def same_by_samples(gold: Node, answer: Node) -> bool | None:
    """A condition that is not linear, such as `|x| < 1`, against an explicit set, asked at and around its ends.

    None where neither side is explicit or the other is no condition on one variable.
    """
    for explicit, condition in ((gold, answer), (answer, gold)):
        if condition.op != "rel" or len(symbols(condition)) != 1 or any(op not in FLIPPED for op in condition.value):
            continue
        try:
            pieces = region(explicit)
            return all(_holds(condition, x) == _contains(pieces, x) for x in _samples(pieces))
        except (NoRegion, ArithmeticError):
            continue
    return None


def _samples(pieces: Region) -> list[Any]:
    mp = context(50)
    ends = [end for piece in pieces for end in piece[:2] if not mp.isinf(end)]
    near = [end + side * (1 + abs(end)) * mp.mpf(10) ** -9 for end in ends for side in (-1, 0, 1)]
    grid = [mp.mpf(k) * 7 / 5 + mp.mpf(1) / 97 for k in range(-30, 31)]
    return near + grid + [mp.mpf(10) ** 4 + 1, -(mp.mpf(10) ** 4) - 1]


def _contains(pieces: Region, x: Any) -> bool:
    return any(
        (p.low < x or (p.low == x and p.low_closed)) and (x < p.high or (x == p.high and p.high_closed)) for p in pieces
    )


def _holds(condition: Node, x: Any) -> bool:
    """Whether a relation is true at x; false where a side has no real value there."""
    evaluator = Evaluator()
    mp = evaluator.mp
    evaluator.bound[next(iter(symbols(condition)))] = x
    values = []
    for side in condition.args:
        try:
            value = evaluator.value(side)
        except Undefined:
            return False
        if abs(mp.im(value)) > mp.mpf(10) ** -40:
            return False
        values.append(mp.re(value))
    for left, operator, right in zip(values, condition.value, values[1:], strict=False):
        equal = _close(left, right) or abs(left - right) < mp.mpf(10) ** -40
        if not {
            "<": left < right and not equal,
            ">": left > right and not equal,
            "<=": left < right or equal,
            ">=": left > right or equal,
            "=": equal,
            "!=": not equal,
        }[operator]:
            return False
    return True
