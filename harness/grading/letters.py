r"""Which options a response chooses: one letter, several, or none. A is a letter like the others.

A letter counts where words mark it ("the answer is", "option A is correct", 【答案】, 故选, `####`, a box), where it
opens the response as a label (`B. ...`), or where it ends a last sentence that names no other. Of several marked
letters the last counts; several letters in one place are one answer of several letters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.grading.answer_protocols import MARKER
from harness.grading.brackets import boxes

# Every run of blanks can be matched in one way only (`?>` keeps what it took), so the time is linear.
_OPEN = (
    r"(?>[\s*_$:：(（【\[「\"“]*)(?>(?:\\\()?\s*)(?>(?:\\(?:text|mathrm|mathbf|textbf|boxed|fbox)\s?\{[\s(*]{0,4})*)"
)
_ONE = r"(?:[(（\[]\s?)?[A-J](?:\s?[)）\]])?"
_SEPARATOR = (
    r"(?:[\s}$*]{0,6}(?:,|，|、|;|；|/|&|\band\b|\bor\b|和|及|或)(?:\s{0,3}(?:and|or)\b)?[\s$*(]{0,6}(?:\\text\s?\{\s?\(?)?"
    r"| (?=[A-HJ](?![A-Za-z'’]|\s[a-z])))"
)
_END = r"(?![A-Za-z'’]|\s{0,3}(?:[=<>+^/]|\*(?!\*))|\s{0,3}\\(?!text|\)))"
_GROUP = rf"(?:[A-J]{{2,8}}{_END}|{_ONE}{_END}(?:{_SEPARATOR}{_ONE}{_END}){{0,8}})"
_TAIL = r"[)\s}$*]{0,6}"
_MARKERS = (
    MARKER,
    r"(?i:\b(?:final\s+)?answer[\s*]*[:：])",
    r"【答案】",
    r"答案(?>[\s*]*)(?:应该|应)?[是为选：:\s]*",
    r"(?:选择|选)(?!项)",
    r"####",
    r"(?i:\b(?:correct|right|best|only)\s+(?:options?|choices?|answers?|statements?)\s*(?:is|are|:))",
    r"(?i:\b(?:choose|select|pick|go with|opt for)\s+(?:(?:the\s+)?(?:option|choice|answer)s?)?)",
    r"(?:正确|符合题意)的?(?:选项|答案|命题|结论|说法)?(?:分别|有)?[是为：:]*",
)
_MARKED = re.compile(
    rf"(?P<negated>(?:\bnot|n't|不)\s{{0,3}})?(?>{'|'.join(_MARKERS)}){_OPEN}(?>(?i:(?:option|choice|选项)s?)?){_OPEN}"
    rf"(?P<group>{_GROUP})"
)
_PRAISED = re.compile(
    rf"(?:(?i:\b(?:options?|choices?|answers?|statements?))\s{{0,3}}|选项\s{{0,3}}|(?<![\w'’]))(?P<group>{_GROUP}){_TAIL}"
    r"(?i:(?:is|are)\s+(?:both\s+|all\s+|therefore\s+)?(?:the\s+)?(?:only\s+)?(?:correct|right|best|true|answer)\b|"
    r"(?:项|选项)?\s?(?:是)?(?:正确|符合(?:题意|要求)))"
)
_LABEL = re.compile(rf"{_OPEN}(?P<group>{_GROUP}){_TAIL}(?=[).:：。、\]]|\Z|\n|[^\x00-\x7f])")
_OTHER_LABEL = re.compile(r"(?:^|[\s(])([A-J])[).:：]\s")
_LAST = re.compile(rf"(?<![A-Za-z'’\\])(?P<group>{_GROUP})\W*\Z")
_IN_BRACKETS = re.compile(r"\(([A-J])\)")
_CONTENT = re.compile(
    rf"{_OPEN}(?>(?i:(?:option|choice|answer)s?\s{{0,3}}(?:is|:)?)?){_OPEN}(?P<group>{_GROUP}){_TAIL}(?:\Z|(?=[).:：,]|\s))"
)
UNCERTAIN = re.compile(
    r"\b(?:sorry|unable|not able|not sure|unsure|uncertain|refuse|as an AI|maybe|perhaps|could be|might be|either"
    r"|neither|(?:can|could|do|does|did|would)(?:\s?not|n['’]t)\s+(?:be\s+|possibly\s+)?"
    r"(?:answer|answered|solve|solved|determine|determined|provide|help|know|compute|computed|decide|assist|say|tell|choose)"
    r"|insufficient|not enough information|impossible to (?:say|tell|know|determine|decide|compute|answer)"
    r"|(?:did|do|does|have|has)(?: not|n['’]t) (?:give|given|provide|provided|specify|specified|include|included)"
    r"|please (?:provide|specify|clarify|share|upload|give|send))\b|无法|不能确定|不知道|不确定|抱歉",
    re.IGNORECASE,
)
"""Words of a response that refuses or does not know."""


def option_text(letter: str, choices: Sequence[str]) -> str | None:
    """What the option of that letter says, without the letter in front of it; None where there is no such option."""
    index = ord(letter.strip().strip("()")[:1] or "?") - ord("A")
    if not 0 <= index < len(choices):
        return None
    text = re.sub(r"^\s*[(（]?[A-J][)）.:：、]\s*", "", choices[index]).strip()
    return text if text and not re.fullmatch(r"[A-J]", text) else None


def chosen(text: str) -> str | None:
    """The letters a response chooses, as `A` or `A, C`; None where it marks none."""
    found: list[tuple[int, str]] = []
    if opened := boxes(text):
        _, end, content = opened[-1]
        letters = _CONTENT.match(content.strip())
        if letters is not None:
            found.append((end, letters["group"]))
    found += [(match.end(), match["group"]) for match in _MARKED.finditer(text) if not match["negated"]]
    found += [(match.end("group"), match["group"]) for match in _PRAISED.finditer(text) if _is_praise(match, text)]
    if found:
        return _written(max(found, key=lambda item: item[0])[1])
    if opened:
        return None
    label = _LABEL.match(text.strip())
    if label and not ({m[1] for m in _OTHER_LABEL.finditer(text, label.end())} - set(label["group"])):
        return _written(label["group"])
    return _at_the_end(text)


def _at_the_end(text: str) -> str | None:
    """The letter of a last sentence that names one option only and is no refusal."""
    sentence = re.split(r"(?<=[.!?。！？])\s+|[。！？\n]", text.strip())[-1]
    if UNCERTAIN.search(sentence) or re.search(r"\?\s*$", sentence):
        return None
    named = set(_IN_BRACKETS.findall(sentence))
    if len(named) > 1:
        return None
    if named:
        return named.pop()
    last = _LAST.search(sentence)
    if last is None or re.search(r"[A-J]\s+to\s+\W*$|(?:\bnot|n't)\s+\W*$", sentence[: last.end("group") - 1]):
        return None
    return _written(last["group"])


def _is_praise(match: re.Match[str], text: str) -> bool:
    """Whether "E is right" says so of the option E: not "A to E is right", nor a sentence that does not know."""
    before = text[: match.start("group")].rstrip()
    sentence = re.split(r"[.!?。！？]\s|\n", before)[-1]
    return not UNCERTAIN.search(sentence) and not re.search(r"[A-J]\s+to$|\bif$|\bwhether$", before)


def _written(group: str) -> str:
    """The letters of a group, in order; an alternative stays one, as it chooses nothing."""
    letters = re.findall(r"[A-J]", re.sub(r"\b(?:and|or)\b|\\text", " ", group))
    between = " or " if re.search(r"\bor\b|或", group) else ", "
    return between.join(letters)
