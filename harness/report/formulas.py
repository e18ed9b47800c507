"""The formulas of a page, turned into MathML once each, so that a browser shows them without any library."""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring, tostring

FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]{1,300}?)(?<![\s\\])\$", re.DOTALL
)
"""The page's script finds formulas by the same expression."""

MAX_LENGTH = 400
MAX_FORMULAS = 20_000
"""Different formulas of a page; further ones stay TeX."""
_UNKNOWN = re.compile(r"\\(begin|end|label|tag|intertext|hline|def|(re)?newcommand|providecommand)\b")
"""What the converter does not know; and macros, which can make 400 characters into billions."""

TAGS = frozenset(
    "math mrow mi mn mo mtext ms mspace mstyle mfrac msqrt mroot msub msup msubsup munder mover munderover "
    "mmultiscripts mprescripts mtable mtr mtd mpadded mphantom menclose".split()
)
"""Elements of presentation MathML (https://www.w3.org/TR/mathml-core/): they hold formulas and nothing else."""
ATTRIBUTES = frozenset(
    "xmlns display displaystyle scriptlevel mathvariant mathsize mathcolor mathbackground stretchy fence form "
    "separator symmetric largeop movablelimits accent accentunder minsize maxsize lspace rspace width height depth "
    "voffset linethickness linebreak notation columnalign rowalign columnlines rowlines columnspacing "
    "rowspacing".split()
)
"""Attributes that set how a formula looks: none holds an address, a script or a style sheet."""


class Formulas:
    """Turns the formulas of texts into MathML, each once however often it comes."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, texts: Iterable[str]) -> dict[str, str]:
        """MathML by TeX source, for every formula that the converter knows; the page shows others as they are."""
        found: dict[str, str] = {}
        for text in texts:
            for tex in sources(text):
                if tex not in self._known and len(self._known) < MAX_FORMULAS:
                    self._known[tex] = converted(tex)
                if (mathml := self._known.get(tex)) is not None:
                    found[tex] = mathml
        return found


def converted(tex: str) -> str | None:
    """The MathML of a formula; None where the converter does not understand it."""
    from latex2mathml.converter import Converter

    if len(tex) > MAX_LENGTH or _UNKNOWN.search(tex):
        return None
    try:
        tree = Converter().convert_to_element(tex)
    except Exception:  # the converter fails in many ways on what a model writes; the page shows TeX then
        return None
    return written(tree)


def written(tree: Element) -> str | None:
    """A tree of the converter as XML of allowed elements and attributes; None where it is anything else.

    The converter's own text form must not be used: it turns `<` in a model's text into the beginning of an element.
    """
    for node in tree.iter():
        if node.tag not in TAGS:
            return None
        node.attrib = {name: value for name, value in node.attrib.items() if name in ATTRIBUTES}
        # The converter writes symbols as references to characters; as text they need none.
        node.text, node.tail = (text and html.unescape(text) for text in (node.text, node.tail))
    try:
        mathml = tostring(tree, encoding="unicode")
        fromstring(mathml)  # a browser refuses what is not XML, such as control characters
    except (ParseError, TypeError, ValueError):
        return None
    return mathml


def sources(text: str) -> Iterator[str]:
    """The TeX of the formulas in a text."""
    if "$" not in text and "\\" not in text:
        return  # which takes no time to see, unlike that the expression matches nowhere
    for match in FORMULA.finditer(text):
        yield next(group for group in match.groups() if group is not None).strip()


def texts_of(data: Any) -> Iterator[str]:
    """All strings under the keys that the page shows with formulas."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("question", "solution", "step", "text") and isinstance(value, str):
                yield value
            elif isinstance(value, dict | list):
                yield from texts_of(value)
    elif isinstance(data, list):
        for item in data:
            if isinstance(item, dict | list):
                yield from texts_of(item)
