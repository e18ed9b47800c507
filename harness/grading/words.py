"""Answers in words: choice letters, times of day, phrases that mean the same."""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import re

_EMPTY = {
    "no solution",
    "no solutions",
    "no real solution",
    "no real solutions",
    "none",
    "no answer",
    "empty set",
    "the empty set",
    "null set",
    "there is no solution",
    "there are no solutions",
    "no such",
    "no integer solutions",
    "no solution exists",
    "no solutions exist",
    "there is no real solution",
    "there are no real solutions",
    "emptyset",
    "{}",
    "无解",
}
_UNDEFINED = {
    "undefined",
    "does not exist",
    "dne",
    "doesnt exist",
    "not defined",
    "do not exist",
    "limit does not exist",
    "不存在",
}
_INFINITE = {
    "infinitely many",
    "infinite",
    "infinitely many solutions",
    "infinite solutions",
    "infinity",
    "infinite number",
    "infinite many",
    "an infinite number",
    "infinite number of solutions",
    "无数",
    "无穷多",
}
_REALS = {
    "all real numbers",
    "all reals",
    "real numbers",
    "the set of all real numbers",
    "any real number",
    "all real number",
    "reals",
    "set of all real numbers",
    "全体实数",
}
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = {word: value for value, word in enumerate(_UNITS)} | {
    "one hundred": 100,
    "hundred": 100,
    "one thousand": 1000,
}
for _value, _word in enumerate(_TENS, 2):
    _NUMBERS |= {_word: 10 * _value} | {f"{_word} {unit}": 10 * _value + i for i, unit in enumerate(_UNITS[:10]) if i}
_INFINITIES = {
    "infinity": "\\infty", "positive infinity": "\\infty", "plus infinity": "\\infty", "negative infinity": "-\\infty",
    "minus infinity": "-\\infty",
}  # fmt: skip
_ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth".split()
_ARTICLES = re.compile(r"\b(?:the|a|an)\b")
for _phrases in (_EMPTY, _UNDEFINED, _INFINITE, _REALS):  # as `plain` leaves them
    _phrases |= {_ARTICLES.sub(" ", phrase).strip() for phrase in _phrases}
_CHOICE = re.compile(
    r"^(?:(?i:(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?:option|choice|answer)\s*(?:is\s*|:\s*)?))?(?:\(([A-J])\)|([A-J])(?:[.):]|\s*[:：]|(?=\s+[A-Z0-9$\\\-(])|$))\s*(.*)$",
    re.DOTALL,
)
_GOLD_CHOICE = re.compile(
    r"^(?:(?i:(?:option|choice)\s*))?(?:\(([A-J])\)|([A-J])(?=\s*(?:$|[.)])|\s+[A-Z][a-z]+(?:\s+[A-Za-z]+)*$))\s*[.):：]?\s*(.*)$",
    re.DOTALL,
)
ALTERNATIVE = r"(?:\\?(?:or|and)\b|,|/)\s*\(?[A-J]\b"
"""A second letter behind the first."""
_TIME = re.compile(r"^(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?\s*(?:([ap])\.?\s*m\.?)?$", re.IGNORECASE)


def plain(normal: str) -> str:
    """The words of an answer in normal form, lower case, without markup, articles and punctuation."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", normal)
    text = re.sub(r"\\(?:and|or)\b", lambda m: " " + m[0][1:] + " ", text)
    text = text.replace("\\", " ").replace("'", "").lower()
    text = re.sub(r"[.,;:!?\"`*_{}()\[\]$-]+", " ", text)
    return re.sub(r"\s+", " ", _ARTICLES.sub(" ", text)).strip()


def meaning(normal: str) -> str:
    """A canonical word for phrases of one meaning; for the rest the plain words themselves."""
    words = plain(normal)
    if words == "emptyset" and normal.startswith("\\{"):
        return words  # the set of the empty set
    for name, phrases in (
        ("<empty>", _EMPTY),
        ("<undefined>", _UNDEFINED),
        ("<infinite>", _INFINITE),
        ("<reals>", _REALS),
    ):
        if words in phrases:
            return name
    return words


def as_number(normal: str) -> str | None:
    """The numeral for a number word up to a hundred or an ordinal up to ten, the sign for an infinity in words."""
    if not re.fullmatch(r"[A-Za-z -]+", re.sub(r"\\text\{([^{}]*)\}", r"\1", normal)) or normal.startswith("-"):
        return None
    words = plain(normal)
    if words in _ORDINALS:
        return str(_ORDINALS.index(words))
    size = re.sub(r"^(?:minus|negative) ", "", words)
    return f"{'-' if size != words else ''}{_NUMBERS[size]}" if size in _NUMBERS else _INFINITIES.get(words)


def same_words(gold: str, answer: str) -> bool:
    """Whether two answers in words say the same; a sentence may lead up to the gold words with "is".

    Where an operator, a digit or a command stands in either, nothing but spaces and articles is passed over.
    """
    if _is_mathematical(gold) or _is_mathematical(answer):
        left_signs, right_signs = signs(gold), signs(answer)
        start = len(right_signs) - len(left_signs)
        if left_signs == right_signs:
            return bool(left_signs)
        lead = " ".join(right_signs[:start])
        return start > 0 and right_signs[start:] == left_signs and bool(_LEAD.fullmatch(lead))
    left, right = meaning(gold), meaning(answer)
    if not re.search(r"[^\W\d_]", left) or not right:
        return False
    if left == right or left.replace(" ", "") == right.replace(" ", ""):
        return True
    if {left, right} <= {"<empty>", "<undefined>"} and left != right:
        return False
    lead = (
        r"[a-z ]{0,60}\b(?:is|are|was)(?: always| therefore)? |"
        r"(?:(?:given|improper|infinite|whole) )*(?:series|integral|sequence) "
    )
    return bool(re.fullmatch(rf"(?:{lead}){re.escape(left)}", right))


_LEAD = re.compile(r"[a-z ]{0,60}\b(?:is|are|was)(?: always| therefore)?")
_SIGN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+|\S")


def _is_mathematical(normal: str) -> bool:
    """Whether operators, digits or commands stand among the words."""
    text = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", normal))
    return (
        bool(re.search(r"[-+*/^=<>|_\d]|[(\[][^()\[\]]*,|\\(?!and\b|or\b)[a-zA-Z{]", text))
        and meaning(normal)[:1] != "<"
    )


def signs(normal: str) -> list[str]:
    """The tokens of an answer: words without case and articles, and every operator, digit, command and bracket."""
    text = re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", normal)
    for _ in range(3):
        text = re.sub(r"(?<!\\)\{\s*([^\s{}\\]|\\[a-zA-Z]+)\s*\}", r" \1 ", text)
    text = re.sub(r"\\(and|or)\b", r" \1 ", text)
    found = [t if t[0] == "\\" or len(t) == 1 else t.lower() for t in _SIGN.findall(text)]
    last = len(found) - 1
    return [
        t
        for i, t in enumerate(found)
        if not (t == "*" and 0 < i < last)
        and t not in {"the", "an", '"', "`"}
        and not (t in {".", ",", ";"} and i == last)
        and not (t == "a" and i < last and len(found[i + 1]) > 1 and found[i + 1].isalpha())
    ]


_OPERATOR = re.compile(r"[=<>+\-*/^_|!:]|\\(?!text|frac|sqrt|pi|left|\$|\{|infty)[a-z]")


def gold_choice(normal: str) -> tuple[str, str] | None:
    """The letter of a gold answer that is a choice and the text behind it: `B`, `(B)`, `(B) 42`, `B. 42`; else None."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", normal).strip()
    found = _GOLD_CHOICE.match(text)
    if not found or _OPERATOR.match(found[3]) or re.match(ALTERNATIVE, found[3]):
        return None
    return found[1] or found[2], found[3]


def choice(normal: str) -> tuple[str, str] | None:
    """The letter of a multiple-choice answer and the text behind it, as in `(B) 42`; None without a letter."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", normal).strip()
    found = _CHOICE.match(text)
    return (found[1] or found[2], found[3].strip()) if found else None


def letters(normal: str) -> frozenset[str] | None:
    """The letters of an answer to a question with several right options, such as `ACD`, `A, C, D` and `(A), (C)`."""
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", normal)
    each = re.sub(r"\(([A-J])\)", r"\1", text)
    if "(" in each and "," in each:
        return None
    text = re.sub(r"\\?\band\b|[\s,;()]", "", each)
    return frozenset(text) if re.fullmatch(r"[A-H]{2,8}", text) and len(set(text)) == len(text) else None


def letter_row(normal: str) -> tuple[str, ...] | None:
    """The letters of a row such as `A, A, B`, where order and repetition count; None if each stands there once."""
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", normal).replace(" ", "")
    row = tuple(text.split(","))
    return row if re.fullmatch(r"[A-J](?:,[A-J])+", text) and len(set(row)) < len(row) else None


def time_of_day(normal: str) -> tuple[int, int, int, str] | None:
    """Hour, minute, second and half of the day ("a", "p" or "" where unsaid)."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", normal).strip()
    text = {"noon": "12:00 pm", "midnight": "12:00 am"}.get(text.lower(), text)
    text = re.sub(r"\s*(?:o'clock|noon)$", lambda m: " pm" if "noon" in m[0] else "", text)
    found = _TIME.match(re.sub(r"\s+", " ", text).strip())
    if not found or not (found[2] or found[4]):
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if hour > 24 or minute > 59 or second > 59 or (found[4] and not 1 <= hour <= 12):
        return None
    return hour, minute, second, (found[4] or "").lower()


def same_time(gold: tuple[int, int, int, str], answer: tuple[int, int, int, str]) -> bool:
    """Whether two times of day are the same; morning or afternoon may be unsaid on one side."""
    if bool(gold[3]) == bool(answer[3]):
        return gold == answer
    said, unsaid = (gold, answer) if gold[3] else (answer, gold)
    hour = said[0] % 12 + (12 if said[3] == "p" else 0)
    return gold[1:3] == answer[1:3] and (unsaid[0] == hour or (unsaid[0] <= 12 and unsaid[0] % 12 == said[0] % 12))
