"""Matrices, quantities with units, ratios, numerals in a base and residues."""

from __future__ import annotations

from fractions import Fraction

from harness.grading import relations
from harness.grading.exact import digits_in_base, rational
from harness.grading.expression import Node
from harness.grading.matrices import as_matrix
from harness.grading.members import Members
from harness.grading.numeric import symbols
from harness.grading.units import conversion, read_unit


class Quantities(Members):
    """Comparison of what carries more than a value, as part of `Comparison`."""

    def differ_in_working(self, gold: Node, answer: Node) -> bool:
        raise NotImplementedError

    def matrix(self, gold: Node, answer: Node) -> bool:
        """Matrices entry by entry; a column or row of numbers may be written as a tuple."""
        if gold.op == "rel" or answer.op == "rel":
            if self.differ_in_working(gold, answer):
                return False
            (name_g, gold), (name_a, answer) = relations.split_label(gold), relations.split_label(answer)
            if name_g is not None and name_a is not None and name_g != name_a:
                return False
        a, b = (as_matrix(node) or _nested_rows(node) for node in (gold, answer))
        for matrix, other in ((a, b), (b, a)):
            if (
                matrix.op == "matrix"
                and other.op in {"paren", "list"}
                and 1 in {len(matrix.args), len(matrix.args[0].args)}
            ):
                cells = tuple(cell for row in matrix.args for cell in row.args)
                return self.pairwise(cells, other.args) if matrix is a else self.pairwise(other.args, cells)
        if a.op != "matrix" or b.op != "matrix" or [len(r.args) for r in a.args] != [len(r.args) for r in b.args]:
            return False
        return all(self.pairwise(p.args, q.args) for p, q in zip(a.args, b.args, strict=True))

    def cases(self, gold: Node, answer: Node) -> bool:
        if gold.op != answer.op or len(gold.args) != len(answer.args):
            return False
        left = list(answer.args)
        for row in gold.args:
            found = next((r for r in left if len(r.args) == len(row.args) and self.pairwise(row.args, r.args)), None)
            if found is None:
                return False
            left.remove(found)
        return True

    def quantity(self, gold: Node, answer: Node) -> bool:
        """Values with units: a unit may be missing on one side; two units must measure the same thing."""
        (value_g, unit_g), (value_a, unit_a) = split_unit(gold), split_unit(answer)
        if unit_g and not unit_a:
            value_a, unit_a = _trailing_unit(value_a)
        elif unit_a and not unit_g:
            value_g, unit_g = _trailing_unit(value_g)
        if "degree" in {unit_g, unit_a} and {unit_g, unit_a} & {"celsius", "fahrenheit"}:
            unit_g = unit_a = ""
        if ("pct" in {value_g.op, value_a.op}) and value_g.op != value_a.op:
            return False  # a percent sign and another unit contradict each other
        if bool(unit_g) != bool(unit_a) and read_unit(unit_g or unit_a)[2] and _is_name(value_g if unit_g else value_a):
            return False  # words behind a letter are no unit
        factor = conversion(unit_g, unit_a)
        if factor is None:
            return False
        if factor != 1:
            value_a = Node("mul", (Node("num", (), factor), value_a))
        return self.same(value_g, value_a)

    def ratio(self, gold: Node, answer: Node) -> bool:
        """Ratios up to a common factor; times of day are not ratios."""
        if gold.op != answer.op:
            ratio, other = (gold, answer) if gold.op == "ratio" else (answer, gold)
            return len(ratio.args) == 2 and self.same(Node("div", ratio.args), other)
        if len(gold.args) != len(answer.args):
            return False
        if all(_like_a_time(n) for n in (gold, answer)):
            return [rational(a) for a in gold.args] == [rational(a) for a in answer.args]
        numbers = [[rational(arg) for arg in node.args] for node in (gold, answer)]
        if None not in numbers[0] + numbers[1]:
            return _proportional(*numbers)  # type: ignore[arg-type]
        first_g, first_a = gold.args[0], answer.args[0]
        return all(
            self.same(Node("mul", (a, first_a)), Node("mul", (b, first_g)))
            for a, b in zip(gold.args[1:], answer.args[1:], strict=True)
        )

    def based(self, gold: Node, answer: Node) -> bool:
        """Numerals in a base: the subscript counts, and two numerals are the same if their values are."""
        try:
            values = [digits_in_base(*n.value) if n.op == "based" else None for n in (gold, answer)]
        except ValueError:
            return gold == answer
        return values[0] is not None and values[0] == values[1]

    def modular(self, gold: Node, answer: Node) -> bool:
        """Residues: equal moduli, and values that differ by a multiple of it."""
        if gold.op == answer.op:
            values = [rational(arg) for node in (gold, answer) for arg in node.args]
            if None in values or not values[1]:
                return all(self.same(a, b) for a, b in zip(gold.args, answer.args, strict=True))
            return values[1] == values[3] and (values[0] - values[2]) % values[1] == 0  # type: ignore[operator]
        return self.same(*(n.args[0] if n.op == "modular" else n for n in (gold, answer)))


def _nested_rows(node: Node) -> Node:
    """`[[1, 2], [3, 4]]` as a matrix."""
    rows = node.args
    square = node.op == "paren" and all(n.op == "paren" and n.value == ("[", "]") for n in (node, *rows))
    return Node("matrix", tuple(Node("list", row.args, ",") for row in rows)) if square else node


def split_unit(node: Node) -> tuple[Node, str]:
    if node.op == "unit":
        inner, unit = split_unit(node.args[0])
        if unit in {"$", "€", "£", "¥"}:  # `$2.5 million`
            return inner, f"{node.value} {unit}"
        return inner, f"{unit} {node.value}".strip()
    if node.op == "deg":
        return node.args[0], "degree"
    if node.op == "neg" and node.args[0].op == "unit":
        return Node("neg", (node.args[0].args[0],)), str(node.args[0].value)
    return node, ""


def _trailing_unit(node: Node) -> tuple[Node, str]:
    """A number and the one-letter units read as its factors, as in `5m` and `9.8 m/s^2`; else the tree itself."""
    value, unit = node, ""
    while value.op in {"mul", "div"}:
        factor = value.args[1]
        base, power = (factor.args[0], rational(factor.args[1])) if factor.op == "pow" else (factor, Fraction(1))
        if base.op != "sym" or len(base.value) != 1 or power is None or power.denominator != 1:
            break
        unit = f"{'/' if value.op == 'div' else ''} {base.value}^{power} {unit}"
        value = value.args[0]
    return (value, unit) if unit and not symbols(value) else (node, "")


def _proportional(gold: list[Fraction], answer: list[Fraction]) -> bool:
    """Whether one row of numbers is the other times a positive factor."""
    factor = next((a / g for g, a in zip(gold, answer, strict=True) if g), None)
    return factor is not None and factor > 0 and all(a == factor * g for g, a in zip(gold, answer, strict=True))


def _is_name(node: Node) -> bool:
    return node.op in {"sym", "const", "call"}


def _like_a_time(node: Node) -> bool:
    numbers = [rational(arg) for arg in node.args]
    return (
        all(n is not None and n.denominator == 1 for n in numbers)
        and all(len(text) == 2 for text in node.value[1:])
        and all(0 <= n < 60 for n in numbers if n is not None)
    )
