"""Find the final answer of a response by the rules of a protocol."""

from __future__ import annotations

import re

from harness.grading import letters
from harness.grading.answer_protocols import DEFAULT, FINAL, AnswerProtocol, Rule
from harness.grading.brackets import boxes

MAX_RESPONSE_LENGTH = 400_000
"""Characters of a response that are read, counted from its end."""

MAX_ANSWER_LENGTH = 20_000
"""Characters behind a marker in which its answer is looked for."""

MAX_MARKERS = 50
"""The last markers behind a box that are tried for a value."""

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_EXPRESSION = re.compile(
    r"[-−]?\s?(?:[$€£¥]\s?)?(?:\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}"
    rf"|(?:\\sqrt\s*\{{[^{{}}]*\}})|(?:{_NUMBER})?\s?(?:√\s?\d+|π)(?:\s?/\s?\d+)?|(?:{_NUMBER})(?:\s?/\s?(?:{_NUMBER}))?(?:[eE][-+]?\d+)?)\s?(?:\\?%)?"
)
_MATH = re.compile(
    r"\$\$(.{1,2000}?)\$\$|\\\[(.{1,2000}?)\\\]|\\\((.{1,2000}?)\\\)|(?<![\\$])\$(?!\$)([^$\n]{1,2000}?)(?<!\\)\$",
    re.DOTALL,
)
_NEGATED = re.compile(
    r"(?:(?:\bnot|n't)(?:\s+(?:equal to|be))?|\b(?:more|less|greater|fewer|larger|smaller|other) than)\s*\$?$",
    re.IGNORECASE,
)
_CONNECTOR = re.compile(
    r"(?:\s|\\[()\[\],;:!]|\\q?quad|[$,;&*.]|\\text\s*\{[^{}]{0,40}\}|\b(?:and|or|for part \(\w\))\b"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*=|\\\\)*"
)


_END_OF_SENTENCE = re.compile(
    r"(?<=[^\d\s])(?<!\b[DM]r)(?<!\bMrs)(?<!\bMs)(?<!\bSt)[.。!?！？](?:\s|$|[A-Z<])|\.(?:\s|$)|[。！？]|<\||I hope"
)
_THOUGHT_ENDS = re.compile(r"</think>|<\|channel\|>final<\|message\|>")
_THOUGHT_BEGINS = ("<think>", "<|channel|>analysis")
_END_OF_TURN = re.compile(r"(?:<\|[a-z_]{1,20}\|>|</s>|<eos>|<end_of_turn>)\Z")
"""The signs with which models end."""
_GUESSES = {"whole", "math", "number"}
"""Kinds of rules that take for the answer what nothing marks as one."""
_STATED = re.compile(rf"(?:\b(?:is|are|was|were|equals?|totals?|gets?|has|have|left)\b|=)\s*(?:[$€£¥]\s?)?({_NUMBER})")
_RATIO = re.compile(r"(?<![\d.:])\d{1,5}(?::\d{1,5}){1,3}(?![\d:]|\.\d)")
_WORKING = re.compile(r"(?<=[a-z%] )\(\s?[$\d.]+(?:\s?[-+*/×·]\s?[$\d.]+)+\s?\)(?=\W*\Z)")
"""How a number came about, in brackets at the end: `(10 + 20)`."""
_ASIDE = re.compile(r"\b(?:than|because|since|when|after|for|per|in|with|within|until|before|if)\b")
_UNFINISHED = re.compile(
    r"[,:;=+\-(]\s*$|\b(?:the|an?|and|or|to|by|of|we|is|are|with|then|so|next|now|need|compute|get|have|for|in|that|which|if)\s*$",
    re.IGNORECASE,
)


def extract_answer(text: str, protocol: AnswerProtocol = DEFAULT, *, marked_only: bool = False) -> str | None:
    """The final answer of a response as the protocol reads it; None if there is none.

    `marked_only` is for responses that were cut off: only what a box, a tag or words mark as the answer is one.
    """
    text = text[-MAX_RESPONSE_LENGTH:]
    while text.endswith(">") and (sign := _END_OF_TURN.search(text, max(0, len(text) - 24))):
        text = text[: sign.start()].rstrip()
    if protocol.skip_thinking:
        text = without_thought(text)
    lower = text.lower()
    for rule in protocol.rules:
        if (marked_only and rule.kind in _GUESSES) or (rule.needs and not any(word in lower for word in rule.needs)):
            continue
        found = _FINDERS[rule.kind](text, rule)
        if found is None:
            continue
        position, answer = found
        if rule.kind == "boxed" and protocol.latest and (later := _after(text, position)) is not None:
            return later
        return answer
    return None


def behind_thought(text: str) -> str:
    """What follows the last thought's end, `</think>` or the beginning of harmony's channel `final`; else all of it."""
    return _THOUGHT_ENDS.split(text)[-1]


def without_thought(text: str) -> str:
    """What follows the last thought; "" if a thought never ends, all of it if there is none."""
    rest = behind_thought(text)
    return "" if rest == text and any(begin in text for begin in _THOUGHT_BEGINS) else rest


def _after(text: str, position: int) -> str | None:
    """A "final answer is" that stands after the last box and gives a value of its own."""
    tail = text[position:]
    for match in reversed(list(re.finditer(FINAL, tail))[-MAX_MARKERS:]):
        answer = _sentence(tail[match.end() : match.end() + MAX_ANSWER_LENGTH])
        if "\\boxed" not in answer and re.search(r"\d|\$|\\[a-z]+", answer) and len(answer) < 200:
            return answer
    return None


def last_boxes(text: str) -> str | None:
    """The content of the last box; boxes that only connectors part form one answer."""
    found = _boxed(text, Rule("boxed"))
    return found[1] if found else None


def _boxed(text: str, rule: Rule) -> tuple[int, str] | None:
    """The last box; boxes that only connectors part form one answer."""
    found = [b for b in boxes(text) if b[2].strip()]
    if not found:
        return None
    if rule.which == "first":
        return found[0][1], found[0][2]
    group = [found[-1]]
    for box in reversed(found[:-1]):
        gap = text[box[1] : group[0][0]]
        if len(gap) > 80 or not gap.strip() or not _CONNECTOR.fullmatch(gap) or re.search(r"\n\s*\n|[.]\s", gap):
            break
        group.insert(0, box)
    contents = list(dict.fromkeys(content.strip() for _, _, content in group))
    return group[-1][1], ", ".join(contents)


def _tag(text: str, rule: Rule) -> tuple[int, str] | None:
    closed = [match.end() for match in re.finditer(f"</{rule.pattern}>", text, re.IGNORECASE)]
    if not closed:
        return None
    # Up to the last end only, so that every beginning finds one: the time is linear.
    found = list(re.finditer(rf"<{rule.pattern}>(.*?)</{rule.pattern}>", text[: closed[-1]], re.DOTALL | re.IGNORECASE))
    if not found:
        return None
    content = found[-1][1].strip()
    if box := _boxed(content, Rule("boxed")):
        content = box[1]
    return found[-1].end(), content


def _marker(text: str, rule: Rule) -> tuple[int, str] | None:
    found = list(re.finditer(rule.pattern, text))
    for match in found if rule.which == "first" else reversed(found):
        rest = text[match.end() : match.end() + MAX_ANSWER_LENGTH]
        if rule.scope == "number":
            number = re.match(r"-?[0-9.,]+", rest)
            return (match.end(), number[0].rstrip(".,")) if number else None
        if rule.scope == "rest":
            answer = rest.strip()
        elif rule.scope == "line":
            answer = rest.strip().split("\n", 1)[0].strip()
        else:
            answer = _sentence(rest)
        if answer:
            return match.end(), answer
    return None


def _sentence(rest: str) -> str:
    """The answer that opens `rest`: one formula, or the text up to the end of the sentence."""
    rest = rest.lstrip(" \t\n*:_")
    if (math := _MATH.match(rest)) and not re.match(r"\s*(?:\\?%|,|and\b|or\b|[a-zA-Z(])", rest[math.end() :]):
        return math[0]
    line = re.split(r"\n", rest, maxsplit=1)[0]
    line = _END_OF_SENTENCE.split(line, maxsplit=1)[0]
    line = line.strip().strip("*").rstrip(".,;?").strip()
    if (math := _MATH.search(line)) and re.match(r"(?:then|therefore|just|simply|thus|hence|the|given by)\b", line):
        return math[0]
    return value_in(line) if _is_prose(line) else line


def _is_prose(text: str) -> bool:
    bare = re.sub(r"\\(?:text|mbox|mathrm)\s*\{[^{}]*\}|\\[a-zA-Z]+|\$[^$]*\$", " ", text)
    words = len(re.findall(r"[^\W\d_]{2,}", bare))
    return words > (2 if re.search(r"\bis\b", bare) else 4) or bool(
        re.search(r"[^\W\d_\x00-\u024f]{2,}", bare) and re.search(r"\d", text)
    )


def value_in(sentence: str) -> str:
    """The value a sentence states: the one behind its last "is" or "=", else its first; the sentence if it has none."""
    stated = re.split(r"(?<![<>!])=|\b(?:is|are|est|equals)\b|[为是]", sentence)
    for part in (stated[-1], sentence):
        if math := _MATH.search(part):
            return math[0]
        if (number := _EXPRESSION.search(part)) and re.search(r"\d", number[0]):
            return number[0].strip()
    return sentence


def _math(text: str, rule: Rule) -> tuple[int, str] | None:
    """The last formula, if no number follows it in a later sentence."""
    found = [m for m in _MATH.finditer(text) if len(re.findall(r"(?<!\\)\b[a-z]{3,}\b(?![^{]*\})", m[0])) < 2]
    if not found:
        return None
    last = found[-1]
    if _NEGATED.search(text[: last.start()]) or _box_is_cut_off(text) or _no_statement(text, last.start(), last.end()):
        return None
    tail = text[last.end() :]
    if _EXPRESSION.search(tail) and (re.search(r"[.。!?]\s", tail) or len(re.findall(r"[a-z]{2,}", tail)) > 4):
        return None
    contents = [_content(last)]
    for before, after in zip(reversed(found[:-1]), reversed(found), strict=False):
        if not re.fullmatch(r"\s*(?:,|,?\s*(?:and|or))\s*", text[before.end() : after.start()]):
            break
        contents.insert(0, _content(before))
    answer = ", ".join(contents)
    return (last.end(), answer) if re.search(r"[\w\\]", answer) else None


def _content(math: re.Match[str]) -> str:
    return next(group for group in math.groups() if group is not None).strip()


def _box_is_cut_off(text: str) -> bool:
    r"""Whether the text ends inside the only `\boxed{`, so that part of the answer is missing."""
    return "\\boxed" in text and not boxes(text)


def _no_statement(text: str, start: int, end: int) -> bool:
    """Whether a number or formula that nothing marks stands in a refusal, or in front of a sentence that breaks off."""
    begin = max((m.end() for m in re.finditer(r"[.!?。！？]\s|\n", text[:start])), default=0)
    if letters.UNCERTAIN.search(text[begin:]):
        return True
    tail = text[end:].partition("<|")[0].rstrip("$ \n")
    if not re.search(r"[^\W\d_]{2,}", tail) and not re.search(r"[,=+(]\s*$", tail):
        return False
    breaks_off = re.search(r"[.!?。！？]\s+[^.!?。！？]*[^\W_]$", tail) and not re.search(r"\d", tail)
    return bool(breaks_off or _UNFINISHED.search(tail))


def _stated(text: str, last: re.Match[str]) -> re.Match[str]:
    """The number its sentence states, where the last stands in an aside.

    `2 items sold for less than 5 units`, `30 minutes in total (10 + 20)`.
    """
    working = _WORKING.search(text, max(0, last.start() - 100)) if ")" in text[last.end() :] else None
    if (
        working is not None
        and working.start() < last.start()
        and (before := list(_EXPRESSION.finditer(text, 0, working.start())))
    ):
        return before[-1]
    begin = max((m.end() for m in re.finditer(r"[.!?。！？]\s|\n", text[: last.start()])), default=0)
    found = list(_STATED.finditer(text, begin, last.start()))
    if not found:
        return last
    aside = text[found[-1].end() : last.start()]
    if not _ASIDE.search(aside) or re.search(r"\b(?:and|or|but|so)\b|[=,;]", aside):
        return last
    return _EXPRESSION.match(text, found[-1].start(1)) or last


def _ratio_of(text: str, part: re.Match[str]) -> re.Match[str] | None:
    """The ratio or time of day, such as `2:3`, of which a number is the last part."""
    return next((m for m in _RATIO.finditer(text, max(0, part.start() - 24)) if m.end() == part.end()), None)


def _number(text: str, rule: Rule) -> tuple[int, str] | None:
    found = [m for m in _EXPRESSION.finditer(text) if re.search(r"[\dπ]", m[0])]
    if not found:
        return None
    match = found[-1] if rule.which == "last" else found[0]
    if rule.which == "last":
        match = _stated(text, match)
    if text[match.start() - 1 : match.start()] == ":" and (ratio := _ratio_of(text, match)) is not None:
        match = ratio
    if (
        _NEGATED.search(text[: match.start()])
        or _box_is_cut_off(text)
        or _no_statement(text, match.start(), match.end())
    ):
        return None
    answer = match[0].strip()
    if answer[:1] in "-−" and match.start() and re.match(r"[\w)\]}]", text[match.start() - 1]):
        answer = answer[1:].strip()  # a difference or a range, not a sign
    return match.end(), answer


def _bold(text: str, rule: Rule) -> tuple[int, str] | None:
    found = list(re.finditer(r"\*\*([^*\n]+)\*\*", text))
    return (found[-1].end(), found[-1][1].strip()) if found else None


def _whole(text: str, rule: Rule) -> tuple[int, str] | None:
    """The text itself, where it is one short formula or a word or two and no prose."""
    answer = text.strip()
    if not answer or len(answer) > 300 or "\n" in answer:
        return None
    if _MATH.fullmatch(answer) and answer.count("$") <= 4:
        return len(text), answer
    if re.search(r"[^\W\d_\x00-\u03ff]{2,}", answer) or re.match(
        r"(?!sin|cos|tan|log|ln|sqrt)[A-Za-z]{3,}\W.*\d", answer
    ):
        return None
    bare = re.sub(r"\\[a-zA-Z]+|\\.", " ", answer)
    words = re.findall(r"[^\W\d_]{2,}", bare)
    if "\\boxed" in answer or (len(words) == len(bare.split()) - 1 and re.match(r"I\b", answer)):
        return None  # a box that never closes, or a person who speaks
    return (len(text), answer) if "$" not in bare and len(words) <= 2 and not _MATH.search(answer) else None


def _choice(text: str, rule: Rule) -> tuple[int, str] | None:
    """The letters a response chooses; with a pattern, the one letter that follows it."""
    if not rule.pattern:
        answer = letters.chosen(text)
        return None if answer is None else (len(text), answer)
    # Blanks can be matched in one way only, and a marker (`?>`) keeps what it took, so the time is linear.
    letter = r"[\s*_]*(?:(?:\\\(|\$)\s*)?(?:\\(?:text|mathrm|mathbf|textbf)\s*\{\s*)?(?:[(\[]\s*)?([A-J])(?![A-Za-z'’])"
    found = list(re.finditer(f"(?>{rule.pattern}){letter}", text))
    return (found[-1].end(), found[-1][1]) if found else None


def _json(text: str, rule: Rule) -> tuple[int, str] | None:
    """The value under the key "answer" of the last object that has one."""
    found = list(re.finditer(r'"(?:final[_ ]?)?answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,}"]+))', text, re.IGNORECASE))
    if not found:
        return None
    quoted, bare = found[-1].groups()
    return found[-1].end(), (bare if bare is not None else re.sub(r'\\([\\"])', r"\1", quoted)).strip()


_FINDERS = {
    "boxed": _boxed,
    "tag": _tag,
    "marker": _marker,
    "math": _math,
    "number": _number,
    "bold": _bold,
    "whole": _whole,
    "choice": _choice,
    "json": _json,
}
