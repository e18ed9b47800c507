"""Read the normal form of an answer as a tree: a precedence parser, so that no string is ever evaluated."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from harness.grading.expression import MAX_DEPTH, Node, ParseError
from harness.grading.lexer import Token, tokenize
from harness.grading.normalize import MAX_LENGTH
from harness.grading.primary import Primaries
from harness.grading.units import conversion

RELATIONS = {
    "=": "=",
    "!=": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "ne": "!=",
    "le": "<=",
    "ge": ">=",
    "in": "in",
    "notin": "notin",
    "approx": "approx",
    "equiv": "equiv",
    "sim": "approx",
    "subset": "subset",
    "subseteq": "subset",
    "parallel": "parallel",
    "perp": "perp",
    "ll": "<<",
    "gg": ">>",
    "to": "to",
}
_SEPARATORS = {",", ";", "and", "or", "wedge", "vee"}
_SET_OPERATIONS = {"cup": "union", "cap": "inter", "setminus": "minus"}


@lru_cache(maxsize=16384)
def parse(text: str) -> Node:
    """The tree of an answer in normal form. Raises ParseError for prose and for what exceeds the limits."""
    if len(text) > MAX_LENGTH:
        raise ParseError("too long")
    if numeral := re.fullmatch(r"\(?(\d[0-9A-F]*[A-F][0-9A-F]*)\)?_\{?(\d+)\}?", text):
        return Node("based", (), (numeral[1], numeral[2]))
    if "\\implies" in text:
        text = text.rsplit("\\implies", 1)[1]
    parser = Parser(tokenize(text))
    node = parser.answer()
    if parser.current.kind != "stop":
        raise ParseError(f"unexpected {parser.current.text!r}")
    return node


class Parser(Primaries):
    """Levels of precedence from the list of answers down to the power; brackets and commands are in `Primaries`."""

    def answer(self) -> Node:
        """Items separated by commas, semicolons, "and" or "or"."""
        while self.current.kind == "word" and self.current.text.lower() in _OPENING_WORDS:
            self.advance()
        items = [self.item()]
        separators = set()
        while self.current.text in _SEPARATORS and self.current.kind in {"symbol", "command"}:
            while self.current.text in _SEPARATORS and self.current.kind in {"symbol", "command"}:
                separators.add(self.current.text)
                self.advance()
            if self.current.kind == "stop" or self.current.text in {")", "]", "}", "\\}", "&", "\\\\"}:
                break
            items.append(self.item())
        if len(items) == 1:
            return items[0]
        if items[0].op == "rel" and items[0].value == ("!=",) and all(item.op != "rel" for item in items[1:]):
            items[1:] = [Node("rel", (items[0].args[0], item), ("!=",)) for item in items[1:]]
        return Node("list", tuple(items), "or" if separators <= {"or", "vee"} else ";" if ";" in separators else ",")

    def item(self) -> Node:
        """A relation, or a value with its unit."""
        self.enter()
        first = self.ratio()
        operators: list[str] = []
        sides = [first]
        while (operator := self.relation_operator()) is not None:
            operators.append(operator)
            sides.append(self.ratio())
        self.leave()
        return Node("rel", tuple(sides), tuple(operators)) if operators else first

    def relation_operator(self) -> str | None:
        token = self.current
        if token.text == "not" and self.peek().text in {"=", "in"}:
            self.advance()
            self.advance()
            return "!=" if self.tokens[self.position - 1].text == "=" else "notin"
        if token.kind in {"symbol", "command"} and token.text in RELATIONS:
            self.advance()
            return RELATIONS[token.text]
        return None

    def ratio(self) -> Node:
        """`a:b:c`, a ratio or a time of day."""
        parts = [self.quantity()]
        spellings = [self.tokens[self.position - 1].text]
        while self.current.text == ":" and not self.inside_set:
            self.advance()
            parts.append(self.quantity())
            spellings.append(self.tokens[self.position - 1].text)
        if len(parts) == 1:
            return parts[0]
        return Node("ratio", tuple(parts), tuple(spellings))

    def quantity(self) -> Node:
        """A value and the unit behind it."""
        value = self.set_expression()
        phrase: list[str] = []
        while self.current.kind == "word" or (phrase and self.unit_continues()):
            phrase.append(self.current.text)
            self.advance()
        if not phrase and self.current.text == "pmod":
            self.advance()
            return Node("modular", (value, self.argument()))
        if not phrase:
            return value
        unit = re.sub(r"\s*\^\s*", "^", " ".join(phrase)).strip()
        if self.current.kind == "number" and self.peek().kind == "word":
            rest = self.quantity()
            factor = conversion(unit, str(rest.value)) if rest.op == "unit" else None
            if factor is None:
                raise ParseError("two quantities side by side")
            value = Node("add", (value, Node("mul", (Node("num", (), factor), rest.args[0]))))
        return Node("unit", (value,), unit)

    def unit_continues(self) -> bool:
        token = self.current
        return (
            token.kind in {"word", "name"}
            or (token.kind == "number" and self.tokens[self.position - 1].text in {"^", "{", "-"})
            or token.text in {"^", "/", "{", "*"}
            or (token.text == "}" and self.open_groups == 0)
            or (token.text == "-" and self.tokens[self.position - 1].text in {"^", "{"})
        )

    def set_expression(self) -> Node:
        node = self.sum()
        while self.current.kind == "command" and self.current.text in _SET_OPERATIONS:
            operation = _SET_OPERATIONS[self.current.text]
            self.advance()
            other = self.sum()
            node = Node(operation, (*node.args, other) if node.op == operation != "minus" else (node, other))
        return node

    def sum(self) -> Node:
        self.enter()
        node = self.term()
        while self.current.text in {"+", "-", "pm", "mp"} and self.current.kind in {"symbol", "command"}:
            operator = self.current.text
            self.advance()
            if operator == "+" and self.current.text in {"ldots"}:
                raise ParseError("ellipsis in a sum")
            other = self.term()
            if operator in {"pm", "mp"}:
                node = Node(operator, (node, other))
            else:
                if operator == "-" and (other.op == "set" or str(node.value).startswith("bb")):
                    node = Node("minus", (node, other))
                    continue
                other = Node("neg", (other,)) if operator == "-" else other
                node = Node("add", (*node.args, other) if node.op == "add" else (node, other))
        self.leave()
        return node

    def term(self) -> Node:
        node = self.signed()
        while True:
            token = self.current
            if token.text in {"*", "/", "bmod"} and token.kind in {"symbol", "command"}:
                self.advance()
                other = self.denominator() if token.text == "/" else self.signed()
                node = Node({"*": "mul", "/": "div", "bmod": "mod"}[token.text], (node, other))
            elif self.starts_factor():
                node = self.juxtapose(node, self.power())
            else:
                return node

    def denominator(self) -> Node:
        """What a slash divides by: `1/2x` is half of x, but the letters of `1/xy` stay together."""
        node = self.signed()
        while (
            node.op in {"sym", "pow", "mul"}
            and self.current.kind == "name"
            and not self.current.spaced
            and self.starts_factor()
        ):
            node = Node("mul", (node, self.power()))
        return node

    def juxtapose(self, node: Node, factor: Node) -> Node:
        """A product without a sign, or a mixed number such as `2\\frac{1}{3}` and `2 1/3`."""
        last = node.args[-1] if node.op == "neg" else node
        whole = last.value if last.op == "num" else None
        if whole is not None and whole.denominator == 1:
            if factor.op == "num" and self.current.text == "/" and self.peek().kind == "number":
                self.advance()
                factor = Node("div", (factor, self.primary()))
                if factor.args[1].op != "num":
                    raise ParseError("two numbers side by side")
            elif factor.op == "num":
                raise ParseError("two numbers side by side")
            part = factor.args[0] if factor.op in {"pct", "deg"} else factor
            if part.op == "div" and all(a.op == "num" and a.value.denominator == 1 for a in part.args):
                above, below = (a.value for a in part.args)
                if 0 < above < below:
                    mixed = Node("add", (Node("num", (), Fraction(abs(whole))), part))
                    mixed = Node("neg", (mixed,)) if node.op == "neg" or whole < 0 else mixed
                    return mixed if part is factor else Node(factor.op, (mixed,))
        elif factor.op in {"num", "dec"} and last.op in {"num", "dec"}:
            raise ParseError("two numbers side by side")
        return Node("mul", (node, factor))

    def starts_factor(self) -> bool:
        token = self.current
        if token.kind in {"number", "name", "begin"}:
            return True
        if token.kind == "command":
            return token.text not in _NOT_FACTORS and token.text not in RELATIONS
        if token.text == "[":
            return self.tokens[self.position - 1].text not in {","} and self.bracket_is_product()
        if token.text == "|":
            return not self.inside_abs and not self.inside_set
        return token.kind == "symbol" and token.text in {"(", "{"}

    def signed(self) -> Node:
        token = self.current
        if token.kind in {"symbol", "command"} and token.text in {"-", "+", "pm", "mp"}:
            self.enter()
            self.advance()
            node = self.signed()
            self.leave()
            if token.text == "+":
                return node
            if token.text == "-":
                if node.op == "num":
                    return Node("num", (), -node.value)
                return Node("neg", (node,))
            return Node(token.text, (Node("num", (), Fraction(0)), node))
        return self.power()

    def power(self) -> Node:
        base = self.postfix()
        if self.current.text != "^":
            return base
        self.advance()
        while self.current.text == "'" or (self.current.text == "{" and self.peek().text == "'"):
            raise ParseError("prime as an exponent")
        exponent = self.exponent()
        node = Node("pow", (base, exponent))
        if self.current.text == "!":
            self.advance()
            return Node("fact", (node,))
        if self.current.text in {"%", "deg"}:
            raise ParseError("unit behind a power")
        return node

    def exponent(self) -> Node:
        if self.current.text in {"-", "+"}:
            sign = self.current.text
            self.advance()
            node = self.exponent()
            return Node("neg", (node,)) if sign == "-" else node
        self.enter()
        if self.current.text == "{":
            node = self.group()
        elif self.current.text in {"*", "+"}:
            raise ParseError("dangling exponent")
        else:
            node = self.postfix()
            if self.current.text == "^":
                self.advance()
                node = Node("pow", (node, self.exponent()))
        self.leave()
        return node


_NOT_FACTORS = {
    "and",
    "or",
    "cup",
    "cap",
    "setminus",
    "pm",
    "mp",
    "wedge",
    "vee",
    "bmod",
    "}",
    "deg",
    "to",
    "implies",
    "because",
    "therefore",
    "rangle",
    "rfloor",
    "rceil",
    "pmod",
    "not",
    "quad",
    "euro",
    "pounds",
    "yen",
    "forall",
    "exists",
}
_OPENING_WORDS = {
    "about",
    "approximately",
    "exactly",
    "roughly",
    "around",
    "only",
    "is",
    "are",
    "total",
    "the",
    "let",
    "so",
    "thus",
    "therefore",
    "hence",
    "all",
    "either",
    "when",
    "if",
    "for",
    "just",
}
__all__ = ["MAX_DEPTH", "Parser", "Token", "parse"]
