"""The formulas of a page, turned into MathML once each, so that a browser shows them without any library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]{1,300}?)(?<![\s\\])\$", re.DOTALL
)
"""The page's script finds formulas by the same expression."""

MAX_LENGTH = 400
MAX_FORMULAS = 20_000
_UNKNOWN = re.compile(r"\\(begin|end|label|tag|intertext|hline)\b")


def formulas(texts: Iterable[str]) -> dict[str, str]:
    """MathML by TeX source, for every formula that the converter understands; the page shows others as they are."""
    from latex2mathml.converter import convert

    found: dict[str, str] = {}
    tried: set[str] = set()
    for text in texts:
        for tex in sources(text):
            if tex in tried or len(tex) > MAX_LENGTH or _UNKNOWN.search(tex):
                continue
            tried.add(tex)
            if len(found) >= MAX_FORMULAS:
                return found
            try:
                mathml = convert(tex)
            except Exception:  # the converter fails in many ways on what a model writes; the page shows TeX then
                continue
            if "<merror" not in mathml:
                found[tex] = mathml
    return found


def sources(text: str) -> Iterator[str]:
    """The TeX of the formulas in a text."""
    for match in FORMULA.finditer(text):
        yield next(group for group in match.groups() if group is not None).strip()


def texts_of(data: Any) -> Iterator[str]:
    """All strings under the keys that the page shows with formulas."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("question", "solution", "step") and isinstance(value, str):
                yield value
            elif key == "steps":
                yield "".join(value)
            else:
                yield from texts_of(value)
    elif isinstance(data, list):
        for item in data:
            yield from texts_of(item)
