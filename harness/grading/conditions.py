r"""What stands behind "for all", "where" and "if": an answer as values with the conditions under which they hold.

A quantifier that only says what a letter runs over (`\forall x`, "for any real k", `k \in \mathbb{Z}`) may be missing
on one side; two must agree. Any other condition belongs to the answer and must stand on both sides.
"""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_WORDS = (
    r"for (?:all|any|every|each|some)|where|whenever|when|if and only if|iff|if|such that|provided that|provided|"
    r"otherwise|unless|for(?=\}?\s*(?:(?:even|odd)\b|[a-zA-Z](?:_\{?\w+\}?)?(?:[=<>]|\\(?:le|ge|ne|in|equiv)\b)))"
)
_OPENER = re.compile(
    rf"(?:\\(?P<sign>forall|exists)\b ?|(?:\\text ?\{{[^\w{{}}]*|(?<![A-Za-z\\{{]))(?P<words>{_WORDS})\b)",
    re.IGNORECASE,
)
_SEPARATOR_IN_TEXT = re.compile(r"\\text ?\{([^{},;]*)[,;]\s*(?:and|or)?\s*\}")
"""A comma that ends the words of a text command: `\\text{ is odd, and }`."""
_MEMBERSHIP = re.compile(r"\(?[a-zA-Z](?:_\w)?(?:,[a-zA-Z](?:_\w)?)*\\in ?\\math(?:bb|bf) ?\{?[A-Z]\}?[\^_{}+*\d-]*\)?")
_LETTER = r"[a-zA-Z](?:_\{?\w+\}?)?"
_LETTERS = re.compile(rf"{_LETTER}(?:\\in .*)?")
_INEQUALITY = re.compile(r"<|>|\\(?:le|ge|ne)\b")
_DOMAINS = {
    "real": "R", "reals": "R", "integer": "Z", "integers": "Z", "natural": "N", "naturals": "N", "rational": "Q",
    "rationals": "Q", "complex": "C", "positive": "+", "nonnegative": "0+", "nonzero": "*", "odd": "odd",
    "even": "even", "prime": "prime", "primes": "prime", "negative": "-",
}  # fmt: skip
_FILLERS = set(
    "a an the number numbers constant constants value values arbitrary any all every each of is are be given fixed and "
    "in real-valued some parameter parameters".split()
)


@dataclass(frozen=True)
class Condition:
    """One condition in normal form."""

    kind: Literal["all", "some", "if", "iff", "otherwise", "unless"]
    body: str
    """What it says, without the word that opens it."""
    names: frozenset[str] | None = None
    """The letters of a condition that only says what they run over; None where it says more."""
    domain: frozenset[str] = frozenset()
    """What they run over, in short signs; empty if unsaid."""

    @property
    def may_be_missing(self) -> bool:
        """Whether it adds nothing to the value."""
        return self.names is not None and (self.kind != "some" or bool(self.domain))


@dataclass(frozen=True)
class Clause:
    """A value and the conditions behind it."""

    value: str
    conditions: tuple[Condition, ...]


def clauses(normal: str) -> list[Clause] | None:
    """The values and conditions of an answer in normal form, in order; None where it holds no condition."""
    if not (_OPENER.search(normal) or "\\in" in normal):
        return None
    found: list[Clause] = []
    value: list[str] = []
    conditions: list[Condition] = []
    for separator, segment in _segments(normal):
        head, tail = _cut(segment)
        if not head and not tail:
            continue
        continues = bool(conditions) and not tail and _continues(separator, head)
        if conditions and not continues and head:
            found.append(Clause("".join(value), tuple(conditions)))
            value, conditions = [], []
        if continues or (value and not tail and _MEMBERSHIP.fullmatch(head)):
            conditions = _extended(conditions, head)
            continue
        if head:
            value.append((separator if value else "") + head)
        conditions += [_condition(*part) for part in tail]
    if value or conditions:
        found.append(Clause("".join(value), tuple(conditions)))
    if not any(clause.conditions for clause in found) or not found[0].value:
        return None
    return found


def same_clauses(gold: list[Clause], answer: list[Clause], same: Callable[[str, str], bool]) -> bool:
    """Whether two answers with conditions say the same; `same` compares their values and what conditions say."""
    named = [frozenset().union(*(c.names or () for c in _all(side))) for side in (gold, answer)]
    if named[0] and named[1] and not (named[0] <= named[1] or named[1] <= named[0]):
        return False
    everything = [condition for side in (gold, answer) for clause in side for condition in clause.conditions]
    if all(condition.may_be_missing for condition in everything):
        if not all(_compatible(a, b) for a in _all(gold) for b in _all(answer) if _about_the_same(a, b)):
            return False
        return same(*(",".join(clause.value for clause in side) for side in (gold, answer)))
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for clause in gold:
        match = next((c for c in left if _same_conditions(clause, c, same) and same(clause.value, c.value)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _all(side: list[Clause]) -> list[Condition]:
    return [condition for clause in side for condition in clause.conditions]


def _about_the_same(a: Condition, b: Condition) -> bool:
    return not a.names or not b.names or a.names == b.names


def _compatible(a: Condition, b: Condition) -> bool:
    return a.kind == b.kind and (not a.domain or not b.domain or a.domain == b.domain)


def _same_conditions(gold: Clause, answer: Clause, same: Callable[[str, str], bool]) -> bool:
    """Whether every condition of either side that must not be missing stands on the other too."""
    for these, others in ((gold.conditions, answer.conditions), (answer.conditions, gold.conditions)):
        for condition in these:
            if condition.may_be_missing:
                agreed = all(
                    _compatible(condition, o) for o in others if o.may_be_missing and _about_the_same(condition, o)
                )
            else:
                agreed = any(_same_condition(condition, o, same) for o in others)
            if not agreed:
                return False
    return True


def _same_condition(a: Condition, b: Condition, same: Callable[[str, str], bool]) -> bool:
    return a.kind == b.kind and (a.body == b.body or (bool(a.body and b.body) and same(a.body, b.body)))


def _segments(normal: str) -> list[tuple[str, str]]:
    """The parts between commas, semicolons, "and" and "or" outside all brackets, each with what stands in front."""
    normal = _SEPARATOR_IN_TEXT.sub(lambda m: rf"\text{{{m[1].strip()}}}," if m[1].strip() else ",", normal)
    parts, level, start, separator = [], 0, 0, ""
    for match in re.finditer(r"\\(?:and|or)\b ?|\\[{}]|[(\[{]|[)\]}]|[,;]", normal):
        sign = match[0].strip()
        if sign in {"(", "[", "{", "\\{"}:
            level += 1
        elif sign in {")", "]", "}", "\\}"}:
            level -= 1
        elif level == 0:
            parts.append((separator, normal[start : match.start()].strip()))
            separator, start = match[0], match.end()
    parts.append((separator, normal[start:].strip()))
    return parts


def _cut(segment: str) -> tuple[str, list[tuple[str, str]]]:
    """The value that opens a segment, and the (word, rest) of every condition behind it."""
    openers = [m for m in _OPENER.finditer(segment) if _level(segment[: m.start()]) == 0]
    kept: list[re.Match[str]] = []
    for match in openers:  # "for all x where x > 0" is two, "if and only if" one
        if not kept or match.start() >= kept[-1].end():
            kept.append(match)
    if not kept:
        return segment, []
    ends = [m.start() for m in kept[1:]] + [len(segment)]
    parts = [
        ((m["sign"] or m["words"]).lower(), _flat(segment[m.start() : end])) for m, end in zip(kept, ends, strict=True)
    ]
    return segment[: kept[0].start()].strip(" ,;"), parts


def _level(text: str) -> int:
    text = re.sub(r"\\[{}]", "", text)
    return sum(text.count(c) for c in "([{") - sum(text.count(c) for c in ")]}")


def _flat(text: str) -> str:
    """The text without its text commands."""
    return re.sub(r"\s+", " ", re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", text)).strip(" .,;")


def _condition(word: str, text: str) -> Condition:
    body = re.sub(rf"^\W*(?:\\forall|\\exists|{_WORDS})\b", "", text, flags=re.IGNORECASE).strip(" .,;:")
    if word in {"exists", "for some"}:
        kind: str = "some"
    elif word == "forall" or word.startswith("for "):
        kind = "all"
    elif word in {"iff", "if and only if"}:
        kind = "iff"
    else:
        kind = word if word in {"otherwise", "unless"} else "if"
    if kind in {"all", "some"} or word == "where":
        scope = _scope(body)
        if scope is not None:
            return Condition("some" if kind == "some" else "all", body, *scope)
    return Condition(kind, body)  # type: ignore[arg-type]


def _scope(body: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """The letters and the set of a condition that says no more than these; None if it says more."""
    names: set[str] = set()
    domain: set[str] = set()
    if found := re.fullmatch(r"(.*?)\\(?:in|text\{in\}) ?\\math(?:bb|bf) ?\{?([A-Z])\}?([\^_{}+*\d>-]*)", body):
        body = found[1]
        domain.add(found[2] + re.sub(r"[\^_{}]", "", found[3]))
    for word in re.findall(rf"[a-zA-Z-]{{2,}}|{_LETTER}|\\[a-zA-Z]+|\S", re.sub(r"non-?(?=neg|zero)", "non", body)):
        if word.lower() in _DOMAINS:
            domain.add(_DOMAINS[word.lower()])
        elif re.fullmatch(_LETTER, word) or (word[0] == "\\" and word[1:] in _GREEK):
            names.add(word)
        elif word.lower() not in _FILLERS and word != ",":
            return None
    if domain == {"Z", "+"}:
        domain = {"N"}
    return frozenset(names - {"a"} if len(names) > 1 and domain else names), frozenset(domain)


_GREEK = set("alpha beta gamma delta lambda mu theta phi omega epsilon".split())


def _continues(separator: str, segment: str) -> bool:
    """Whether a segment without a value of its own still belongs to the condition in front."""
    if _LETTERS.fullmatch(segment) or _MEMBERSHIP.fullmatch(segment):
        return True
    return bool(_INEQUALITY.search(segment)) and "=" not in segment


def _extended(conditions: list[Condition], segment: str) -> list[Condition]:
    if _MEMBERSHIP.fullmatch(segment):
        return [*conditions, _condition("forall", segment.strip("()"))]
    if conditions and conditions[-1].names is not None and _LETTERS.fullmatch(segment):
        last = conditions[-1]
        return [
            *conditions[:-1],
            Condition(last.kind, last.body + "," + segment, (last.names or frozenset()) | {segment}, last.domain),
        ]
    return [*conditions, Condition("if", segment)]
