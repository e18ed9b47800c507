"""The innermost level of the answer grammar: numbers, symbols, commands, brackets and matrices."""

from __future__ import annotations

import re
from fractions import Fraction

from harness.grading.expression import MAX_DEPTH, Node, ParseError
from harness.grading.lexer import FUNCTIONS, Token

CONSTANTS = {"pi": "pi", "infty": "inf", "emptyset": "empty", "ldots": "ldots"}
_CALLED = set("fghFGH") | {"phi", "psi", "Phi"}
_CALLED_ALONE = set("PQpqRSTAVCNyuvBDLMW")
_FUNCTION_NAMES = set(FUNCTIONS.values()) - {"log", "ln", "lg"}
_MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "vmatrix", "Vmatrix", "psmallmatrix"}
_LISTS = {
    "cases",
    "aligned",
    "align",
    "align*",
    "gathered",
    "gather",
    "gather*",
    "split",
    "dcases",
    "rcases",
    "equation",
    "equation*",
}
_CLOSERS = {"(": {")", "]"}, "[": {")", "]", "["}, "]": {"[", "]"}}


class Primaries:
    """A cursor over tokens and the productions that need no precedence."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.inside_abs = 0
        self.inside_set = 0
        self.open_groups = 0

    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def peek(self, ahead: int = 1) -> Token:
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def advance(self) -> Token:
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def expect(self, text: str) -> None:
        if self.current.text != text:
            raise ParseError(f"expected {text!r}, found {self.current.text!r}")
        self.advance()

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError("nested too deeply")

    def leave(self) -> None:
        self.depth -= 1

    # The levels above, defined by the parser.
    def answer(self) -> Node: ...  # type: ignore[empty-body]
    def item(self) -> Node: ...  # type: ignore[empty-body]
    def sum(self) -> Node: ...  # type: ignore[empty-body]
    def term(self) -> Node: ...  # type: ignore[empty-body]
    def power(self) -> Node: ...  # type: ignore[empty-body]
    def signed(self) -> Node: ...  # type: ignore[empty-body]
    def exponent(self) -> Node: ...  # type: ignore[empty-body]
    def set_expression(self) -> Node: ...  # type: ignore[empty-body]

    def postfix(self) -> Node:
        node = self.primary()
        while True:
            text, kind = self.current.text, self.current.kind
            if text == "!" and kind == "symbol":
                self.advance()
                double = self.current.text == "!"
                if double:
                    self.advance()
                node = Node("fact2" if double else "fact", (node,))
            elif (text == "%" and kind == "symbol") or (kind == "word" and text.lower() in {"percent", "pct"}):
                self.advance()
                node = Node("pct", (node,))
            elif text == "deg" and kind == "command":
                self.advance()
                node = self.degrees(node)
            elif text == "\\$" or (text in {"euro", "pounds", "yen"} and kind == "command"):
                self.advance()
                node = Node("unit", (node,), _currency(text))
            else:
                return node

    def degrees(self, node: Node) -> Node:
        """Degrees, with minutes and seconds of arc where they follow; a scale such as C behind the sign is a unit."""
        if self.current.kind in {"name", "word"} and self.current.text in {"C", "F"}:
            return Node("unit", (node,), {"C": "celsius", "F": "fahrenheit"}[self.advance().text])
        if self.current.kind == "number" and self.peek().text == "'":
            minutes = self.primary()
            self.advance()
            node = Node("add", (node, Node("div", (minutes, Node("num", (), Fraction(60))))))
        return Node("deg", (node,))

    def primary(self) -> Node:
        token = self.current
        if token.kind == "number":
            return self.number()
        if token.kind == "name":
            return self.symbol()
        if token.kind == "command":
            return self.command()
        if token.kind == "begin":
            return self.environment()
        if token.kind == "symbol":
            if token.text == "{":
                return self.group()
            if token.text in {"(", "["} or (token.text == "]" and self.reversed_interval()):
                return self.bracket()
            if token.text == "\\{":
                return self.braces()
            if token.text == "|":
                return self.absolute()
            if token.text == "\\$":
                self.advance()
                return Node("unit", (self.signed(),), "$")
        raise ParseError(f"unexpected {token.text!r}")

    def number(self) -> Node:
        text = self.advance().text
        if self.current.text == "_" and re.fullmatch(r"\d+", text):
            self.advance()
            return Node("based", (), (text, self.subscript()))
        return number(text)

    def symbol(self) -> Node:
        name = self.advance().text
        if name.startswith("bb"):
            return Node("const", (), name)
        name += self.decoration()
        if name in _CALLED and [self.peek(i).text for i in range(6)] == ["^", "{", "-", "1", "}", "("]:
            self.position += 5
            name += "^{-1}"
        if self.current.text == "(" and self.is_call(name):
            self.advance()
            self.open_groups += 1
            arguments = self.answer()
            self.open_groups -= 1
            self.expect(")")
            return Node("call", arguments.args if arguments.op == "list" else (arguments,), name)
        if name in {"e", "i"}:
            return Node("const", (), name)
        return Node("sym", (), name)

    def decoration(self) -> str:
        """The subscript and primes of a symbol, as part of its name."""
        name = ""
        while True:
            if self.current.text == "_":
                self.advance()
                name += "_" + self.subscript()
            elif self.current.text == "'":
                name += self.advance().text
            else:
                return name

    def subscript(self) -> str:
        if self.current.text != "{":
            return self.advance().text
        self.advance()
        parts, level = [], 1
        while self.current.kind != "stop":
            level += (self.current.text == "{") - (self.current.text == "}")
            if level == 0:
                break
            parts.append(self.advance().text)
        self.expect("}")
        return "".join(parts)

    def is_call(self, name: str) -> bool:
        """Whether `name(` opens the argument of a function rather than a factor."""
        plain = name.rstrip("'").partition("_")[0]
        if plain in _CALLED or name.endswith(("^{-1}", "'")):
            return True
        level, commas, end = 0, 0, self.position
        for end in range(self.position, len(self.tokens)):
            text = self.tokens[end].text
            level += (text in {"(", "[", "\\{"}) - (text in {")", "]", "\\}"})
            commas += text == "," and level == 1
            if level == 0:
                break
        if commas:
            return True
        following = self.tokens[min(end + 1, len(self.tokens) - 1)]
        return (
            plain in _CALLED_ALONE
            and end == self.position + 2
            and (following.kind == "stop" or following.text in {"=", "<", ">"})
            and self.position == 1
        )

    def group(self) -> Node:
        """Braces that only group; a list inside stays a list."""
        self.expect("{")
        self.enter()
        self.open_groups += 1
        node = self.answer()
        self.open_groups -= 1
        self.leave()
        self.expect("}")
        return node

    def argument(self) -> Node:
        """The argument of a command: a group, or one token, of a number its first digit."""
        if self.current.text == "{":
            return self.group()
        if self.current.kind == "number" and len(self.current.text) > 1 and self.current.text.isdigit():
            text = self.current.text
            self.tokens[self.position] = Token("number", text[1:])
            return number(text[0])
        return self.primary()

    def bracket(self) -> Node:
        """Parentheses around one value group it; around several they make a tuple or an interval."""
        opening = self.advance().text
        self.enter()
        inside_set, self.inside_set = self.inside_set, 0
        inside_abs, self.inside_abs = self.inside_abs, 0
        self.open_groups += 1
        node = self.answer() if self.current.text not in {")", "]"} else Node("list", ())
        self.open_groups -= 1
        self.inside_set, self.inside_abs = inside_set, inside_abs
        self.leave()
        if self.current.text not in _CLOSERS[opening]:
            raise ParseError(f"unmatched {opening!r}")
        closing = self.advance().text
        if node.op == "list":
            return Node("paren", node.args, (opening, closing))
        if node.op == "num" and self.current.text == "_" and node.value.denominator == 1 and node.value >= 0:
            self.advance()
            return Node("based", (), (str(node.value), self.subscript()))
        if node.op == "matrix" or (opening == "(" and closing == ")"):
            return node
        if opening == "[" and closing == "]":
            return Node("group", (node,))
        raise ParseError("half-open bracket around one value")

    def bracket_is_product(self) -> bool:
        level = 0
        for token in self.tokens[self.position :]:
            level += (token.text in {"(", "["}) - (token.text in {")", "]"})
            if token.text == "," and level == 1:
                return False
            if level == 0:
                return token.text == "]"
        return False

    def reversed_interval(self) -> bool:
        return self.position == 0 or self.tokens[self.position - 1].text in {"cup", "cap", "in", ",", "="}

    def braces(self) -> Node:
        """A set in braces: a list of members, or a condition behind a bar or colon."""
        self.expect("\\{")
        if self.current.kind == "begin" and self.current.text in {"array", "aligned", "matrix"}:
            return self.open_brace()
        self.enter()
        self.inside_set += 1
        node = self.answer() if self.current.text != "\\}" else Node("list", ())
        if self.current.text in {"|", ":"}:
            self.advance()
            self.inside_set -= 1
            condition = self.answer()
            self.inside_set += 1
            node = Node("builder", (node, condition))
        else:
            node = Node("set", node.args if node.op == "list" else (node,))
        self.inside_set -= 1
        self.leave()
        self.expect("\\}")
        return node

    def open_brace(self) -> Node:
        """A left brace before rows: cases or a system, unless a right brace makes it a set."""
        node = self.environment()
        if self.current.text == "\\}":
            self.advance()
            return Node("set", node.args if node.op == "list" else (node,))
        if node.op != "matrix":
            return node
        if len(node.args[0].args) > 1:
            return Node("cases", node.args)
        return Node("list", tuple(row.args[0] for row in node.args), ",")

    def absolute(self) -> Node:
        self.expect("|")
        self.enter()
        self.inside_abs += 1
        node = self.sum()
        self.inside_abs -= 1
        self.leave()
        self.expect("|")
        return Node("abs", (node,))

    def command(self) -> Node:
        from harness.grading.macros import read_command

        self.enter()
        node = read_command(self)
        self.leave()
        return node

    def environment(self) -> Node:
        """A matrix, or a system of relations."""
        name = self.advance().text
        self.enter()
        rows: list[list[Node]] = [[]]
        while self.current.kind != "end":
            if self.current.kind == "stop":
                raise ParseError("environment without an end")
            if self.current.text == "\\\\":
                self.advance()
                rows.append([])
            elif self.current.text == "&":
                self.advance()
            else:
                inside_abs, self.inside_abs = self.inside_abs, 0
                rows[-1].append(self.answer())
                self.inside_abs = inside_abs
        self.advance()
        self.leave()
        rows = [row for row in rows if row]
        if name in _LISTS:
            if name in {"cases", "dcases"} and any(len(row) > 1 for row in rows):
                return Node("cases", tuple(Node("list", tuple(row), ",") for row in rows))
            items = [item for row in rows for cell in row for item in (cell.args if cell.op == "list" else (cell,))]
            return items[0] if len(items) == 1 else Node("list", tuple(items), ",")
        if name not in _MATRICES or not rows or len({len(row) for row in rows}) != 1 or len(rows) * len(rows[0]) > 100:
            raise ParseError(f"cannot read {name}")
        matrix = Node("matrix", tuple(Node("list", tuple(row), ",") for row in rows))
        return Node("det", (matrix,)) if name == "vmatrix" else matrix


def number(text: str) -> Node:
    """An exact number: `num` for an integer, `dec` for a decimal with the count of its significant digits."""
    if repeating := re.fullmatch(r"(\d*)\.(\d*)\((\d+)\)", text):
        whole, fixed, period = repeating[1] or "0", repeating[2], repeating[3]
        size = 10 ** len(fixed)
        value = Fraction(int(whole + fixed or "0"), size) + Fraction(int(period), size * (10 ** len(period) - 1))
        return Node("num", (), value)
    mantissa, _, exponent = text.partition("e")
    if "." not in mantissa and not exponent:
        return Node("num", (), Fraction(int(mantissa)))
    whole, _, places = mantissa.partition(".")
    value = Fraction(int((whole + places) or "0"), 10 ** len(places))
    if exponent:
        if abs(int(exponent)) > 3000:
            raise ParseError("exponent too large")
        value *= Fraction(10) ** int(exponent)
    digits = len((whole + places).lstrip("0"))
    return Node("dec", (), (value, digits)) if places.strip("0") or exponent else Node("num", (), value)


def _currency(sign: str) -> str:
    return {"\\$": "$", "euro": "€", "pounds": "£", "yen": "¥"}[sign]
