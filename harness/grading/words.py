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
    """The numeral for a number word up to a hundred, the sign for an infinity in words."""
    if not re.fullmatch(r"[A-Za-z -]+", re.sub(r"\\text\{([^{}]*)\}", r"\1", normal)) or normal.startswith("-"):
        return None
    words = plain(normal)
    size = re.sub(r"^(?:minus|negative) ", "", words)
    return f"{'-' if size != words else ''}{_NUMBERS[size]}" if size in _NUMBERS else _INFINITIES.get(words)


def same_words(gold: str, answer: str) -> bool:
    """Whether two answers in words say the same; a sentence may lead up to the gold words with "is"."""
    left, right = meaning(gold), meaning(answer)
    if not re.search(r"[^\W\d_]", left) or not right:
        return False
    if left == right or (left.replace(" ", "") == right.replace(" ", "") and not re.search(r"\d", left)):
        return True
    if {left, right} <= {"<empty>", "<undefined>"} and left != right:
        return False
    if left in _ORDINALS or right in _ORDINALS:
        return _ordinal(left) == _ordinal(right)
    return bool(re.fullmatch(rf"[a-z ]{{0,60}}\b(?:is|are|was) (?:always |therefore )?{re.escape(left)}", right))


def _ordinal(words: str) -> str:
    if words in _ORDINALS:
        return f"{_ORDINALS.index(words)}th"
    return re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "th", words)


def choice(normal: str) -> tuple[str, str] | None:
    """The letter of a multiple-choice answer and the text behind it, as in `(B) 42`; None without a letter."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", normal).strip()
    found = _CHOICE.match(text)
    return (found[1] or found[2], found[3].strip()) if found else None


def letters(normal: str) -> frozenset[str] | None:
    """The letters of an answer to a question with several right options, such as `ACD` and `A, C, D`."""
    if "(" in normal and "," in normal:
        return None
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", normal)
    text = re.sub(r"\\(?:and|or)|\band\b|[\s,;()]", "", text)
    return frozenset(text) if re.fullmatch(r"[A-H]{2,8}", text) and len(set(text)) == len(text) else None


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
