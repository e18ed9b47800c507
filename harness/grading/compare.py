"""Compare two answer trees by their kind: values, lists, tuples, sets, intervals, relations, matrices, quantities."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.grading import regions, relations
from harness.grading.exact import rational
from harness.grading.expression import Node, TooCostly, replaced, walk
from harness.grading.matrices import as_matrix
from harness.grading.numeric import grant, real_value, spend, symbols
from harness.grading.quantities import Quantities, split_unit
from harness.grading.values import Undecided, same_value

STEP = 10
"""Operations that one step of a comparison counts for, beside the values it takes."""


@dataclass
class Comparison(Quantities):
    """One comparison, with its own budget of operations, and which rule decided."""

    rule: str = "numeric"
    open: list[tuple[Node, Node]] = field(default_factory=list)
    """Pairs that only computer algebra could decide."""
    too_costly: bool = False
    """Whether a value had more digits than an answer is worth, so that nothing was decided."""

    def __post_init__(self) -> None:
        grant()

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether two answers mean the same. Raises TimeoutError beyond the budget of operations."""
        spend(STEP)
        gold, answer = _bare(gold), _bare(answer)
        gold, answer = _point(gold, answer), _point(answer, gold)
        for kind, applies, decide in _KINDS:
            if applies(gold, answer):
                self.rule = kind
                same = gold == answer or decide(self, gold, answer)
                if kind not in _REFINED:
                    self.rule = kind
                return same
        return self.value(gold, answer)

    def value(self, gold: Node, answer: Node) -> bool:
        """Two expressions, with or without percent signs and degree signs."""
        self.rule = "numeric" if not (symbols(gold) or symbols(answer)) else "symbolic"
        for a, b in ((gold, answer), (answer, gold)):
            if a.op == "pct" and b.op != "pct":
                return self.plain_value(a.args[0], b) or self.plain_value(a, b)
            if a.op == "deg" and b.op != "deg":
                has_pi = any(n.value == "pi" or str(n.value).startswith("arc") for n in walk(b))
                return self.plain_value(a if has_pi else a.args[0], b)
        return self.plain_value(gold, answer)

    def plain_value(self, gold: Node, answer: Node) -> bool:
        answer = replaced(answer, _integer_parameter(gold, answer))
        try:
            return same_value(gold, answer)
        except Undecided:
            self.open.append((gold, answer))
        except TooCostly:
            self.too_costly = True
        return False

    def labelled(self, gold: Node, answer: Node) -> bool:
        """Answers with a name in front: the name may be missing on one side, two names must agree."""
        (name_g, value_g), (name_a, value_a) = relations.split_label(gold), relations.split_label(answer)
        if name_g is not None and name_a is not None and name_g != name_a:
            if (
                {name_g.op, name_a.op} == {"call", "sym"}
                and not _occurs(name_g, value_a)
                and not _occurs(name_a, value_g)
            ):
                return self.same(value_g, value_a)
            if (
                name_g.op == name_a.op == "call"
                and name_g.value == name_a.value
                and len(name_g.args) == len(name_a.args)
            ):
                return self.same_function(name_g, value_g, name_a, value_a)
            if _all_equations(gold, answer):
                return self.equation(gold, answer)
            return False
        if (
            {value_g.op, value_a.op} & {"list", "set", "paren"}
            and name_g != name_a
            and "rel" not in {value_g.op, value_a.op}
        ):
            return self.same(value_g, value_a)
        if self.differ_in_working(gold, answer):
            return False
        if rational(gold) and _all_equations(answer) and relations.is_asked_sum(answer.args[0]):
            return self.same(gold, answer.args[-1])  # `m+n=13` for `13`
        if (gold, answer) == (value_g, value_a):
            return self.relation(gold, answer)
        if gold.op != "rel" and _is_chain(answer):
            return self.same(gold, answer.args[-1])
        if (value_g.op == "rel") != (value_a.op == "rel") and not (
            regions.is_region(value_g) or regions.is_region(value_a)
        ):
            return _all_equations(gold, answer) and self.equation(gold, answer)
        if name_g is None and name_a is not None and value_g.op == "rel" and _all_equations(gold, answer):
            return self.equation(gold, answer)
        if self.same(value_g, value_a):
            return True
        return (
            name_g is not None
            and name_g == name_a
            and _all_equations(gold, answer)
            and len(symbols(gold)) > 1
            and self.equation(gold, answer)
        )

    def same_function(self, name_g: Node, value_g: Node, name_a: Node, value_a: Node) -> bool:
        """`f(x) = x+1` and `f(t) = t+1`: another letter for the variable, if the rule has it in the same places."""
        variables = [*name_g.args, *name_a.args]
        if not all(v.op == "sym" and str(v.value)[0].islower() for v in variables):
            return False
        renamed = {a: g for a, g in zip(name_a.args, name_g.args, strict=True) if a != g}
        if any(_occurs(target, value_a) for target in renamed.values() if target not in name_a.args):
            return False
        return self.same(value_g, replaced(value_a, renamed))

    def differ_in_working(self, gold: Node, answer: Node) -> bool:
        """Whether two chains of as many sides differ in a side: `x = 3+4 = 7` and `x = 3+5 = 7`."""
        if not (gold.op == answer.op == "rel") or gold.value != answer.value or not set(gold.value) <= {"=", "approx"}:
            return False
        pairs = list(zip(gold.args, answer.args, ("=", *gold.value), strict=True))
        named = any(relations.is_label(node.args[0]) for node in (gold, answer))
        if len(pairs) == 2 and (named or symbols(gold.args[0]) or symbols(answer.args[0])):
            return False  # a name and its value, or an equation
        if named:  # what leads from a name to its value is compared where it holds names, and must lead there
            return any(not self.same(g, a) for g, a, _ in pairs[1:] if symbols(g) and symbols(a)) or (
                not self.leads_to_value(answer) and self.leads_to_value(gold)
            )
        rounded = "approx" in gold.value
        return any(
            not (self.nearly_same(g, a) if operator == "approx" else self.same(g, a))
            for g, a, operator in pairs
            if bool(symbols(g)) == bool(symbols(a)) and not (rounded and operator != "approx" and g is not gold.args[0])
        )

    def leads_to_value(self, chain: Node) -> bool:
        """Whether the steps of a chain that are irrational numbers are its last value, to a hundredth.

        Slips in plain arithmetic (`z=3+3=2`) are passed over, as tests of published graders want it.
        """
        steps = [side for side in chain.args[1:-1] if not symbols(side) and rational(side) is None]
        return all(self.nearly_same(chain.args[-1], step) for step in steps)

    def nearly_same(self, gold: Node, answer: Node) -> bool:
        """Whether two roundings of one value are within a hundredth of it; what has no value is compared strictly."""
        try:
            first, second = (real_value(split_unit(_bare(node))[0]) for node in (gold, answer))
        except (ArithmeticError, ValueError):
            return self.same(gold, answer)
        return bool(abs(first - second) <= abs(first) / 100)

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
        if all(n.op == "rel" and n.value == ("in",) for n in (gold, answer)) and gold.args[0] != answer.args[0]:
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
                ops = (
                    chain.value
                    if chain.value[0] in {"<", "<="}
                    else tuple(regions.FLIPPED.get(o, o) for o in reversed(chain.value))
                )
                ends = (chain.args[0], chain.args[2]) if chain.value == ops else (chain.args[2], chain.args[0])
                closed = ("[" if ops[0] == "<=" else "(", "]" if ops[1] == "<=" else ")")
                return (
                    set(ops) <= {"<", "<="}
                    and interval.value == closed
                    and all(self.same(a, b) for a, b in zip(ends, interval.args, strict=True))
                )
        return False


def _bare(node: Node) -> Node:
    """Without what only groups; matrices worked out."""
    while node.op == "group" and node.args[0].op not in {"rel"}:
        node = node.args[0]
    return node


def _point(node: Node, other: Node) -> Node:
    """The coordinates of a named point such as `P(1,2)`, where the other side has no name."""
    named = node.op == "call" and len(node.args) > 1 and str(node.value)[:1].isupper()
    return Node("paren", node.args, ("(", ")")) if named and other.op == "paren" else node


def _all_equations(*nodes: Node) -> bool:
    return all(node.op == "rel" and set(node.value) == {"="} for node in nodes)


def _is_chain(node: Node) -> bool:
    """Whether an answer is worked out step by step to a value: `a+b=8+12=20`."""
    return _all_equations(node) and len(node.args) > 2 and not symbols(node.args[-1])


def _occurs(name: Node, value: Node) -> bool:
    return any(n == name for n in walk(value))


def _integer_parameter(gold: Node, answer: Node) -> dict[Node, Node]:
    """The renaming between `\\frac{\\pi}{2}+k\\pi` and the same with n."""
    names = symbols(gold), symbols(answer)
    if names[0] != names[1] and all(len(n) == 1 and n <= {"k", "n", "m"} for n in names):
        with_pi = [any(m.value == "pi" for m in walk(node)) for node in (gold, answer)]
        if all(with_pi):
            return {Node("sym", (), *names[1]): Node("sym", (), *names[0])}
    return {}


def _variables_of(node: Node) -> frozenset[str]:
    if node.op == "rel" and node.value == ("in",):
        return symbols(node.args[0])
    if node.op == "list":
        return frozenset().union(*(_variables_of(arg) for arg in node.args))
    return symbols(node) if node.op == "rel" else frozenset()


def _either(*operations: str):
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
    ("list", lambda g, a: g.op in {"list", "set"} or a.op in {"list", "set"}, Comparison.collection),
    ("equation", _either("rel"), Comparison.labelled),
    ("tuple", _either("paren"), Comparison.collection),
    (
        "unit",
        lambda g, a: (
            any(n.op == "unit" or (n.op == "neg" and n.args[0].op == "unit") for n in (g, a))
            or {split_unit(g)[1], split_unit(a)[1]} == {"unit"}
        ),
        Comparison.quantity,
    ),
    ("base", _either("based"), Comparison.based),
    ("ratio", _either("ratio"), Comparison.ratio),
    ("modular", _either("modular"), Comparison.modular),
)
"""Kinds of answers in the order in which they are recognised."""
_REFINED = {"list", "tuple", "equation"}
"""Kinds whose comparison names the rule itself."""
