"""Compare two answer trees by their kind: values, lists, tuples, sets, intervals, relations, matrices, quantities."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fractions import Fraction

from harness.grading import regions, relations
from harness.grading.exact import digits_in_base, rational
from harness.grading.matrices import as_matrix
from harness.grading.numeric import symbols
from harness.grading.tree import Node, TooCostly, walk
from harness.grading.units import conversion
from harness.grading.values import Undecided, decimal_digits, same_value

MAX_ITEMS = 150
"""Members of a list that are paired off."""
MAX_REPEATS = 12
"""Members of a list in which equal ones are looked for."""
SECONDS = 0.5
"""Time one comparison may take; every single step of it is bounded by the limits on trees."""


@dataclass
class Comparison:
    """One comparison: how a task loosens it, when it must end, and which rule decided."""

    decimals: int | None = None
    """Decimal places to which the task asks to round; None asks for exact answers."""
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    rule: str = "numeric"
    open: list[tuple[Node, Node]] = field(default_factory=list)
    """Pairs that only computer algebra could decide."""
    too_costly: bool = False
    """Whether a value had more digits than an answer is worth, so that nothing was decided."""

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether two answers mean the same."""
        if time.monotonic() > self.deadline:
            raise TimeoutError
        if gold == answer:
            return True
        gold, answer = _bare(gold), _bare(answer)
        for kind, applies, decide in _KINDS:
            if applies(gold, answer):
                self.rule = kind
                return decide(self, gold, answer)
        return self.value(gold, answer)

    def value(self, gold: Node, answer: Node) -> bool:
        """Two expressions, with or without percent signs and degree signs."""
        self.rule = "numeric" if not (symbols(gold) or symbols(answer)) else "symbolic"
        for a, b in ((gold, answer), (answer, gold)):
            if a.op == "pct" and b.op != "pct":
                return self.plain_value(a.args[0], b) or self.plain_value(a, b)
            if a.op == "deg" and b.op != "deg":
                has_pi = any(n.op == "const" and n.value == "pi" for n in walk(b))
                return self.plain_value(a if has_pi else a.args[0], b)
        return self.plain_value(gold, answer)

    def plain_value(self, gold: Node, answer: Node) -> bool:
        try:
            return same_value(gold, answer, self.decimals)
        except Undecided:
            self.open.append((gold, answer))
        except TooCostly:
            self.too_costly = True
        return False

    def labelled(self, gold: Node, answer: Node) -> bool:
        """Answers with a name in front: the name may be missing on one side, two names must agree."""
        (name_g, value_g), (name_a, value_a) = relations.split_label(gold), relations.split_label(answer)
        if name_g is not None and name_a is not None and name_g != name_a:
            if {name_g.op, name_a.op} == {"call", "sym"} and not _occurs(name_g, value_a) and not _occurs(name_a, value_g):
                return self.same(value_g, value_a)
            if name_g.op == name_a.op == "call" and name_g.value == name_a.value and len(name_g.args) == len(name_a.args):
                return self.same(value_g, _rename(value_a, dict(zip(name_a.args, name_g.args, strict=True))))
            if _all_equations(gold, answer):
                return self.equation(gold, answer)
            return _trivial_index(name_g, name_a) and self.same(value_g, value_a)
        if (gold, answer) == (value_g, value_a):
            return self.relation(gold, answer)
        if (value_g.op == "rel") != (value_a.op == "rel") and not (regions.is_region(value_g) or regions.is_region(value_a)):
            return _all_equations(gold, answer) and self.equation(gold, answer)
        if name_g is None and name_a is not None and value_g.op == "rel" and _all_equations(gold, answer):
            return self.equation(gold, answer)
        if self.same(value_g, value_a):
            return True
        return name_g is not None and name_g == name_a and _all_equations(gold, answer) and len(symbols(gold)) > 1 \
            and self.equation(gold, answer)  # fmt: skip

    def relation(self, gold: Node, answer: Node) -> bool:
        """Equations by their solutions; inequalities by scaling, chains link by link."""
        if gold.op != "rel" or answer.op != "rel":
            return False
        if _all_equations(gold, answer):
            return self.equation(gold, answer)
        if len(gold.value) == len(answer.value) == 1:
            if gold.value == answer.value and gold.value[0] not in regions.FLIPPED:
                return all(self.same(a, b) for a, b in zip(gold.args, answer.args, strict=True))
            try:
                return relations.same_inequality(gold, answer)
            except (Undecided, TooCostly):
                return False
        return self.unordered(tuple(relations.links(gold)), tuple(relations.links(answer)))

    def equation(self, gold: Node, answer: Node) -> bool:
        self.rule = "equation"
        if len(gold.args) != 2 or len(answer.args) != 2:
            return self.unordered(tuple(relations.links(gold)), tuple(relations.links(answer)))
        try:
            return relations.same_equation(gold, answer)
        except TooCostly:
            self.too_costly = True
            return False
        except Undecided:
            self.open.append((relations.difference(gold), relations.difference(answer)))
            return False

    def region(self, gold: Node, answer: Node) -> bool:
        """Sets of real numbers; where ends are no numbers, unions part by part."""
        names = [_variables_of(node) for node in (gold, answer)]
        if names[0] and names[1] and names[0] != names[1]:
            return False
        gold, answer = (n.args[1] if n.op == "rel" and n.value == ("in",) else n for n in (gold, answer))
        try:
            return regions.same_region(regions.region(gold), regions.region(answer))
        except (regions.NoRegion, ArithmeticError):
            pass
        if (sampled := regions.same_by_samples(gold, answer)) is not None:
            return sampled
        if gold.op == answer.op == "rel":
            return self.relation(gold, answer)
        if gold.op == answer.op and gold.op in {"union", "inter", "list"}:
            return self.unordered(gold.args, answer.args)
        if gold.op == answer.op == "minus":
            return self.same(gold.args[0], answer.args[0]) and self.same(gold.args[1], answer.args[1])
        if gold.op == answer.op == "paren":
            return self.ordered(gold, answer)
        if gold.op == answer.op == "builder":
            return all(self.same(a, b) for a, b in zip(gold.args, answer.args, strict=True))
        if gold.op == answer.op == "const":
            return bool(gold.value == answer.value)
        return self.symbolic_interval(gold, answer)

    def symbolic_interval(self, gold: Node, answer: Node) -> bool:
        """`a < x < b` against `(a, b)`."""
        for chain, interval in ((gold, answer), (answer, gold)):
            if chain.op == "rel" and len(chain.value) == 2 and interval.op == "paren" and len(interval.args) == 2:
                ops = chain.value if chain.value[0] in {"<", "<="} else tuple(regions.FLIPPED.get(o, o) for o in reversed(chain.value))
                ends = (chain.args[0], chain.args[2]) if chain.value == ops else (chain.args[2], chain.args[0])
                closed = ("[" if ops[0] == "<=" else "(", "]" if ops[1] == "<=" else ")")
                return set(ops) <= {"<", "<="} and interval.value == closed \
                    and all(self.same(a, b) for a, b in zip(ends, interval.args, strict=True))  # fmt: skip
        return False

    def collection(self, gold: Node, answer: Node) -> bool:
        """Tuples in order; lists of solutions and sets in any order."""
        if {gold.op, answer.op} == {"paren", "set"}:
            return False
        for a, b in ((gold, answer), (answer, gold)):
            if a.op == "list" and (value := _decimal_comma(a)) is not None and rational(b) is not None and b.op != "num":
                return rational(b) == value
        gold_items, answer_items = self.items(gold), self.items(answer)
        if len(gold_items) != len(answer_items) and max(len(gold_items), len(answer_items)) <= MAX_REPEATS and "paren" not in {gold.op, answer.op}:
            gold_items, answer_items = self.once(gold_items), self.once(answer_items)
        if max(len(gold_items), len(answer_items)) > MAX_ITEMS:
            return False
        if gold.op == "paren" and answer.op == "paren":
            return self.ordered(gold, answer)
        if gold.op == "paren" or answer.op == "paren":
            if gold.op not in {"paren", "list"} or answer.op not in {"paren", "list"}:
                return len(gold_items) == len(answer_items) == 1 and self.same(gold_items[0], answer_items[0])
            if any(not _ends_match(n) for n in (gold, answer)):
                return False
            self.rule = "tuple"
            return self.pairwise(gold_items, answer_items)
        self.rule = "set" if "set" in {gold.op, answer.op} else "list"
        return self.named_items(gold_items, answer_items)

    def items(self, node: Node) -> tuple[Node, ...]:
        r"""The members of a collection, `\pm` written out, a tuple of names dealt out over a tuple of values."""
        members = node.args if node.op in {"list", "set", "paren"} else (node,)
        found: list[Node] = []
        for member in members:
            name, value = relations.split_label(member)
            if name is not None and name.op == "paren" and value.op == "paren" and len(name.args) == len(value.args) and len(members) == 1:
                found += [Node("rel", pair, ("=",)) for pair in zip(name.args, value.args, strict=True)]
            elif name is not None and value.op in {"list"}:
                found += value.args
            elif any(n.op in {"pm", "mp"} for n in walk(member)):
                found += [part for sign in (1, -1) for part in [_with_sign(member, sign)]]
            else:
                found.append(member)
        return tuple(found if node.op == "paren" else _distinct(found))

    def once(self, items: tuple[Node, ...]) -> tuple[Node, ...]:
        """The items without those that another one equals: `x+1` and `1+x` are one answer."""
        kept: list[Node] = []
        for item in items:
            if not any(self.same(other, item) for other in kept):
                kept.append(item)
        return tuple(kept)

    def named_items(self, gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
        """Lists of which the members may bear names; names on one side only are read in the order written."""
        if len(gold) != len(answer):
            return False
        names = [[relations.split_label(item)[0] for item in items] for items in (gold, answer)]
        distinct = [len(set(n)) == len(n) and None not in n and len({_letter(x) for x in n}) == len(n) for n in names]
        values = [[relations.split_label(item)[1] for item in items] for items in (gold, answer)]
        one_sided = [all(n is None for n in side) for side in names]
        if (distinct[0] and one_sided[1]) or (distinct[1] and one_sided[0]):
            return all(self.same(a, b) for a, b in zip(values[0], values[1], strict=True))
        if self.unordered(gold, answer):
            return True
        shared = [len({n for n in side if n is not None}) <= 1 or len({_letter(n) for n in side}) == 1 for side in names]
        if all(shared) and (one_sided[0] or one_sided[1] or _partial(names)):
            return self.unordered(tuple(values[0]), tuple(values[1]))
        return False

    def ordered(self, gold: Node, answer: Node) -> bool:
        """Two tuples or intervals: brackets count where they can mean open and closed ends."""
        if len(gold.args) != len(answer.args):
            return False
        if len(gold.args) == 2 and _ends(gold) != _ends(answer):
            return False
        self.rule = "interval" if gold.value[0] != gold.value[1] and "[" in gold.value else "tuple"
        return self.pairwise(gold.args, answer.args)

    def pairwise(self, gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
        rule = self.rule
        same = len(gold) == len(answer) and all(self.same(a, b) for a, b in zip(gold, answer, strict=True))
        self.rule = rule
        return same

    def unordered(self, gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
        """Whether the members pair off, each with its equal."""
        if len(gold) != len(answer):
            return False
        rule, left = self.rule, list(answer)
        for item in gold:
            found = next((i for i, other in enumerate(left) if other == item), None)
            if found is None:
                found = next((i for i, other in enumerate(left) if self.same(item, other)), None)
            if found is None:
                self.rule = rule
                return False
            left.pop(found)
        self.rule = rule
        return True

    def matrix(self, gold: Node, answer: Node) -> bool:
        """Matrices entry by entry; a column or row of numbers may be written as a tuple."""
        if gold.op == "rel" or answer.op == "rel":
            (name_g, gold), (name_a, answer) = relations.split_label(gold), relations.split_label(answer)
            if name_g is not None and name_a is not None and name_g != name_a:
                return False
        a, b = (as_matrix(node) or node for node in (gold, answer))
        for matrix, other in ((a, b), (b, a)):
            if matrix.op == "matrix" and other.op in {"paren", "list"} and 1 in {len(matrix.args), len(matrix.args[0].args)}:
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
        (value_g, unit_g), (value_a, unit_a) = _split_unit(gold), _split_unit(answer)
        if unit_g and not unit_a:
            value_a, unit_a = _trailing_unit(value_a)
        elif unit_a and not unit_g:
            value_g, unit_g = _trailing_unit(value_g)
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

    def plus_minus(self, gold: Node, answer: Node) -> bool:
        self.rule = "list"
        members = [self.items(n if n.op in {"list", "set"} else Node("list", (n,), ",")) for n in (gold, answer)]
        return self.named_items(*members)

    def modular(self, gold: Node, answer: Node) -> bool:
        """Residues: equal moduli, and values that differ by a multiple of it."""
        if gold.op == answer.op:
            values = [rational(arg) for node in (gold, answer) for arg in node.args]
            if None in values or not values[1]:
                return all(self.same(a, b) for a, b in zip(gold.args, answer.args, strict=True))
            return values[1] == values[3] and (values[0] - values[2]) % values[1] == 0  # type: ignore[operator]
        return self.same(*(n.args[0] if n.op == "modular" else n for n in (gold, answer)))


def _bare(node: Node) -> Node:
    """Without what only groups; matrices worked out."""
    while node.op == "group" and node.args[0].op not in {"rel"}:
        node = node.args[0]
    return node


def _ends(node: Node) -> tuple[str, str]:
    opening, closing = ("(", ")") if node.value == ("<", ">") else node.value
    return ("(" if opening == "]" else opening, ")" if closing == "[" else closing)


def _ends_match(node: Node) -> bool:
    return node.op != "paren" or node.value in {("(", ")"), ("[", "]"), ("<", ">")}


def _split_unit(node: Node) -> tuple[Node, str]:
    if node.op == "unit":
        inner, unit = _split_unit(node.args[0])
        return inner, f"{unit} {node.value}".strip()
    if node.op == "deg":
        return node.args[0], "degree"
    if node.op == "neg" and node.args[0].op == "unit":
        return Node("neg", (node.args[0].args[0],)), str(node.args[0].value)
    return node, ""


def _trailing_unit(node: Node) -> tuple[Node, str]:
    """A number and the one-letter units that were read as factors, as in `5m`, `0.64N`, `9.8 m/s^2`; else the tree itself."""
    value, unit = node, ""
    while value.op in {"mul", "div"}:
        factor = value.args[1]
        base, power = (factor.args[0], rational(factor.args[1])) if factor.op == "pow" else (factor, Fraction(1))
        if base.op != "sym" or len(base.value) != 1 or power is None or power.denominator != 1:
            break
        unit = f"{'/' if value.op == 'div' else ''} {base.value}^{power} {unit}"
        value = value.args[0]
    return (value, unit) if unit and not symbols(value) else (node, "")


def _like_a_time(node: Node) -> bool:
    numbers = [rational(arg) for arg in node.args]
    return all(n is not None and n.denominator == 1 for n in numbers) and all(
        len(text) == 2 for text in node.value[1:]) and all(0 <= n < 60 for n in numbers if n is not None)  # fmt: skip


def _decimal_comma(node: Node) -> Fraction | None:
    """`1,22` as some countries write 1.22."""
    parts = [rational(arg) for arg in node.args]
    if len(parts) != 2 or any(p is None or p.denominator != 1 for p in parts) or node.value != ",":
        return None
    whole, places = int(parts[0] or 0), int(parts[1] or 0)
    return Fraction(f"{whole}.{places}") if places >= 0 and len(str(places)) != 3 else None


def _with_sign(node: Node, sign: int) -> Node:
    """The tree with every plus-minus read as one sign, minus-plus as the other."""
    if node.op in {"pm", "mp"}:
        first, second = (_with_sign(arg, sign) for arg in node.args)
        positive = (sign > 0) == (node.op == "pm")
        return Node("add", (first, second if positive else Node("neg", (second,))))
    return Node(node.op, tuple(_with_sign(arg, sign) for arg in node.args), node.value) if node.args else node


def _distinct(items: list[Node]) -> list[Node]:
    seen: set[object] = set()
    kept = []
    for item in items:
        key = rational(item)
        key = item if key is None else key  # type: ignore[assignment]
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def _letter(node: Node | None) -> str:
    return str(node.value).partition("_")[0] if node is not None and node.op == "sym" else repr(node)


def _partial(names: list[list[Node | None]]) -> bool:
    """`n = 1, 2, 3`: the name stands in front of the first member only."""
    return any(side[0] is not None and all(n is None for n in side[1:]) for side in names)


def _all_equations(*nodes: Node) -> bool:
    return all(node.op == "rel" and set(node.value) == {"="} for node in nodes)


def _occurs(name: Node, value: Node) -> bool:
    return any(n == name for n in walk(value))


def _rename(node: Node, names: dict[Node, Node]) -> Node:
    if node in names:
        return names[node]
    return Node(node.op, tuple(_rename(arg, names) for arg in node.args), node.value) if node.args else node


def _trivial_index(a: Node, b: Node) -> bool:
    """Names that differ in nothing but braces or case of writing never do; `x_1` is not `x_2`."""
    return a == b


def _variables_of(node: Node) -> frozenset[str]:
    if node.op == "rel" and node.value == ("in",):
        return symbols(node.args[0])
    return symbols(node) if node.op in {"rel"} else frozenset()


def _either(*operations: str):  # type: ignore[no-untyped-def]
    return lambda gold, answer: gold.op in operations or answer.op in operations


def _regions_meet(gold: Node, answer: Node) -> bool:
    if regions.is_region(gold) and regions.is_region(answer):
        return True
    kinds = {"paren", "set", "group", "const"}
    return (regions.is_region(gold) and answer.op in kinds) or (regions.is_region(answer) and gold.op in kinds)


_KINDS = (
    ("cases", _either("cases"), Comparison.cases),
    ("list", lambda g, a: any(n.op in {"pm", "mp"} for node in (g, a) for n in walk(node)), Comparison.plus_minus),
    ("matrix", lambda g, a: any(as_matrix(n) is not None for n in (g, a)), Comparison.matrix),
    ("interval", _regions_meet, Comparison.region),
    ("list", lambda g, a: (g.op in {"list", "set"} or a.op in {"list", "set"}), Comparison.collection),
    ("equation", _either("rel"), Comparison.labelled),
    ("tuple", _either("paren"), Comparison.collection),
    ("unit", lambda g, a: g.op == "unit" or a.op == "unit" or {_split_unit(g)[1], _split_unit(a)[1]} == {"unit"}, Comparison.quantity),
    ("base", _either("based"), Comparison.based),
    ("ratio", _either("ratio"), Comparison.ratio),
    ("modular", _either("modular"), Comparison.modular),
)  # fmt: skip
"""Kinds of answers in the order in which they are recognised."""
