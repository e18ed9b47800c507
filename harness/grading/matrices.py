"""Matrix arithmetic on trees: sums, products with numbers and matrices, entry by entry."""

from __future__ import annotations

from functools import lru_cache

from harness.grading.expression import Node

MAX_ENTRIES = 100


@lru_cache(maxsize=4096)
def as_matrix(node: Node) -> Node | None:
    """The matrix a tree works out to; None if it holds no matrix or does not fit together."""
    match node.op:
        case "matrix":
            return node
        case "group":
            return as_matrix(node.args[0])
        case "neg":
            inner = as_matrix(node.args[0])
            return None if inner is None else _map(lambda cell: Node("neg", (cell,)), inner)
        case "add":
            parts = [as_matrix(arg) for arg in node.args]
            if any(part is None for part in parts) or len({_shape(part) for part in parts if part is not None}) != 1:
                return None
            rows = [
                [Node("add", cells) for cells in zip(*(p.args[i].args for p in parts if p is not None), strict=True)]
                for i in range(len(parts[0].args if parts[0] else ()))
            ]
            return _matrix(rows)
        case "mul" | "div":
            return _product(node)
        case "pow" if node.args[1] == Node("sym", (), "T"):
            return _transposed(node.args[0])
    return None


def _product(node: Node) -> Node | None:
    left, right = as_matrix(node.args[0]), as_matrix(node.args[1])
    if left is not None and right is not None and node.op == "mul":
        if _shape(left)[1] != _shape(right)[0]:
            return None
        columns = list(zip(*(row.args for row in right.args), strict=True))
        return _matrix(
            [
                [
                    Node("add", tuple(Node("mul", pair) for pair in zip(row.args, column, strict=True)))
                    for column in columns
                ]
                for row in left.args
            ]
        )
    if left is not None and right is None:
        return _map(lambda cell: Node(node.op, (cell, node.args[1])), left)
    if right is not None and left is None and node.op == "mul":
        return _map(lambda cell: Node("mul", (node.args[0], cell)), right)
    return None


def _transposed(node: Node) -> Node | None:
    inner = node if node.op == "paren" else as_matrix(node)
    if inner is None:
        return None
    rows = [inner.args] if inner.op == "paren" else [row.args for row in inner.args]
    return _matrix([list(column) for column in zip(*rows, strict=True)])


def _shape(matrix: Node) -> tuple[int, int]:
    return len(matrix.args), len(matrix.args[0].args)


def _matrix(rows: list[list[Node]]) -> Node | None:
    if not rows or len(rows) * len(rows[0]) > MAX_ENTRIES:
        return None
    return Node("matrix", tuple(Node("list", tuple(row), ",") for row in rows))


def _map(function, matrix: Node) -> Node | None:
    return _matrix([[function(cell) for cell in row.args] for row in matrix.args])
