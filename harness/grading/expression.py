"""The parse tree of an answer, and the limits that stand before any computation on it."""

from __future__ import annotations

from typing import Any, NamedTuple

MAX_DEPTH = 40
"""Nesting of brackets, powers, fractions and roots."""
MAX_TOKENS = 1200
MAX_DIGITS = 1000
"""Digits of one number."""


class ParseError(ValueError):
    """The text is not an answer this grammar knows."""


class TooCostly(ArithmeticError):
    """The value would need more digits, operations or memory than an answer is worth."""


class Node(NamedTuple):
    """One operation of an answer.

    Operations: num dec sym const add mul div neg pow fact abs floor ceil func log binom pct deg pm mp (numbers);
    rel list paren set builder union inter minus matrix cases based unit ratio word (structures); int sum prod lim diff.
    """

    op: str
    args: tuple[Any, ...] = ()
    value: Any = None


def walk(node: Node) -> list[Node]:
    """The node and all below it."""
    found, queue = [], [node]
    while queue:
        node = queue.pop()
        found.append(node)
        queue.extend(node.args)
    return found


def replaced(node: Node, names: dict[Node, Node]) -> Node:
    """The tree with some of its parts replaced by others."""
    if node in names:
        return names[node]
    return Node(node.op, tuple(replaced(arg, names) for arg in node.args), node.value) if node.args else node
