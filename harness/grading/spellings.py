"""Rewriting of single notations on the way to the normal form: spaces, repeating decimals, rows of matrices, units."""

from __future__ import annotations

import re

_UNIT = r"(?:[kcmdn]?m|[km]?g|m?s|h|hr|min|mi|ft|m?L|m?mol|[kM]?[NJW]|[kMG]?Hz|[km]?V|m?A|k?Pa|[kMG]?eV|K|C|rad)"
_POWER = r"(?:\^\{?-?\d\}?)?"
_NUMBER = r"-?\d[\d.,]*(?:\*10\^\{?-?\d+\}?)?"
_COMPOUND = re.compile(rf"({_NUMBER}) ?({_UNIT}{_POWER}(?:[ */]{_UNIT}{_POWER})+)")
_LETTER = re.compile(rf"({_NUMBER}) ([mgshLNJWVK])")
_VECTOR = (
    r"\\(?:(?:vec|mathbf|boldsymbol|bm|overrightarrow|hat|widehat)\s*(?:\{[^{}]*\}|\\?[a-zA-Z]+)|nabla)"
    r"(?:_\{?\w+\}?)?"
)
_CROSS = re.compile(rf"({_VECTOR})\s*(?:\\times(?![a-zA-Z])|×)\s*(?=(?:\\left\s*)?\(?\s*{_VECTOR})")
_BOLD_LETTER = re.compile(
    r"\\(?:(?:vec|boldsymbol|bm|overrightarrow)\s*\{\s*([A-Za-z])\s*\}|mathbf\s*\{\s*([A-MOPS-Ya-z])\s*\})"
)
_ORDINAL = re.compile(
    r"(?<![\w.^_])(\d+)\s*(?:\^?\s*\{?\s*\\(?:text|mathrm|textrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?"
    r"|\^\s*\{\s*(?:st|nd|rd|th)\s*\}|(?:st|nd|rd|th))(?![a-zA-Z])"
)
_INNER = r"(?:(?!\\[rl]angle)[^|]){1,40}?"
_KET = rf"(?:\\langle {_INNER}\|(?:{_INNER}\|)?(?:{_INNER}\\rangle )?|\|{_INNER}\\rangle )"
_KETS = re.compile(rf"{_KET}(?:\s*(?:\\otimes )?\s*{_KET})*")
_NEGATIVE_POWER = re.compile(r"\\(mathrm|text)\s*\{([^{}]*)\^\s*\{\s*(-?\d)\s*\}([^{}]*)\}")
_QUOTIENT = re.compile(
    r"\\frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*(\^\s*\{?\d\}?)?\s*\}"
)


def before_commands(text: str) -> str:
    r"""Spaces, matrices and signs as typed: `~`, `\\[2pt]`, `\cr`, `Matrix([[1,2],[3,4]])`, `[1,2;3,4]`, `3 x 10^5`."""
    if "~" in text:
        text = re.sub(r"(?<=[\w)}{])\s*~\s*", " ", text)
    if "<su" in text:
        text = re.sub(r"<su([pb])>(.*?)</su[pb]>", lambda m: f"{'^' if m[1] == 'p' else '_'}{{{m[2]}}}", text)
    if any(ending in text for ending in ("th", "st", "nd", "rd")):
        text = _ORDINAL.sub(r"\1", text)
    if "\\begin" in text:
        text = re.sub(r"\\\\\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm)\s*\]|\\cr(?![a-zA-Z])", r"\\\\", text)
    if array := re.fullmatch(r"(?:\w{2,5}\.)?(?:[Mm]atrix|array)\((\[.*\])\)", text, re.DOTALL):
        text = array[1]
    if (rows := re.fullmatch(r"\[([^][(){}\\;]+(?:;[^][(){}\\;]+)+)\]", text)) and (cells := _cells(rows[1])):
        text = r"\begin{pmatrix}" + r" \\ ".join(" & ".join(row) for row in cells) + r"\end{pmatrix}"
    text = re.sub(r"(?i:\bper ?cent(?:age)?\b)", "percent", text)
    text = re.sub(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times ", text)
    text = re.sub(r"\^\s*\{?\s*\\(?:top|intercal|mathsf\s*\{?T\}?|mathrm\s*\{T\}|text\s*\{T\})\s*\}?", "^T", text)
    return re.sub(r"(?<=\d)\s*\^\s*(?:o|\{\s*o\s*\})(?=\s*(?:$|[,)\]}CF]))", r"^\\circ ", text)


def _cells(rows: str) -> list[list[str]]:
    """The entries between commas and semicolons, if they fill at least two columns."""
    cells = [[cell.strip() for cell in row.split(",")] for row in rows.split(";")]
    return cells if len(cells[0]) > 1 and len({len(row) for row in cells}) == 1 else []


def repeating(text: str) -> str:
    r"""`0.\bar{3}` and `0.\dot{3}` as `0.\overline{3}`."""
    return re.sub(r"(\d*\.\d*)\\(?:bar|dot|overline) ?(?:\{\s*(\d+)\s*\}|(\d)(?!\d))", _overline, text)


def _overline(match: re.Match[str]) -> str:
    return rf"{match[1]}\overline{{{match[2] or match[3]}}}"


def units_in_braces(text: str) -> str:
    r"""`\frac{\text{m}}{\text{s}}` and `\mathrm{m s^{-1}}` as one row of units."""
    text = _QUOTIENT.sub(lambda m: rf"\text{{{m[1]}}}/\text{{{m[2]}}}{(m[3] or '').replace(' ', '')}", text)
    return _NEGATIVE_POWER.sub(r"\\\1{\2^\3\4}", text)


def units_of_letters(text: str) -> str:
    """`9.8 m/s^2` and `5 m` as a number with a unit; `5m` stays a product."""
    if len(text) > 80:
        return text
    if found := _COMPOUND.fullmatch(text):
        unit = re.sub(r"[{}]", "", found[2]).replace("*", " ")
        return rf"{found[1]}\text{{{unit}}}"
    if found := _LETTER.fullmatch(text):
        return rf"{found[1]}\text{{{found[2]}}}"
    return text


def vectors(text: str) -> str:
    r"""Bold letters and those with an arrow as plain ones; the product sign of `\vec{a} \times \vec{b}` as `\cross`."""
    if "times" in text or "×" in text:
        text = _CROSS.sub(r"\1\\cross ", text)
    return _BOLD_LETTER.sub(lambda m: f" {m[1] or m[2]}", text) if "\\" in text else text


def kets(text: str) -> str:
    r"""States such as `|\psi\rangle`, `\langle a|b\rangle` and rows of them as one atom `\ket{...}`."""
    if "angle " not in text and "\\ket" not in text and "\\bra" not in text:
        return text
    text = re.sub(r"\\ket ?\{([^{}]*)\}", r"|\1\\rangle ", re.sub(r"\\bra ?\{([^{}]*)\}", r"\\langle \1|", text))
    return _KETS.sub(_ket, text) if "|" in text and "angle " in text else text


def _ket(match: re.Match[str]) -> str:
    content = match[0].replace("\\langle ", "<").replace("\\rangle ", ">").replace("\\otimes ", "")
    return "\\ket{" + re.sub(r"[{}\s]", "", content) + "}"
