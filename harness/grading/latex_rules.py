r"""String rules of published graders: they rewrite LaTeX until equal answers are equal strings.

Sources: Hendrycks et al. 2021 (arXiv:2103.03874), `strip_string` of the MATH repository; Lightman et al. 2023
(arXiv:2305.20050), the PRM800K grader; Lewkowycz et al. 2022 (arXiv:2206.14858), appendix D.1 (Minerva).
"""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import re

_PRM800K_UNITS = (
    "degree cm centimeter meter mile second minute hour day week month year foot feet inch yard liter".split()
)
_MINERVA_WORDS = (
    "square ways integers dollars mph inches ft hours km units \\ldots sue points feet minutes digits "
    "cents degrees cm gm pounds meters meals edges students childrentickets multiples "
    "\\text{s} \\text{.} \\text{\\ns} \\text{}^2 \\text{}^3 \\text{\\n} "
    '\\text{} \\mathrm{th} ^\\circ ^{\\circ} \\; ,\\! {,} " \\dots'
).split()


def hendrycks(text: str) -> str:
    r"""The MATH repository's normal form: spaces, `\left`, units, percent and dollar signs go, fractions get braces."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac").replace("\\left", "").replace("\\right", "")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    text = text.split("\\text{ ")[0] if text.count("\\text{ ") == 1 else text
    text = text.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        text = value
    text = re.sub(r"\\sqrt(?!\{)\s*(\w)", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"\\frac(?!\{)(\w)(?!\{)(\w)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(?!\{)(\w)\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})(\w)", r"\1{\2}", text)
    if text == "0.5":
        return "\\frac{1}{2}"
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def prm800k(text: str) -> str:
    """The PRM800K grader's second normal form: unit words and case go too, whole floats become integers."""
    text = re.sub(r"^\\text\{(.+?)\}$", r"\1", text.strip())
    text = (
        text.replace("\\%", "%")
        .replace("\\$", "$")
        .replace("$", "")
        .replace("%", "")
        .replace(" or ", " , ")
        .replace(" and ", " , ")
    )
    for word, power in (("million", 6), ("billion", 9), ("trillion", 12)):
        text = text.replace(word, f"*10^{power}")
    for unit in _PRM800K_UNITS:
        text = re.sub(rf"{unit}(es)?(s)? *(\^[0-9]+)?", "", text)
    text = re.sub(r"\^ *\\circ", "", text)
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    text = _whole(text.strip())
    if "\\" in text:
        text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r" \1/\2", text)
        text = (
            re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
            .replace("\\left", "")
            .replace("\\right", "")
            .replace("\\pi", "pi")
        )
    text = re.sub(r"- *", "-", text.strip())
    text = re.sub(r"([0-9]) +([0-9])", r"\1+\2", text).replace(" ", "").replace("{", "").replace("}", "").lower()
    return _whole(text.replace(",", "")) if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text) else _whole(text)


def minerva(text: str) -> str:
    """The Minerva normal form: the last side of an equation, unit words and text commands gone."""
    text = text.split("=")[-1]
    text = (
        re.sub(r"\b(?:an?) ", "", text)
        .replace(".$", "$")
        .replace("\\$", "")
        .replace("\\ ", "")
        .replace(" ", "")
        .replace("mbox", "text")
    )
    text = text.replace(",\\text{and}", ",").replace("\\text{and}", ",").replace("\\text{m}", "\\text{}")
    for word in _MINERVA_WORDS:
        text = text.replace(word, "")
    if text.count("$") > 1:
        text = text.split("$", 2)[1]
    text = re.sub(r"\\(?:text|textbf|overline|boxed|fbox)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"(frac)([^{])(.)", r"\1{\2}{\3}", text)
    text = re.sub(r"(sqrt)([^{\[])", r"\1{\2}", text).replace("$", "")
    return text.replace(",", "") if text.replace(",", "").isdigit() else text


def _whole(text: str) -> str:
    """`5.0` as `5`."""
    return str(int(float(text))) if re.fullmatch(r"-?\d{1,15}\.0*", text) else text
