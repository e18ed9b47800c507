r"""The notation of computer algebra, as programs print it, rewritten as LaTeX: `Abs(x)`, `summation(k, (k, 1, n))`.

Only text without a backslash is read so. Nothing is evaluated; what is not in the table below stays as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MODULE = re.compile(r"\b(?:np|numpy|math|cmath|sympy|sp|mpmath|mp)\.(?=[A-Za-z])")


def _bounded(sign: str) -> Callable[..., str | None]:
    def write(body: str, *limits: str) -> str | None:
        for limit in reversed(limits):
            parts = arguments(limit.strip()[1:-1]) if limit.strip().startswith("(") else []
            if len(parts) != 3:
                return None
            body = rf"({sign}_{{{parts[0]}={parts[1]}}}^{{{parts[2]}}}({body}))"
        return body if limits else None

    return write


def _integral(body: str, *limits: str) -> str | None:
    for limit in limits:
        parts = arguments(limit.strip()[1:-1]) if limit.strip().startswith("(") else [limit]
        if len(parts) == 3:
            body = rf"(\int_{{{parts[1]}}}^{{{parts[2]}}}({body})d{parts[0]})"
        elif len(parts) == 1:
            body = rf"(\int({body})d{parts[0]})"
        else:
            return None
    return body if limits else None


def _log(value: str, base: str | None = None) -> str:
    return rf"\log({value})" if base is None else rf"(\frac{{\ln({value})}}{{\ln({base})}})"


_CALLS: dict[str, Callable[..., str | None]] = {
    "Abs": lambda a: f"abs({a})",
    "re": lambda a: rf"\operatorname{{Re}}({a})",
    "im": lambda a: rf"\operatorname{{Im}}({a})",
    "conjugate": lambda a: rf"\conj{{{a}}}",
    "ceiling": lambda a: f"ceil({a})",
    "sign": lambda a: rf"\operatorname{{sgn}}({a})",
    "Max": lambda *a: rf"\max({','.join(a)})",
    "Min": lambda *a: rf"\min({','.join(a)})",
    "Mod": lambda a, b: rf"(({a}) \bmod ({b}))",
    "factorial": lambda a: f"(({a})!)",
    "factorial2": lambda a: f"(({a})!!)",
    "binomial": lambda n, k: rf"\binom{{{n}}}{{{k}}}",
    "comb": lambda n, k: rf"\binom{{{n}}}{{{k}}}",
    "root": lambda a, n: rf"\sqrt[{n}]{{{a}}}",
    "real_root": lambda a, n: rf"\sqrt[{n}]{{{a}}}",
    "pow": lambda a, b: f"(({a})^{{{b}}})",
    "Pow": lambda a, b: f"(({a})^{{{b}}})",
    "log": _log,
    "Rational": lambda a, b="1": rf"(\frac{{{a}}}{{{b}}})",
    "Fraction": lambda a, b="1": rf"(\frac{{{a}}}{{{b}}})",
    "Integer": lambda a: f"({a})",
    "Float": lambda a: f"({a})",
    "gamma": lambda a: rf"\Gamma({a})",
    "Point": lambda *a: f"({','.join(a)})",
    "Point2D": lambda *a: f"({','.join(a)})",
    "Point3D": lambda *a: f"({','.join(a)})",
    "S": lambda a: f"({a})",
    "sympify": lambda a: f"({a})",
    "Sum": _bounded(r"\sum"),
    "summation": _bounded(r"\sum"),
    "Product": _bounded(r"\prod"),
    "product": _bounded(r"\prod"),
    "Integral": _integral,
    "integrate": _integral,
    "Limit": lambda f, x, a: rf"(\lim_{{{x}\to {a}}}({f}))",
    "limit": lambda f, x, a: rf"(\lim_{{{x}\to {a}}}({f}))",
    "Derivative": lambda f, x: rf"(\frac{{d}}{{d{x}}}({f}))",
    "Eq": lambda a, b: f"{a}={b}",
    "Ne": lambda a, b: rf"{a}\ne {b}",
    "Lt": lambda a, b: f"{a}<{b}",
    "Le": lambda a, b: rf"{a}\le {b}",
    "Gt": lambda a, b: f"{a}>{b}",
    "Ge": lambda a, b: rf"{a}\ge {b}",
    "Interval": lambda a, b: f"[{a},{b}]",
    "Interval.open": lambda a, b: f"({a},{b})",
    "Interval.Lopen": lambda a, b: f"({a},{b}]",
    "Interval.Ropen": lambda a, b: f"[{a},{b})",
    "set": lambda a: rf"\{{{a.strip()[1:-1]}\}}" if a.strip()[:1] in {"[", "("} else None,
    "FiniteSet": lambda *a: rf"\{{{','.join(a)}\}}",
    "Union": lambda *a: r"\cup ".join(a),
    "Intersection": lambda *a: r"\cap ".join(a),
    "Tuple": lambda *a: f"({','.join(a)})",
}
"""How each call is written; a function that returns None, or that these arguments do not fit, stays as it stands."""
_CALL = re.compile(rf"(?<![A-Za-z\\_.])({'|'.join(sorted(map(re.escape, _CALLS), key=len, reverse=True))})\(")
_HINT = re.compile(r"[(*]|\bI\b|\b(?:math|sympy|sp|np|numpy)\.")
_SOLUTION = re.compile(r"\[?\{([A-Za-z]\w*\s?: [^{}:,<>=]+(?:, [A-Za-z]\w*\s?: [^{}:,<>=]+)*)\}\]?")
"""A solution as a dictionary: `{x: 1, y: 2}`."""
_SIGNS = re.compile(r"\*\*|\*\s*I\b|\bI\s*\*|[+-]\s*I\b|\bE\s*\*\*|\bzoo\b|\boo\b")


def from_program(text: str) -> str:
    """LaTeX for an answer in the notation of a program; any other text as it is."""
    if "\\" in text:
        return text
    if solution := _SOLUTION.fullmatch(text.strip()):
        return solution[1].replace(":", "=")
    if not _HINT.search(text):
        return text
    bare = _MODULE.sub("", text)
    rewritten = _calls(bare)
    if rewritten == bare == text and not _SIGNS.search(text):
        return text
    rewritten = re.sub(r"(?<![A-Za-z\\{])I(?![A-Za-z(])", "i", rewritten)
    return re.sub(r"(?<![A-Za-z\\{])E(?=\s*\*\*)", "e", rewritten)


def _calls(text: str) -> str:
    """The text with every call of the table rewritten, inner ones first; at most 60 of them."""
    for _ in range(60):
        found = list(_CALL.finditer(text))
        for match in reversed(found):
            end = _closing(text, match.end() - 1)
            if end is None:
                continue
            parts = arguments(text[match.end() : end])
            try:
                written = _CALLS[match[1]](*parts)
            except TypeError:  # another number of arguments
                continue
            if written is None or written == text[match.start() : end + 1]:
                continue
            text = text[: match.start()] + written + text[end + 1 :]
            break
        else:
            return text
    return text


def arguments(text: str) -> list[str]:
    """The parts between commas outside all brackets."""
    parts, level, start = [], 0, 0
    for index, char in enumerate(text):
        level += (char in "([{") - (char in ")]}")
        if char == "," and level == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def _closing(text: str, start: int) -> int | None:
    level = 0
    for index in range(start, len(text)):
        level += (text[index] in "([") - (text[index] in ")]")
        if level == 0:
            return index
    return None
