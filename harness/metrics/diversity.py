"""How much the responses to one problem differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_EQUATION = re.compile(r"<<(.+?)>>|\\\[(.+?)\\\]|\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+?)\$", re.DOTALL)


def equations(text: str) -> list[str]:
    r"""The equations of a response: `<<...>>`, `\[...\]`, `$...$`, and else its lines that hold digits and signs only.

    Blanks are removed. A dollar amount is not an equation: what stands between two dollar signs must hold `=` or `\`.
    """
    marked = [re.sub(r"\s", "", next(g for g in match.groups() if g)) for match in _EQUATION.finditer(text)]
    found = [equation for equation in marked if "=" in equation or "\\" in equation]
    if found:
        return found
    lines = (re.sub(r"\s", "", line) for line in text.split("\n"))
    return [line for line in lines if re.fullmatch(r"[\d.+\-*/()=]*[+\-*/=][\d.+\-*/()=]*", line)]


def distinct_equation_ratio(texts: Sequence[str]) -> float | None:
    """Distinct equations over all equations in the responses (after arXiv:2407.05013); None if there are none."""
    found = [equation for text in texts for equation in equations(text)]
    return len(set(found)) / len(found) if found else None


def entropy(counts: Sequence[int]) -> float:
    """Entropy in nats of the frequencies."""
    shares = np.asarray(counts, dtype=float)
    shares = shares[shares > 0] / shares.sum() if shares.sum() else shares[:0]
    return float(-(shares * np.log(shares)).sum()) + 0.0
