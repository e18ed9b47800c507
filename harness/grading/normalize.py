r"""One spelling for what can be spelled in many ways: delimiters, unicode, spacing, synonyms of LaTeX commands.

The result is still LaTeX. Two answers with the same normal form are the same answer, and the parser reads nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from harness.grading.brackets import matching_brace
from harness.grading.extract import boxes

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "✕": r"\times ", "÷": r"\div ", "∕": "/", "⁄": "/", "√": r"\sqrt", "∛": r"\sqrt[3]",
    "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "≃": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "∅": r"\emptyset ",
    "⌀": r"\emptyset ", "∖": r"\setminus ", "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ ", "º": r"^\circ ",
    "℃": r"^\circ\text{C}", "℉": r"^\circ\text{F}", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "″": "''",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "∥": r"\parallel ", "⊥": r"\perp ", "∠": r"\angle ", "△": r"\triangle ", "⇒": r"\implies ", "→": r"\to ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "…": r"\ldots ", "⋯": r"\ldots ", "∧": r"\wedge ", "∨": r"\vee ",
    "，": ",", "、": ",", "；": ";", "：": ":", "（": "(", "）": ")", "［": "[", "］": "]", "【": "[", "】": "]",
    "｛": "{", "｝": "}", "％": "%", "＝": "=", "＋": "+", "－": "-", "＜": "<", "＞": ">", "／": "/", "＊": "*", "。": ".",
    "．": ".", "｜": "|", "∣": "|", "〈": r"\langle ", "〉": r"\rangle ", "£": r"\pounds ", "€": r"\euro ", "¥": r"\yen ",
    "￥": r"\yen ", "＄": r"\$", "¢": r"\text{cents}",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_CHARACTERS = str.maketrans(_UNICODE | {char: rf"\{name} " for char, name in _GREEK.items()})
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾", "0123456789+-nx()", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙₓ", "0123456789nx", strict=True))
_VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒]")

_SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le", "leqslant": "le",
    "geq": "ge", "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "times": "*", "cdot": "*", "ast": "*", "div": "/",
    "land": "wedge", "lor": "vee", "varnothing": "emptyset", "empty": "emptyset", "lbrace": r"\{", "rbrace": r"\}",
    "lbrack": "[", "rbrack": "]", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lVert": "|", "rVert": "|",
    "colon": ":", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "degree": "degree", "bigcup": "cup", "bigcap": "cap",
    "smallsetminus": "setminus", "backslash": "setminus", "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta",
    "thickapprox": "approx", "simeq": "approx", "doteq": "approx", "Rightarrow": "implies", "Longrightarrow": "implies",
    "longrightarrow": "to", "rightarrow": "to", "iff": "implies", "Leftrightarrow": "implies", "operatorname*": "operatorname",
    "R": r"\mathbb{R}", "Z": r"\mathbb{Z}", "N": r"\mathbb{N}", "Q": r"\mathbb{Q}", "C": r"\mathbb{C}", "mod": "bmod",
    "lparen": "(", "rparen": ")", "percent": "%", "textdegree": "degree", "texteuro": r"\euro ", "textdollar": "$",
    "I": "I", "tg": "tan", "ctg": "cot", "cosec": "csc", "plus": "+", "minus": "-", "equiv": "equiv", "cong": "equiv",
}  # fmt: skip
_KNOWN = set(
    "frac sqrt binom pi infty emptyset ldots log ln lg sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan exp gcd lcm max min "
    "det int sum prod lim lfloor rfloor lceil rceil langle rangle alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu "
    "xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega hbar ell Pi nabla partial overline "
    "bar angle triangle cup cap setminus in notin le ge ne approx equiv pm mp wedge vee implies to mathbb mathrm text begin end forall "
    "exists circ degree deg operatorname arcsinh arccosh arctanh arsinh arcosh artanh asinh acosh atanh arccot arcsec arccsc coth sech "
    "csch floor ceil widetilde tilde underline prime measuredangle odot square parallel perp sim subset subseteq pounds euro yen iint oint "
    "over bmod pmod boxed fbox textcolor color and or star mbox textbf textit textrm hbox emph quad infinity cbrt mathbf color".split()
)
_DROPPED = set(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm displaystyle textstyle scriptstyle "
    "limits nolimits mathop mathrel mathord phantom hfill noindent normalsize large Large rm bf it sf tt nonumber "
    "notag label unit cancel boldsymbol mathbf bm bold mathit mathsf mathcal mathscr overrightarrow vec hat "
    "widehat ensuremath allowbreak nobreak centering strut mathstrut".split()
)
_SPACES = {"quad", "qquad", " ", ",", ";", ":", "!", "~", "enspace", "thinspace", "space", "hspace", "hskip", "/", "\n"}
_TEXT_COMMANDS = "text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|mathrm|emph|operatorname|mathtt|bf|rm"
_LEAD = re.compile(r"^\**(?i:(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|solutions?)\s*(?:is|are|:)?\**\s*:?\s+(?=[\\$\d(\[{+-]))")
_COMMAND = re.compile(r"\\([a-zA-Z]+\*?|.|\n)\s*", re.DOTALL)
_TEXT = re.compile(rf"\\(?:{_TEXT_COMMANDS})\s*\{{([^{{}}]*)\}}")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ("```", "```"))

MAX_LENGTH = 4000
"""Answers longer than this are compared as plain text only."""


@lru_cache(maxsize=16384)
def normalize(text: str) -> str:
    """The normal form of an answer."""
    if len(text) > MAX_LENGTH:
        return text.strip()
    text = unwrap(from_unicode(text))
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
    text = _COMMAND.sub(_command, text)
    text = re.sub(r"\{?([^{}]+)\\over\b([^{}]+)\}?", r"\\frac{\1}{\2}", text) if "\\over " in text else text
    text = _TEXT.sub(_text, text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|\^\s*\\degree\b|\\circ\b(?=\s*(?:$|[,)\]}]))", r"\\deg ", text)
    text = re.sub(r"(?<=\d)\s*\\deg\s*(?=\d+\s*')", r"\\deg ", text)
    text = re.sub(r"\(\s*(?:\\bmod|mod)\s*([^()]*)\)", r"\\pmod{\1}", text)
    text = re.sub(r"(?<=\S)[,\s]*(?:\\forall|\\text\{\s*(?:for (?:all|any|every|some)|where)\b).*$|^\s*\\approx\b", "", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ?([-+*/=<>^_(){}\[\],;|&]) ?", r"\1", text)
    return unwrap(text)


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _SPACES:
        return " "
    if name in _DROPPED:
        return " "
    if name in "{}%$#&_|" or name == "\\":
        return {"#": "#", "&": "&", "%": "%", "_": "_", "|": "|"}.get(name, "\\" + name)
    if not name[0].isalpha():
        return name
    if name.startswith("quad") or name.startswith("qquad"):
        return " " + name.partition("quad")[2] + " "
    name = _SYNONYMS.get(name, name)
    if name == "prime":
        return "'"
    if name.isalpha() and len(name) > 3 and name not in _KNOWN and (head := _known_head(name)):
        return _command(_COMMAND.match(f"\\{head} ")) + name[len(head) :]  # type: ignore[arg-type]
    return f"\\{name} " if name[0].isalpha() else name


def _known_head(name: str) -> str | None:
    r"""The command that a name without a space behind it runs into, as in `\pik` and `\lfloorm`."""
    heads = [name[:end] for end in range(len(name) - 1, max(1, len(name) - 5), -1)]
    return next((head for head in heads if head in _KNOWN and len(head) > 1), None)


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
    text = "".join(c for c in text if unicodedata.category(c) not in {"Cf", "Mn"} or c == "\u0338")
    text = re.sub("[" + "".join(_SUPERSCRIPTS) + "]+", lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[0]) + "}", text)
    text = re.sub("[" + "".join(_SUBSCRIPTS) + "]+", lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[0]) + "}", text)
    text = _VULGAR.sub(lambda m: r"\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", m[0]).split("⁄")), text)
    text = text.translate(_CHARACTERS)
    if text.isascii():
        return text
    text = "".join(unicodedata.normalize("NFKC", c) if "\uff00" <= c <= "\uffef" or "\U0001d400" <= c <= "\U0001d7ff"
                   else " " if unicodedata.category(c) == "Zs" else c for c in text)  # fmt: skip
    return "".join(str(unicodedata.decimal(c)) if not c.isascii() and unicodedata.decimal(c, None) is not None else c for c in text)


def unwrap(text: str) -> str:
    """The text without the delimiters, box, markup and punctuation around it."""
    for _ in range(12):
        before = text
        text = _LEAD.sub("", text.strip())
        text = re.sub(r"(?<!\\)(?<!\d)[.,;:。]+$|(?<=\d)[.,;]+$|\\+$", "", text) if not text.endswith("\\,") else text[:-2]
        for left, right in _DELIMITERS:
            inner = text[len(left) : len(text) - len(right)]
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and left not in inner:
                text = inner
                break
        found = boxes(text) if "boxed" in text or "fbox" in text else []
        if found:
            text = _boxed_text(text, found)
        while text.startswith("{") and matching_brace(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def _boxed_text(text: str, found: list[tuple[int, int, str]]) -> str:
    """The boxes of a text that holds some: what stands in front and behind them counts if it is mathematics."""
    (start, _, _), (_, end, _) = found[0], found[-1]
    around = text[:start] + " " + text[end:]
    if len(found) == 1 and re.fullmatch(r"[\s$.,]*(?:\\?%|\\text\s*\{[^{}]*\}|percent|pct|\\(?:in|cup|cap)|[a-z]|=|[\s$.,])*", around):
        return text[:start] + found[0][2] + text[end:]
    from harness.grading.extract import Rule, _boxed

    group = _boxed(text, Rule("boxed"))
    return group[1] if group else text


def _math_delimiters(text: str) -> str:
    r"""Drop the delimiters of formulas inside the text; a lone `$` in front of a number is a currency sign."""
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
    signs = [m.start() for m in re.finditer(r"(?<!\\)\$", text)]
    if len(signs) % 2:
        first = next((i for i in signs if re.match(r"\s*\d|\s*\.\d", text[i + 1 :])), None)
        if first is not None:
            text = text[:first] + r"\$" + text[first + 1 :]
    return re.sub(r"(?<!\\)\$", " ", text)
