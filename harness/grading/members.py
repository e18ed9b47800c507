"""Lists, sets and tuples: which members pair off, and whether their order counts."""

from __future__ import annotations

from itertools import product

from harness.grading import relations
from harness.grading.exact import rational
from harness.grading.expression import Node, walk

MAX_ITEMS = 150
"""Members of a list that are paired off."""
MAX_REPEATS = 12
"""Members of a list in which equal ones are looked for."""


class Members:
    """Comparison of collections, as part of `Comparison`."""

    rule: str

    def same(self, gold: Node, answer: Node) -> bool:
        raise NotImplementedError

    def collection(self, gold: Node, answer: Node) -> bool:
        """Tuples in order; lists of solutions and sets in any order."""
        if {gold.op, answer.op} == {"paren", "set"}:
            members, pair = (gold, answer) if gold.op == "set" else (answer, gold)
            return len(members.args) == 1 and members.args[0].op == "paren" and self.same(members.args[0], pair)
        parameters = [{m for m in node.args if _integer_condition(m)} for node in (gold, answer)]
        if parameters[0] and parameters[1] and parameters[0] != parameters[1]:
            return False
        if (named := self.dealt_out(gold, answer)) is not None:
            return named
        gold_items, answer_items = self.items(gold), self.items(answer)
        if (
            len(gold_items) != len(answer_items)
            and max(len(gold_items), len(answer_items)) <= MAX_REPEATS
            and "paren" not in {gold.op, answer.op}
        ):
            gold_items, answer_items = self.once(gold_items), self.once(answer_items)
        if gold.op == answer.op == "list" and len(gold.args) == len(answer.args) and _repeats(gold, answer):
            gold_items, answer_items = gold.args, answer.args
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

    def dealt_out(self, gold: Node, answer: Node) -> bool | None:
        """`-2,-2` for `a=-2,b=-2`: values in the order of the other side's names; None unless one side has names."""
        if not (gold.op == answer.op == "list") or len(gold.args) != len(answer.args):
            return None
        labels = [[relations.split_label(item) for item in node.args] for node in (gold, answer)]
        names = [[name for name, _ in side] for side in labels]
        for named, bare in ((0, 1), (1, 0)):
            if set(names[bare]) == {None} and None not in names[named] and len(set(names[named])) == len(gold.args):
                if len({_letter(name) for name in names[named]}) == 1:
                    return None  # `x_1=1, x_2=2` in any order
                return all(self.same(g[1], a[1]) for g, a in zip(labels[0], labels[1], strict=True))
        return None

    def items(self, node: Node) -> tuple[Node, ...]:
        r"""The members of a collection, `\pm` written out, a tuple of names dealt out over a tuple of values."""
        if node.op == "rel" and node.value == ("in",) and node.args[1].op == "set":
            return tuple(Node("rel", (node.args[0], member), ("=",)) for member in node.args[1].args)
        if node.op == "rel" and relations.split_label(node)[1].op == "set":
            node = relations.split_label(node)[1]
        members = node.args if node.op in {"list", "set", "paren"} else (node,)
        if node.op == "list":
            members = tuple(m for m in members if not _integer_condition(m)) or members
        found: list[Node] = []
        for member in members:
            name, value = relations.split_label(member)
            if (
                name is not None
                and name.op == "paren"
                and value.op == "paren"
                and len(name.args) == len(value.args)
                and len(members) == 1
            ):
                found += [Node("rel", pair, ("=",)) for pair in zip(name.args, value.args, strict=True)]
            elif name is not None and value.op in {"list"}:
                found += value.args
            elif any(n.op in {"pm", "mp"} for n in walk(member)):
                found += [_with_sign(member, sign) for sign in (1, -1)]
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
        if _partial(names) and _contradict(names):
            return False
        if self.unordered(gold, answer):
            return True
        shared = [
            len({n for n in side if n is not None}) <= 1 or len({_letter(n) for n in side}) == 1 for side in names
        ]
        letters = [{_letter(n) for n in side} for side in names]
        subscripted = [any("_" in str(n.value) for n in side if n is not None) for side in names]
        if letters[0] == letters[1] and len(letters[0]) == 1 and subscripted[0] != subscripted[1]:
            return self.unordered(tuple(values[0]), tuple(values[1]))  # `x_1=1, x_2=2` and `x=1, x=2`
        if all(shared) and (one_sided[0] != one_sided[1] or _partial(names)):
            return self.unordered(tuple(values[0]), tuple(values[1]))
        return False

    def ordered(self, gold: Node, answer: Node) -> bool:
        """Two tuples or intervals: brackets count where they can mean open and closed ends."""
        if len(gold.args) != len(answer.args):
            return False
        ends = _ends(gold), _ends(answer)
        if ends[0] != ends[1] and (len(gold.args) == 2 or not all(_ends_match(n) for n in (gold, answer))):
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

    def plus_minus(self, gold: Node, answer: Node) -> bool:
        for free in (False, True):
            self.rule = "list"
            lists = [_signs_apart(n) if free else n for n in (gold, answer)]
            if free and lists == [gold, answer]:
                return False
            # `[-2, 2]`, as programs print what solves an equation, unless it stands beside another pair
            if "paren" not in {lists[0].op} & {lists[1].op}:
                lists = [Node("list", n.args, ",") if n.op == "paren" and n.value == ("[", "]") else n for n in lists]
            members = [self.items(n if n.op in {"list", "set"} else Node("list", (n,), ",")) for n in lists]
            if self.named_items(*members):
                return True
        return False


def _ends(node: Node) -> tuple[str, str]:
    opening, closing = ("(", ")") if node.value == ("<", ">") else node.value
    return ("(" if opening == "]" else opening, ")" if closing == "[" else closing)


def _ends_match(node: Node) -> bool:
    return node.op != "paren" or node.value in {("(", ")"), ("[", "]"), ("<", ">")}


def _integer_condition(node: Node) -> bool:
    """`k \\in \\mathbb{Z}` behind an answer says what the parameter is and is no answer itself."""
    return (
        node.op == "rel"
        and node.value == ("in",)
        and node.args[1].op == "const"
        and node.args[1].value in {"bbZ", "bbN", "bbZ+"}
    )


def _with_sign(node: Node, sign: int) -> Node:
    """The tree with every plus-minus read as one sign, minus-plus as the other."""
    if node.op in {"pm", "mp"}:
        first, second = (_with_sign(arg, sign) for arg in node.args)
        positive = (sign > 0) == (node.op == "pm")
        return Node("add", (first, second if positive else Node("neg", (second,))))
    return Node(node.op, tuple(_with_sign(arg, sign) for arg in node.args), node.value) if node.args else node


def _signs_apart(node: Node) -> Node:
    r"""The tree with `(\pm a, \pm b)` as the four points it may stand for."""
    if node.op in {"list", "set"}:
        points = [_signs_apart(arg) for arg in node.args]
        return Node(node.op, tuple(p for n in points for p in (n.args if n.op == "list" else (n,))), node.value)
    signed = [arg for arg in node.args if arg.op == "pm"] if node.op == "paren" else []
    if not 2 <= len(signed) <= 4 or any(n.op == "mp" for n in walk(node)):
        return node
    choices = [[_with_sign(arg, s) for s in (1, -1)] if arg.op == "pm" else [arg] for arg in node.args]
    return Node("list", tuple(Node("paren", args, node.value) for args in product(*choices)), ",")


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


def _repeats(*nodes: Node) -> bool:
    """Whether a list holds a number twice."""
    values = [[rational(arg) for arg in node.args] for node in nodes]
    return any(None not in side and len(set(side)) < len(side) for side in values)


def _contradict(names: list[list[Node | None]]) -> bool:
    """Whether both sides bear a name and not the same."""
    first, second = ({name for name in side if name is not None} for side in names)
    if any(all(n.op == "sym" and "_" not in n.value for n in side) for side in (first, second)):
        return bool(first and second) and {_letter(name) for name in first} != {_letter(name) for name in second}
    return bool(first and second) and first != second


def _partial(names: list[list[Node | None]]) -> bool:
    """`n = 1, 2, 3`: the name stands in front of the first member only."""
    return any(side[0] is not None and all(n is None for n in side[1:]) for side in names)
