"""Do two answers mean the same? From cheap to costly."""

from __future__ import annotations

import re
from fractions import Fraction


def is_equivalent(gold: str, answer: str) -> bool:
    """Whether two bare answers are the same."""
    a, b = _plain(gold), _plain(answer)
    if a == b:
        return bool(a)
    try:
        return Fraction(a) == Fraction(b)
    except (ValueError, ZeroDivisionError):
        return False


def _plain(text: str) -> str:
    text = text.strip().strip("$").strip()
    if box := re.fullmatch(r"\\boxed\{(.*)\}", text):
        text = box[1]
    return re.sub(r"(?<=\d),(?=\d{3})|\\[!,]|\s|\\\$|\$", "", text).rstrip(".")
