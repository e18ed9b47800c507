r"""Answer protocols: which patterns mark a final answer, and in which order they are tried.

A protocol is a row of rules; the first that finds something wins. Every task names its protocol, so the same response
can be read as each paper reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import InputError
from harness.store import from_mapping

ANSWER_WORDS = (
    "answer",
    "réponse",
    "respuesta",
    "resposta",
    "antwort",
    "risposta",
    "ответ",
    "答",
    "정답",
    "الجواب",
    "उत्तर",
    "antwoord",
    "svar",
    "odpowiedź",
    "cevap",
    "jawaban",
    "đáp án",
    "đáp số",
    "відповідь",
)
MARKER = (
    rf"(?i:\b(?:the\s+)?(?:final|correct|right)?\s*\b(?:{'|'.join(ANSWER_WORDS)}|答案|答え)(?:\s+(?:final[ea]?|finală))?\**\s*(?:\([^)]{{0,20}}\)\s*)?"
    r"(?:ist\b|is\b(?!\s+not\b)|est\b|es\b|è|é|are\b|should\s+be|must\s+be|would\s+be|will\s+be|was|为|是|應為|：|:|=)[\s:：*]*(?:option|choice)?\s*)"
)
FINAL = r"(?i:final answer(?: is)?\**\s*[:：]?\**\s*(?:the\s+(?:final\s+)?answer\s+is\s*)?[:：]?\s*)"
_CHINESE_MARKER = r"(?:【(?:答案|答)】|(?:答案|答)\**\s*[:：是为])[:：是为\s]*"
_STATEMENT = (
    r"(?i:\b(?:statement|claim|assertion|proposition|conjecture|argument)\s+is\s+(?:therefore\s+|thus\s+|indeed\s+)?"
    r"(?=(?:true|false)\b))"
)


@dataclass(frozen=True)
class Rule:
    """One way of finding an answer."""

    kind: Literal["boxed", "tag", "marker", "math", "number", "bold", "whole", "choice", "json"]
    pattern: str = ""
    """The regular expression after which the answer stands (marker), or the tag's name (tag)."""
    which: Literal["first", "last"] = "last"
    """Which occurrence counts."""
    scope: Literal["sentence", "line", "rest", "number"] = "sentence"
    """How far a marker's answer reaches."""
    needs: tuple[str, ...] = ()
    """Strings of which the lower-case text must hold one, as a cheap look ahead of the pattern."""


@dataclass(frozen=True)
class AnswerProtocol:
    """How one task or paper reads a response."""

    name: str
    rules: tuple[Rule, ...]
    """Tried in this order."""
    skip_thinking: bool = True
    """Read only what follows the last `</think>`, or harmony's channel `final`; a thought that never ends holds no
    answer."""
    latest: bool = False
    """A marker that stands after the last box overrides it."""


DEFAULT = AnswerProtocol(
    "default",
    (
        Rule("tag", "answer"),
        Rule("boxed"),
        Rule("marker", r"####\s*", scope="line", needs=("####",)),
        Rule("marker", r"(?m:^[^\S\n]*#+\s*(?:Final\s+)?Answer\s*(?::\s*)?$)", scope="rest"),
        Rule("json", needs=('answer"',)),
        Rule("marker", FINAL, needs=("final answer",)),
        Rule("marker", MARKER, needs=ANSWER_WORDS),
        Rule("marker", _CHINESE_MARKER, needs=("答",)),
        Rule("marker", r"(?m:^A\s*:\s*)", scope="line"),
        Rule("marker", _STATEMENT, needs=("true", "false")),
        Rule("whole"),
        Rule("math"),
        Rule("number"),
    ),
    latest=True,
)

CHOICE = AnswerProtocol(
    "choice",
    (
        Rule("tag", "answer"),
        Rule("choice"),
        Rule("boxed"),
    ),
)

PROTOCOLS: dict[str, AnswerProtocol] = {
    protocol.name: protocol
    for protocol in (
        DEFAULT,
        CHOICE,
        AnswerProtocol("boxed", (Rule("boxed"),)),
        AnswerProtocol("gsm8k", (Rule("marker", r"####\s*", scope="line"),), skip_thinking=False),
        AnswerProtocol(
            "bstar", (Rule("marker", r"(?m:^#\s*Answer\s*$)", which="first", scope="rest"),), skip_thinking=False
        ),
        AnswerProtocol(
            "self_explore", (Rule("marker", r"The answer is:?\s*", which="first", scope="number"),), skip_thinking=False
        ),
        AnswerProtocol(
            "self_explore_math",
            (
                Rule("marker", r"(?i:final answer is)\s*", scope="sentence"),
                Rule("boxed"),
                Rule("marker", r"(?i:he answer is)\s*:?\s*", scope="line"),
                Rule("number"),
            ),
            skip_thinking=False,
        ),
        AnswerProtocol("minerva", (Rule("marker", r"(?i:final answer is)\s*:?\s*", scope="sentence"), Rule("boxed"))),
        AnswerProtocol("final_answer", (Rule("choice", r"(?i:final answer\s*:\s*)"),), skip_thinking=False),
        AnswerProtocol("bbeh", (Rule("marker", r"(?i:the (?:final )?answer is)\s*:?\s*", scope="line"), Rule("boxed"))),
        AnswerProtocol("tag", (Rule("tag", "answer"),)),
        AnswerProtocol("number", (Rule("number"),)),
    )
}
"""The answer protocols by name."""


def find_answer_protocol(given: str | Mapping[str, Any] | AnswerProtocol, place: str = "") -> AnswerProtocol:
    """The answer protocol that a configuration asks for: by name, or by its fields, `rules` among them.

    Raises:
        InputError: an unknown name or field; `place` names where it was given.
    """
    if isinstance(given, AnswerProtocol):
        return given
    if isinstance(given, Mapping):
        where = f"{place}: answer_protocol" if place else "answer_protocol"
        protocol = from_mapping(AnswerProtocol, {"name": "own", **given}, where)
        for rule in protocol.rules:
            try:
                re.compile(rule.pattern)
            except re.error as error:
                raise InputError(f"{where}: pattern {rule.pattern!r} is no regular expression ({error}).") from None
        return protocol
    if given not in PROTOCOLS:
        before = f"{place}: " if place else ""
        raise InputError(f"{before}unknown answer protocol '{given}'; known: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[given]
