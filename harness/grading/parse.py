"""Read the normal form of an answer as a tree: a precedence parser, so that no string is ever evaluated."""

# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from harness.grading.cursor import Cursor
from harness.grading.expression import Node, ParseError
from harness.grading.lexer import FUNCTIONS, Token, tokenize
from harness.grading.macros import read_command
from harness.grading.normalize import MAX_LENGTH
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
    "sim": "sim",
    "subset": "subset",
    "subseteq": "subset",
    "supset": "supset",
    "supseteq": "supset",
    "propto": "propto",
    "parallel": "parallel",
    "perp": "perp",
    "ll": "<<",
    "gg": ">>",
    "to": "to",
}
_SEPARATORS = {",", ";", "and", "or", "wedge", "vee"}
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
    "cross",
    "propto",
    "supset",
    "supseteq",
}
_PROSE = set("is are was were not no never if when can cannot does do has have for 是 为 不 当 则".split())
"""Words that no unit holds: what follows them is a statement."""
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
_SET_OPERATIONS = {"cup": "union", "cap": "inter", "setminus": "minus"}


@lru_cache(maxsize=16384)
def parse(text: str) -> Node:
    """The tree of an answer in normal form. Raises ParseError for prose and for what exceeds the limits."""
    if len(text) > MAX_LENGTH:
        raise ParseError("too long")
    if numeral := re.fullmatch(r"\(?((?=[A-F]*\d)(?=\d*[A-F])[0-9A-F]+)\)?_\{?(1[1-6])\}?", text):
        return Node("based", (), (numeral[1], numeral[2]))
    if "\\implies" in text:
        text = text.rsplit("\\implies", 1)[1]
    parser = Parser(tokenize(text))
    node = parser.answer()
    if parser.current.kind != "stop":
        raise ParseError(f"unexpected {parser.current.text!r}")
    return node


class Parser(Cursor):
    """The grammar: levels of precedence from the list of answers to the power, then brackets, names and numbers."""

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__(tokens)
        self.inside_abs = 0
        self.inside_set = 0

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
        if _PROSE & {word.lower() for text in phrase for word in text.split()}:
            raise ParseError("words that are no unit")
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
            elif token.text == "cross" and token.kind == "command":
                self.advance()
                node = Node("call", (node, self.signed()), "cross")
            elif token.kind == "number" and self.tokens[self.position - 1].text == ")":
                node = Node("mul", (node, self.power()))
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
        for marks, size in ((1, 60), (2, 3600)):
            if self.current.kind == "number" and [self.peek(i).text == "'" for i in (1, marks, marks + 1)] == [
                True, True, False,
            ]:  # fmt: skip
                part = self.primary()
                for _ in range(marks):
                    self.advance()
                node = Node("add", (node, Node("div", (part, Node("num", (), Fraction(size))))))
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
        number = self.peek(1).text if self.peek(2).text == ")" else ""
        if number == "0" or (number.isdigit() and ("_" in name or plain == "P")):  # no product is written so
            return True
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
        opens = self.position == 1 or self.tokens[self.position - 2].text in _SEPARATORS
        if end != self.position + 2 or not opens:
            return False
        if following.text == "=" and self.peek().kind == "name":
            return True
        return plain in _CALLED_ALONE and (following.kind == "stop" or following.text in {"=", "<", ">"})

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
