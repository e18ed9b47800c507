"""Cut the normal form of an answer into tokens."""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import re
from typing import NamedTuple

from harness.grading.expression import MAX_DIGITS, MAX_TOKENS, ParseError
from harness.grading.units import is_unit_word

FUNCTIONS = {
    name: name
    for name in (
        "sin cos tan cot sec csc sinh cosh tanh coth sech csch ln log lg exp arcsin arccos arctan arccot arcsec arccsc "
        "arcsinh arccosh arctanh arccoth arcsech arccsch gcd lcm max min det Re Im sgn arg erf"
    ).split()
} | {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "acot": "arccot",
    "asec": "arcsec",
    "acsc": "arccsc",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "acoth": "arccoth",
    "asech": "arcsech",
    "acsch": "arccsch",
    "arsinh": "arcsinh",
    "arcosh": "arccosh",
    "artanh": "arctanh",
    "arcoth": "arccoth",
    "arsech": "arcsech",
    "arcsch": "arccsch",
    "arctg": "arctan",
    "arcctg": "arccot",
    "tg": "tan",
    "ctg": "cot",
    "cosec": "csc",
    "sh": "sinh",
    "ch": "cosh",
    "th": "tanh",
    "sign": "sgn",
}
"""Spellings of the functions and the name each is known under."""
PLAIN = {
    "sqrt": "sqrt",
    "cbrt": "cbrt",
    "pi": "pi",
    "infinity": "infty",
    "infty": "infty",
    "inf": "infty",
    "oo": "infty",
    "floor": "floor",
    "ceil": "ceil",
    "abs": "abs",
    "theta": "theta",
    "alpha": "alpha",
    "beta": "beta",
    "lambda": "lambda",
    "U": "U",
    "binom": "binom",
    "frac": "frac",
    "pm": "pm",
    "union": "cup",
    "cup": "cup",
}
"""Words that mean a command even without a backslash."""
_PLAIN_PREFIX = re.compile(r"(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi)")
_TOKEN = re.compile(
    r"\s*(?:(?P<repeating>\d*\.\d*\\overline ?\{\d+\}|\d*\.\d*\(\d+\)(?=\s*(?:$|[-+,;)])))"
    r"|(?P<number>\d+\.\d+|\d+\.(?!\d)|\.\d+|\d+)(?P<exponent>[eE][-+]?\d+(?![\w.]))?"
    r"|\\text ?\{(?P<text>[^{}]*)\}"
    r"|\\begin ?\{(?P<begin>[a-zA-Z]+\*?)\}(?:\[\w\])?(?:\{[lcr| ]*\})?"
    r"|\\end ?\{(?P<end>[a-zA-Z]+\*?)\}"
    r"|\\math(?:bb|bf) ?\{?(?P<blackboard>[RZNQC])\}?(?P<sign>[\^_]\{?[+*-]\}?)?"
    r"|\\ket ?\{(?P<ket>[^{}]*)\}"
    r"|\\(?P<command>[a-zA-Z]+)"
    r"|(?P<symbol>\\\\|\\[{}$]|<=|>=|!=|==|<>|\*\*|[-+*/=<>^_(){}\[\],;:|&!'%~])"
    r"|(?P<letters>[A-Za-z]+)"
    r"|(?P<other>[^\W\d_]+)"
    r"|(?P<unknown>\S))"
)


class Token(NamedTuple):
    """kind is number, symbol, command, name, word, begin, end or stop."""

    kind: str
    text: str
    spaced: bool = False
    """Whether a space stands in front."""


def tokenize(text: str) -> list[Token]:
    """The tokens of a normal form, with an end marker. Raises ParseError for what no answer holds."""
    tokens: list[Token] = []
    depth = 0
    position = 0
    while position < len(text):
        if depth == 0 and (
            grouped := re.match(
                r"\s*([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])(\.\d+)?(?!,\d)", text[position : position + 200]
            )
        ):
            tokens.append(Token("number", grouped[1].replace(",", "") + (grouped[2] or ""), text[position] == " "))
            position += grouped.end()
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            break
        position = match.end()
        spaced = match[0][:1].isspace()
        kind = (
            match.lastgroup
            if match.lastgroup not in {"exponent", "sign"}
            else "number"
            if match["number"]
            else "blackboard"
        )
        if kind == "symbol":
            depth += (match["symbol"] in {"(", "[", "\\{"}) - (match["symbol"] in {")", "]", "\\}"})
        tokens.extend(_tokens(str(kind), match, spaced, tokens[-1] if tokens else None))
        if len(tokens) > MAX_TOKENS:
            raise ParseError("too long")
    tokens.append(Token("stop", ""))
    return tokens


def _tokens(kind: str, match: re.Match[str], spaced: bool, previous: Token | None) -> list[Token]:
    text = match[kind]
    if kind == "number":
        if len(text) > MAX_DIGITS or len(match["exponent"] or "") > 6:
            raise ParseError("too many digits")
        return [Token("number", text + (match["exponent"] or "").lower(), spaced)]
    if kind == "repeating":
        return [Token("number", re.sub(r"\\overline ?\{(\d+)\}", r"(\1)", text), spaced)]
    if kind == "text":
        return _text(text, previous)
    if kind == "blackboard":
        return [Token("name", "bb" + text + re.sub(r"[\^_{}]", "", match["sign"] or ""), spaced)]
    if kind == "ket":
        return [Token("name", "ket " + text, spaced)]
    if kind == "command":
        return [Token("command", FUNCTIONS.get(text, text), spaced)]
    if kind == "symbol":
        return [Token("symbol", {"**": "^", "==": "=", "<>": "!="}.get(text, text), spaced)]
    if kind == "letters":
        return _letters(text, spaced, previous, match.string[match.end() : match.end() + 1])
    if kind == "other":
        return [Token("word", text, spaced)]
    if kind == "unknown":
        raise ParseError(f"unexpected {text!r}")
    return [Token(kind, text, spaced)]


def _text(text: str, previous: Token | None) -> list[Token]:
    """Words in a text command; a letter alone is a symbol unless it stands behind a value, where it is a unit."""
    text = text.strip()
    behind = previous is not None and (previous.kind in {"number", "name"} or previous.text in {")", "}", "]", "/"})
    if len(text) == 1 and text.isascii() and (not behind or text in "eidx"):
        return [Token("name", text, True)]
    if text in FUNCTIONS and not (behind and is_unit_word(text)):
        return [Token("command", FUNCTIONS[text], True)]
    if text in {"floor", "ceil"}:
        return [Token("command", text, True)]
    return [Token("word", text, True)]


def _letters(text: str, spaced: bool, previous: Token | None, following: str = "") -> list[Token]:
    """A run of letters: a function, a connective, a unit, a word, or a product of one-letter symbols."""
    if (
        previous is not None
        and is_unit_word(text)
        and (previous.text in {"/", "per"} or (text, previous.kind) == ("min", "number"))
    ):
        return [Token("word", text, spaced)]
    if text in FUNCTIONS and (len(text) > 2 or text in {"ln", "lg", "tg", "Re", "Im"}):
        return [Token("command", FUNCTIONS[text], spaced)]
    if text in PLAIN and text != "U":
        return [Token("command", PLAIN[text], spaced)]
    if text == "U" and previous is not None and previous.text in {")", "]"}:
        return [Token("command", "cup", spaced)]
    if text.lower() in {"and", "or"}:
        return [Token("command", text.lower(), spaced)]
    if text in {"mod"}:
        return [Token("command", "bmod", spaced)]
    if text in {"in"} and not (previous and previous.kind == "number"):
        return [Token("command", "in", spaced)]
    if len(text) == 1:
        return [Token("name", text, spaced)]
    operators = "+-*/=^_("
    if text in {"am", "an", "as", "at", "by", "pm"} and (
        previous.text in operators if previous is not None else following[:1] in set(operators)
    ):
        return [Token("name", c, spaced and i == 0) for i, c in enumerate(text)]
    behind = previous is not None and (
        previous.kind in {"number", "word"}
        or previous.text in {")", "}", "/", "%"}
        or (spaced and (previous.kind == "name" or previous.text == "pi"))
    )
    if behind and is_unit_word(text):
        return [Token("word", text, spaced)]
    if (prefix := _PLAIN_PREFIX.match(text)) and len(text) - prefix.end() <= 2:
        head = prefix[1]
        first = Token("command", FUNCTIONS.get(head, head), spaced)
        return [first, *(Token("name", c) for c in text[prefix.end() :])]
    if (
        len(text) <= 3
        and (not text.islower() or text not in _SHORT_WORDS)
        and not (len(text) == 3 and text[0].isupper() and text[1:].islower())
    ):
        return [Token("name", c, spaced and i == 0) for i, c in enumerate(text)]
    if len(text) <= 5 and text.isupper() and text not in {"TRUE", "FALSE", "YES", "NONE", "EVEN", "ODD"}:
        return [Token("name", c, spaced and i == 0) for i, c in enumerate(text)]
    return [Token("word", text, spaced)]


_SHORT_WORDS = {
    "yes",
    "no",
    "odd",
    "all",
    "any",
    "the",
    "for",
    "if",
    "is",
    "are",
    "not",
    "to",
    "of",
    "one",
    "two",
    "six",
    "ten",
    "red",
    "am",
    "pm",
    "per",
    "day",
    "men",
    "sq",
    "dne",
    "by",
    "at",
    "as",
    "on",
    "it",
    "an",
}
