"""LaTeX commands that take arguments: fractions, roots, functions, sums, integrals."""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

from fractions import Fraction

from harness.grading.cursor import Grammar
from harness.grading.expression import Node, ParseError, replaced
from harness.grading.lexer import FUNCTIONS

_NAMED = set(FUNCTIONS.values()) | {"floor", "ceil", "abs"}
_GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega hbar ell Pi nabla partial star".split()
)
_LARGE = {"int": "int", "sum": "sum", "prod": "prod", "lim": "lim", "iint": "int", "oint": "int"}
_MINUS_ONE = Node("num", (), Fraction(-1))


def read_command(parser: Grammar) -> Node:
    """The command at the cursor and its arguments."""
    name = parser.advance().text
    if name in {"frac", "binom"}:
        return _fraction(parser, name)
    if name in {"sqrt", "cbrt"}:
        return _root(parser, name)
    if name in {"pi", "infty", "emptyset", "ldots"}:
        return Node("const", (), {"infty": "inf", "emptyset": "empty"}.get(name, name))
    if name in {"log", "ln", "lg"}:
        return _logarithm(parser, name)
    if name in _NAMED:
        return _function(parser, name)
    if name in _LARGE:
        return _large(parser, name)
    if name in {"euro", "pounds", "yen"}:
        return Node("unit", (parser.power(),), {"euro": "€", "pounds": "£", "yen": "¥"}[name])
    if name in {"lfloor", "lceil", "langle"}:
        return _delimited(parser, name)
    if name in _GREEK:
        return _greek(parser, name)
    if name in {"overline", "bar", "widetilde", "tilde", "underline", "conj", "dot", "ddot", "hat", "widehat"}:
        return _accent(parser, name)
    if name in {"angle", "triangle", "measuredangle", "odot", "square"}:
        inner = parser.power()
        while parser.current.kind == "name":
            inner = Node("mul", (inner, parser.power()))
        return Node("call", (inner,), name)
    if name == "operatorname":
        return _operator(parser)
    if name in {"mathbb", "mathrm"}:
        return parser.argument()
    raise ParseError(f"unknown command {name}")


def _fraction(parser: Grammar, name: str) -> Node:
    if parser.current.text == "(" and name == "frac":
        arguments = parser.primary()
        if arguments.op == "paren" and len(arguments.args) == 2:
            return Node("div", arguments.args)
        raise ParseError("fraction without a denominator")
    above, below = parser.argument(), parser.argument()
    if name == "frac" and above.op == below.op == "mul" and above.args[0] == below.args[0] == Node("sym", (), "d"):
        return Node("sym", (), f"d{above.args[1].value}/d{below.args[1].value}")
    if name == "frac" and above == Node("sym", (), "d") and below.op == "mul" and below.args[0] == Node("sym", (), "d"):
        inner = parser.power()
        return Node("diff", (inner.args[0] if inner.op == "group" else inner, below.args[1]))
    return Node("div" if name == "frac" else "binom", (above, below))


def _root(parser: Grammar, name: str) -> Node:
    index = Node("num", (), Fraction(3 if name == "cbrt" else 2))
    if parser.current.text == "[":
        parser.advance()
        index = parser.sum()
        parser.expect("]")
    inner = parser.group() if parser.current.text == "{" else parser.primary()
    return Node("root", (inner, index))


def _power_of_function(parser: Grammar) -> Node | None:
    if parser.current.text != "^":
        return None
    parser.advance()
    return parser.exponent()


def _logarithm(parser: Grammar, name: str) -> Node:
    base: Node | None = Node("num", (), Fraction(10)) if name == "lg" else None
    exponent = _power_of_function(parser)
    if parser.current.text == "_":
        parser.advance()
        base = parser.argument()
    exponent = exponent or _power_of_function(parser)
    inner = _function_argument(parser)
    node = Node("log", (inner,) if base is None else (inner, base), name)
    return node if exponent is None else Node("pow", (node, exponent))


def _function(parser: Grammar, name: str) -> Node:
    exponent = _power_of_function(parser)
    if parser.current.text == "_":
        raise ParseError("subscript of a function")
    if name == "exp" and parser.current.kind in {"number"}:
        return Node("pow", (Node("const", (), "e"), parser.primary()))
    inner = _function_argument(parser)
    if inner.op == "paren" and inner.value != ("(", ")"):
        raise ParseError("brackets that do not match")
    of_set = inner.op == "set" and name in {"max", "min", "gcd", "lcm"}  # `\min\{a, b\}`
    arguments = inner.args if inner.op in {"paren", "list"} or of_set else (inner,)
    if exponent in (_MINUS_ONE, Node("neg", (Node("num", (), Fraction(1)),))) and name in {
        "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh",
    }:  # fmt: skip
        return Node("func", arguments, "arc" + name)
    node = Node("func", arguments, name) if name != "exp" else Node("pow", (Node("const", (), "e"), inner))
    if name == "abs":
        node = Node("abs", arguments)
    return node if exponent is None else Node("pow", (node, exponent))


def _function_argument(parser: Grammar) -> Node:
    r"""Brackets, or what `\sin 2x` applies to: the factors up to the next operator or function."""
    if parser.current.text in {"(", "{"}:
        opening = parser.current.text
        return parser.group() if opening == "{" else parser.primary()
    if parser.current.text in {"-"}:
        parser.advance()
        return Node("neg", (_function_argument(parser),))
    node = parser.power()
    while _continues(parser):
        node = Node("mul", (node, parser.power()))
    if parser.current.text == "/" and node.op in {"num", "const"} and parser.peek().kind == "number":
        parser.advance()
        node = Node("div", (node, parser.power()))
    return node


def _continues(parser: Grammar) -> bool:
    token = parser.current
    return token.kind in {"number", "name"} or (
        token.kind == "command" and (token.text in _GREEK or token.text in {"pi", "sqrt", "frac"})
    )


_IMAGINARY = Node("const", (), "i")
"""The letter i, unless it is an index."""


def _large(parser: Grammar, name: str) -> Node:
    """Sum, product, integral or limit with its limits; kept as one operation and evaluated by computer algebra only."""
    lower = upper = None
    while parser.current.text in {"_", "^"}:
        side = parser.advance().text
        empty = parser.current.text == "{" and parser.peek().text == "}"
        if empty:
            parser.advance()
            parser.advance()
            continue
        value = parser.argument() if parser.current.text == "{" else _limit(parser)
        lower, upper = (value, upper) if side == "_" else (lower, value)
    bounds = tuple(side for side in (lower, upper) if side is not None)
    if name in {"int", "iint", "oint"}:
        integrand, variable = _integrand(parser)
        return Node("int", (integrand, variable, *bounds), name)
    body = parser.term()
    if name in {"sum", "prod"} and bounds and bounds[0].op == "rel" and bounds[0].args[0] == _IMAGINARY:
        body, first = (replaced(part, {_IMAGINARY: Node("sym", (), "i")}) for part in (body, bounds[0]))
        bounds = (first, *bounds[1:])
    return Node(_LARGE[name], (body, *bounds), name)


def _limit(parser: Grammar) -> Node:
    """A limit of one token, whose sub- or superscript is the other limit and not its own."""
    token = parser.advance()
    if token.kind == "number":
        return Node("num", (), Fraction(token.text))
    if token.text == "-":
        return Node("neg", (_limit(parser),))
    if token.text == "infty":
        return Node("const", (), "inf")
    return Node("const" if token.text == "pi" else "sym", (), token.text)


def _integrand(parser: Grammar) -> tuple[Node, Node]:
    """What stands in front of `dx`, and x. `\\frac{dz}{z}` holds its own differential."""
    start, level, end = parser.position, 0, None
    for index in range(start, len(parser.tokens) - 1):
        text = parser.tokens[index].text
        level += (text in {"(", "{", "["}) - (text in {")", "}", "]"})
        if text == "d" and parser.tokens[index].kind == "name" and parser.tokens[index + 1].kind in {"name", "command"}:
            end = index
            break
    if end is None:
        raise ParseError("integral without a differential")
    variable = Node("sym", (), parser.tokens[end + 1].text)
    tokens = parser.tokens
    if level == 0:
        stop = type(tokens[0])("stop", "")
        parser.tokens = [*tokens[:end], stop]
        body = parser.sum() if end > start else Node("num", (), Fraction(1))
        if parser.current.kind != "stop":
            raise ParseError("cannot read the integrand")
        parser.tokens, parser.position = tokens, end + 2
        return body, variable
    one = type(tokens[0])("number", "1")
    parser.tokens = [*tokens[:end], one, *tokens[end + 2 :]]
    return parser.sum(), variable


def _delimited(parser: Grammar, name: str) -> Node:
    closing = {"lfloor": "rfloor", "lceil": "rceil", "langle": "rangle"}[name]
    parser.open_groups += 1
    inner = parser.answer() if name == "langle" else parser.sum()
    parser.open_groups -= 1
    parser.expect(closing)
    if name == "langle":
        return Node("paren", inner.args if inner.op == "list" else (inner,), ("<", ">"))
    return Node("func", (inner,), name[1:])


def _greek(parser: Grammar, name: str) -> Node:
    name += parser.decoration()
    of_zero = [parser.peek(i).text for i in range(3)] == ["(", "0", ")"]
    if of_zero or (name.split("_")[0] in {"phi", "psi", "Phi", "Psi"} and parser.current.text == "("):
        parser.advance()
        inner = parser.answer()
        parser.expect(")")
        return Node("call", inner.args if inner.op == "list" else (inner,), name)
    return Node("sym", (), name)


def _accent(parser: Grammar, name: str) -> Node:
    inner = parser.argument()
    if inner.op == "num" and (inner.value == 0 or name == "conj"):
        return inner
    if inner.op in {"num", "dec"}:
        raise ParseError("line over a number")
    if name in {"hat", "widehat"} and (inner in _AXES or inner.op == "mul"):
        return inner
    if name in {"overline", "bar", "conj"}:
        return inner if _is_segment(inner) else Node("func", (inner,), "conj")
    if inner.op == "sym":
        return Node("sym", (), f"{name.removeprefix('wide')} {inner.value}{parser.decoration()}")
    return Node("call", (inner,), name)


_AXES = {Node("const", (), "i"), Node("sym", (), "j"), Node("sym", (), "k")}
"""Letters that name the unit vectors of the axes, with or without a hat."""


def _is_segment(node: Node) -> bool:
    r"""`\overline{AB}` is a segment and its length, not a complex conjugate."""
    return node.op == "mul" and all(_is_segment(a) or (a.op == "sym" and str(a.value)[0].isupper()) for a in node.args)


def _operator(parser: Grammar) -> Node:
    inner = parser.subscript()
    if inner in FUNCTIONS:
        return _function(parser, FUNCTIONS[inner])
    raise ParseError(f"unknown operator {inner}")
