r"""Wrong answers made of gold answers by one small change each, as wrong answers come near to right ones.

A change that leaves the meaning as it was is no mistake and is not made: the sign of an arbitrary constant (`+C`), of
zero, of the 1 in `(-1)^{n+1}`; the letter of which a constant function has no use (`f(w)=2`); what stands outside the
box of a gold that has one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from harness.grading.brackets import boxes

_TEXT = re.compile(
    r"\\(?:text|mbox|textbf|operatorname|mathrm|begin|end)\s*\{[^{}]*\}(?:\{[lcr|]+\})?|\\[a-zA-Z]+|[^\W\d_]{2,}"
)


def _free(gold: str) -> str:
    """The gold with words and commands blanked, so that places found in it lie in formulas."""
    return _TEXT.sub(lambda m: "\0" * len(m[0]), gold)


def _one_of(places: list[re.Match[str]], rng: random.Random) -> re.Match[str] | None:
    return rng.choice(places) if places else None


_CONSTANT_OR_PARITY = re.compile(r"[-+]\s*(?:C\s*\$?\s*$|1\s*\})")
"""Behind `(-1)^{n`, or at the end, where the sign makes no difference."""
_UNUSED = re.compile(r"\b[fgw]\(([a-z])\)\s*=\s*(?:\\[a-z]+|[\d\s{}.]|c\b)+(?=$|[,;$]|\\text)")
"""A constant function, of which the variable has another name elsewhere or nowhere."""


def sign(gold: str, rng: random.Random) -> str | None:
    """A sign turned round, or a minus in front."""
    bare = gold.strip().strip("$").strip()
    if re.search(r"\\pm|\\mp|±", gold) or not re.search(r"[1-9a-zA-Z]", bare) or re.match(r"0(?![.\d])", bare):
        return None
    found = _one_of(list(re.finditer(r"(?<=[\w)}\]])\s*([-+])\s*(?=[\w\\({])", _free(gold))), rng)
    same = _CONSTANT_OR_PARITY.match(gold, found.start(1)) if found else None
    if found and same and ("C" in same[0] or re.search(r"\(-1\)\^\s*\{\s*[a-z]\s*$", gold[: found.start(1)])):
        return None
    if found and not re.search(r"[eE]$", gold[: found.start(1)]):
        return gold[: found.start(1)] + ("-" if found[1] == "+" else "+") + gold[found.end(1) :]
    if re.match(r"[\d\\]", bare) and not re.search(
        r"[,;=<>]|\\(?:text|le|ge|in|cup|begin|ne|[{])|[a-zA-Z]{3,}", bare[:3] + bare
    ):
        return "-" + bare
    return None


def digit(gold: str, rng: random.Random) -> str | None:
    """One digit more by one."""
    found = _one_of(list(re.finditer(r"\d", _free(gold))), rng)
    return found and gold[: found.start()] + str((int(found[0]) + 1) % 10) + gold[found.end() :]


def bracket(gold: str, rng: random.Random) -> str | None:
    """An end of an interval or pair opened or closed."""
    found = re.search(r"(?<!\\)([(\[])\s*([^()\[\]{}]*,[^()\[\]{}]*)(?<!\\)([)\]])", gold)
    if not found or "infty" in found[2] or found[1] + found[3] == "[]":
        return None
    if rng.random() < 0.5:
        return gold[: found.start(1)] + {"(": "[", "[": "("}[found[1]] + gold[found.end(1) :]
    return gold[: found.start(3)] + {")": "]", "]": ")"}[found[3]] + gold[found.end(3) :]


def exponent(gold: str, rng: random.Random) -> str | None:
    """An exponent one more or less."""
    found = _one_of(list(re.finditer(r"(?<=[\w)}])\^\s*(?:\{\s*(-?\d+)\s*\}|(\d))", gold)), rng)
    if found is None or re.search(r"[01]\s*$", gold[: found.start()]):
        return None
    return gold[: found.start()] + f"^{{{int(found[1] or found[2]) + rng.choice((1, -1))}}}" + gold[found.end() :]


def letter(gold: str, rng: random.Random) -> str | None:
    """One occurrence of a letter swapped for another."""
    places = [
        m for m in re.finditer(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z'’])", _free(gold)) if gold[m.start()] not in "dC"
    ]
    if len(places) < 2 or re.search(r"\\pi|π|\\mathbb|\\in\b", gold):
        return None
    if len({m[0] for m in places}) == 1 and len(places) < 3:
        return None
    found = rng.choice(places)
    if any(match.start(1) == found.start() for match in _UNUSED.finditer(gold)):
        return None
    other = next(c for c in "wuhqWUH" if c not in gold)
    return gold[: found.start()] + other + gold[found.end() :]


def quantifier(gold: str, rng: random.Random) -> str | None:
    """A quantifier, or a strict relation for one that is not."""
    for old, new in (
        ("for all", "for some"), (r"\forall", r"\exists"), ("if and only if", "if"), (r"\geq", ">"), (r"\leq", "<"),
        (r"\ge ", "> "), (r"\le ", "< "), (">", r"\geq "), ("<", r"\leq "), (r"\subset", r"\supset"), ("odd", "even"),
        (r"\mathbb{R}", r"\mathbb{Z}"), (r"\mathbb{Z}", r"\mathbb{N}"), (r"\cup", r"\cap"), (r"\cap", r"\cup"),
    ):  # fmt: skip
        if old in gold:
            return gold.replace(old, new, 1)
    return None


MUTATIONS: dict[str, Callable[[str, random.Random], str | None]] = {
    function.__name__: function for function in (sign, digit, bracket, exponent, letter, quantifier)
}


def mutants(golds: list[str], seed: int) -> Iterator[tuple[str, str, str]]:
    """(kind, gold, wrong answer) for every gold and every kind of change that it allows."""
    for gold in golds:
        rng = random.Random(f"{seed}/{gold}")
        box = boxes(gold)
        start, end = (gold.index(box[-1][2], box[-1][0]), box[-1][1] - 1) if box else (0, len(gold))
        for kind, change in MUTATIONS.items():
            wrong = change(gold[start:end], rng)
            if wrong and wrong != gold[start:end]:
                yield kind, gold, gold[:start] + wrong + gold[end:]
