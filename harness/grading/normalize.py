r"""One spelling for what can be spelled in many ways: delimiters, unicode, spacing, synonyms of LaTeX commands.

The result is still LaTeX. Two answers with the same normal form are the same answer, and the parser reads nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from harness.grading import programs, spellings
from harness.grading.brackets import boxes, matching_brace
from harness.grading.extract import last_boxes
from harness.grading.vocabulary import CHARACTERS, DROPPED, KNOWN, SUBSCRIPTS, SUPERSCRIPTS, SYNONYMS, VULGAR

_SPACES = {"quad", "qquad", " ", ",", ";", ":", "!", "~", "enspace", "thinspace", "space", "hspace", "hskip", "/", "\n"}
_TEXT_COMMANDS = "text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|mathrm|emph|operatorname|mathtt|bf|rm"
_LEAD = re.compile(
    r"^\**(?i:(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|solutions?)\s*(?:is|are|:)?\**\s*:?\s+(?=[\\$\d(\[{+-]|[A-J]\b))"
)
_OPENING = re.compile(
    r"^(?:(?i:so|thus|hence|therefore|(?:I|we) (?:get|have)|it(?: is|'s)),?\s+(?=[\\$\d(\[{+-]|[a-zA-Z]\s*=)|=\s*)"
)
_BUILDER = re.compile(r"\{\s*\(?[a-zA-Z](?:\s*,\s*[a-zA-Z]\s*\))?[^{}|:]{0,20}(?:[|:]|\\mid|\\vert)")
_COMMAND = re.compile(r"\\([a-zA-Z]+\*?|.|\n)\s*", re.DOTALL)
_TEXT = re.compile(rf"\\(?:{_TEXT_COMMANDS})\s*\{{([^{{}}]*)\}}")
_SIDE_BY_SIDE = re.compile(r"(?<=[\w})])\s*\\q?quad\s*(?=\\?[A-Za-z]+(?:_\w|\([a-z]\))?\s*=)")
"""The wide space between two equations."""
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ("```", "```"))

MAX_LENGTH = 4000
"""Answers longer than this are compared as plain text only."""


@lru_cache(maxsize=16384)
def normalize(text: str) -> str:
    """The normal form of an answer."""
    if len(text) > MAX_LENGTH:
        return text.strip()
    text = programs.from_program(unwrap(from_unicode(text)))
    text = spellings.before_commands(text)
    if "\\\\" in text and "\\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z{}%$])", r"\\", text)
    text = _math_delimiters(text)
    if re.fullmatch(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?", text):
        text = text.replace(" ", "")
    if re.search(r"\d,\s", text):  # commas without a space group digits where those between members have one
        text = re.sub(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,]\d)", lambda m: m[0].replace(",", ""), text)
    text = re.sub(r"(\d)\s*(?:\{,\}|,\s*\\!|\\!\s*,)\s*(?:\\!)?\s*(?=\d{3})", r"\1,", text)
    text = re.sub(r"(\d)\\[,!;:]\s*(?=\d{3}(?!\d))", r"\1", text)
    text = re.sub(r"\\(?:hspace|vspace|label|phantom|tag)\*?\s*\{[^{}]*\}", " ", text)
    text = re.sub(r"\\(?:color|textcolor)\s*\{[^{}]*\}", " ", text)
    if "quad" in text:
        text = _SIDE_BY_SIDE.sub(",", text)
    text = spellings.repeating(_COMMAND.sub(_command, spellings.vectors(text)))
    if "{(" in text or "{ (" in text:  # `f{\left(x\right)}`
        text = re.sub(r"(?<![A-Za-z\\])([a-zA-Z])\{\s*(\([^{}()]*\))\s*\}", r"\1\2", text)
    if "'" in text:
        text = re.sub(r"\^\s*\{?\s*('+)\s*\}?", r"\1", text)
    text = spellings.kets(text)
    text = re.sub(r"^(?:Rs|INR|USD|EUR|GBP|RMB)\.?\s*(?=\\?\$?\d)", "", text)
    text = re.sub(r"(?:\{\}_\{?(\d+)\}?\s*C_\{?(\d+)\}?|C_\{?(\d+)\}?\^\{?(\d+)\}?)", _binomial, text)
    text = re.sub(r"^\s*(\d+)\s*(?:\bto\b|\\text ?\{\s*to\s*\})\s*(\d+)\s*$", r"\1:\2", text)
    text = (
        re.sub(r"\{?\s*([^{}\s]+)\s*\\choose\b\s*([^{}\s]+)\s*\}?", r"\\binom{\1}{\2}", text)
        if "\\choose" in text
        else text
    )
    text = re.sub(r"(?<=[\d}\s])\\mu\s*(?:m\b|\\(?:text|mathrm)\s*\{\s*m\s*\})", r"\\text{micrometer}", text)
    text = re.sub(r"(?<=[\d}])\s*\\Omega\s*$", r"\\text{ohm}", text)
    if "\\cup" in text and not re.search(r"[(\[{]", text):
        text = text.replace("\\cup", "\\or")
    if set_builder := re.match(r"\{(\(?[a-zA-Z](?:,[a-zA-Z]\))?[^{}|:]{0,20}[|:].*)\}$", text):
        text = rf"\{{{set_builder[1]}\}}"
    text = re.sub(r"\{?([^{}]+)\\over\b([^{}]+)\}?", r"\\frac{\1}{\2}", text) if "\\over " in text else text
    text = _TEXT.sub(_text, spellings.units_in_braces(text))
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|\^\s*\\degree\b|\\circ\b(?=\s*(?:$|[,)\]}]))", r"\\deg ", text)
    text = re.sub(r"(?<=\d)\s*\\deg\s*(?=\d+\s*')", r"\\deg ", text)
    text = re.sub(r"\(\s*(?:\\bmod|mod)\s*([^()]*)\)", r"\\pmod{\1}", text)
    text = re.sub(r"^\s*\\approx\b", "", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ?([-+*/=<>^_(){}\[\],;|&]) ?", r"\1", text)
    if "^" in text and "_" in text:  # `v^2_0`
        text = re.sub(r"(?<![A-Za-z])([A-Za-z])\^(\d|\{[^{}]*\})_(\w|\{\w+\})", r"\1_\3^\2", text)
    return spellings.units_of_letters(unwrap(text))


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _SPACES:
        return " "
    if name in DROPPED:
        return " "
    if name in "{}%$#&_|" or name == "\\":
        return {"#": "#", "&": "&", "%": "%", "_": "_", "|": "|"}.get(name, "\\" + name)
    if not name[0].isalpha():
        return name
    if name.startswith(("quad", "qquad")):
        return " " + name.partition("quad")[2] + " "
    name = SYNONYMS.get(name, name)
    if name == "prime":
        return "'"
    if name.isalpha() and len(name) > 3 and name not in KNOWN and (head := _known_head(name)):
        return _command(_COMMAND.match(f"\\{head} ")) + name[len(head) :]  # type: ignore[arg-type]
    return f"\\{name} " if name[0].isalpha() else name


def _binomial(match: re.Match[str]) -> str:
    """`{}_{10}C_{3}` and `C_{10}^{3}`."""
    above, below = [group for group in match.groups() if group is not None]
    return rf"\binom{{{above}}}{{{below}}}"


def _known_head(name: str) -> str | None:
    r"""The command that a name without a space behind it runs into, as in `\pik` and `\lfloorm`."""
    heads = [name[:end] for end in range(len(name) - 1, max(1, len(name) - 5), -1)]
    return next((head for head in heads if head in KNOWN and len(head) > 1), None)


def _text(match: re.Match[str]) -> str:
    """The content of a text command: numbers and symbols are read as mathematics, words stay text."""
    content = re.sub(r"\s+", " ", match[1].replace("\\", " ")).strip()
    if not content or content in {".", ",", ";", ":"}:
        return content or " "
    if re.fullmatch(r"[,;]?\s*(?:and|or|và|et|oder|和|或)\s*[,;]?", content, re.IGNORECASE):
        return f"\\{content.strip(' ,;').lower()} " if content.strip(" ,;").lower() in {"and", "or"} else r"\and "
    if re.search(r"\d", content) or re.fullmatch(r"[^\w]+", content):
        return f" {content} "
    return rf"\text{{{content}}}"


def from_unicode(text: str) -> str:
    """LaTeX and ASCII for the unicode signs of mathematics; invisible characters go, foreign digits become ASCII."""
    if text.isascii():
        return text
    text = "".join(unicodedata.normalize("NFKC", c) if "\U0001d400" <= c <= "\U0001d7ff" else c for c in text)
    text = "".join(c for c in text if unicodedata.category(c) not in {"Cf", "Mn"} or c == "\u0338")
    text = re.sub(
        "[" + "".join(SUPERSCRIPTS) + "]+", lambda m: "^{" + "".join(SUPERSCRIPTS[c] for c in m[0]) + "}", text
    )
    text = re.sub("[" + "".join(SUBSCRIPTS) + "]+", lambda m: "_{" + "".join(SUBSCRIPTS[c] for c in m[0]) + "}", text)
    text = VULGAR.sub(lambda m: r"\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", m[0]).split("⁄")), text)
    text = text.translate(CHARACTERS)
    if text.isascii():
        return text
    text = "".join(_ascii_form(c) for c in text)
    return "".join(
        str(unicodedata.decimal(c)) if not c.isascii() and unicodedata.decimal(c, None) is not None else c for c in text
    )


def _ascii_form(char: str) -> str:
    """Full-width forms as plain ones, every space as a space."""
    if "\uff00" <= char <= "\uffef":
        return unicodedata.normalize("NFKC", char)
    return " " if unicodedata.category(char) == "Zs" else char


def unwrap(text: str) -> str:
    """The text without the delimiters, box, markup and punctuation around it."""
    for _ in range(12):
        before = text
        text = _OPENING.sub("", _LEAD.sub("", text.strip()))
        if text.endswith("..."):
            text = text[:-3] + "\\ldots"
        text = (
            re.sub(r"(?<!\\)(?<!\d)[.,;:。]+$|(?<=\d)[.,;]+$|\\+$", "", text) if not text.endswith("\\,") else text[:-2]
        )
        for left, right in _DELIMITERS:
            inner = text[len(left) : len(text) - len(right)]
            if (
                len(text) > len(left) + len(right)
                and text.startswith(left)
                and text.endswith(right)
                and left not in inner
            ):
                text = inner
                break
        found = boxes(text) if "boxed" in text or "fbox" in text else []
        if found:
            text = _boxed_text(text, found)
        while text.startswith("{") and not _BUILDER.match(text) and matching_brace(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def _boxed_text(text: str, found: list[tuple[int, int, str]]) -> str:
    """The boxes of a text that holds some: what stands in front and behind them counts if it is mathematics."""
    (start, _, _), (_, end, _) = found[0], found[-1]
    if len(found) == 1 and re.match(r"[\s$.,]*\\text\s*\{[^{}]*(?:\b(?:for|where|if)\b|其中)", text[end:]):
        return text[:start] + found[0][2] + text[end:]  # a condition belongs to the answer
    around = text[:start] + " " + text[end:]
    if len(found) == 1 and re.fullmatch(
        r"[\s$.,]*(?:\\?%|\\text\s*\{[^{}]*\}|percent|pct|\\(?:in|cup|cap)|[a-z]|=|[\s$.,])*", around
    ):
        return text[:start] + found[0][2] + text[end:]
    return last_boxes(text) or text


def _math_delimiters(text: str) -> str:
    r"""Drop the delimiters of formulas inside the text; a lone `$` in front of a number is a currency sign."""
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
    if "$" not in text:
        return text
    text = re.sub(r"(?<!\\)\$\s+\$(?=\s*\\?[A-Za-z]\w*(?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=)", "$, $", text)
    signs = [m.start() for m in re.finditer(r"(?<!\\)\$", text)]
    if len(signs) % 2:
        first = next((i for i in signs if re.match(r"\s*-?\.?\d", text[i + 1 :])), None)
        if first is not None:
            text = text[:first] + r"\$" + text[first + 1 :]
    return re.sub(r"(?<!\\)\$", " ", text)
