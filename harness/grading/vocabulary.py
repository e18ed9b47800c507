"""Spellings of mathematics: unicode signs and synonyms of LaTeX commands, and the commands the grammar knows."""
# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import re

UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\times ", "⋅": r"\cdot ",
    "·": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "✕": r"\times ", "÷": r"\div ", "∕": "/", "⁄": "/",
    "√": r"\sqrt", "∛": r"\sqrt[3]",
    "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ",
    "≧": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "≃": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∉": r"\notin ", "∅": r"\emptyset ",
    "⌀": r"\emptyset ", "∖": r"\setminus ", "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ ", "º": r"^\circ ",
    "℃": r"^\circ\text{C}", "℉": r"^\circ\text{F}", "′": "'", "’": "'", "‘": "'",
    "“": '"', "”": '"', "″": "''",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "∥": r"\parallel ", "⊥": r"\perp ", "∠": r"\angle ", "△": r"\triangle ", "⇒": r"\implies ",
    "→": r"\to ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "…": r"\ldots ", "⋯": r"\ldots ",
    "∧": r"\wedge ", "∨": r"\vee ",
    "，": ",", "、": ",", "；": ";", "：": ":", "（": "(", "）": ")", "［": "[", "］": "]", "【": "[", "】": "]",
    "｛": "{", "｝": "}", "％": "%", "＝": "=", "＋": "+", "－": "-", "＜": "<", "＞": ">", "／": "/",
    "＊": "*", "。": ".",
    "．": ".", "｜": "|", "∣": "|", "〈": r"\langle ", "〉": r"\rangle ", "£": r"\pounds ",
    "€": r"\euro ", "¥": r"\yen ",
    "￥": r"\yen ", "＄": r"\$", "¢": r"\text{cents}",
}  # fmt: skip
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho",
    "σ": "sigma",
    "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
CHARACTERS = str.maketrans(UNICODE | {char: rf"\{name} " for char, name in GREEK.items()})
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾", "0123456789+-nx()", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙₓ", "0123456789nx", strict=True))
VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒]")

SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom",
    "leq": "le", "leqslant": "le",
    "geq": "ge", "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "times": "*", "cdot": "*",
    "ast": "*", "div": "/",
    "land": "wedge", "lor": "vee", "varnothing": "emptyset", "empty": "emptyset", "lbrace": r"\{", "rbrace": r"\}",
    "lbrack": "[", "rbrack": "]", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lVert": "|", "rVert": "|",
    "colon": ":", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "degree": "degree",
    "bigcup": "cup", "bigcap": "cap",
    "smallsetminus": "setminus", "backslash": "setminus", "varphi": "phi", "varepsilon": "epsilon",
    "vartheta": "theta",
    "thickapprox": "approx", "simeq": "approx", "doteq": "approx", "Rightarrow": "implies",
    "Longrightarrow": "implies",
    "longrightarrow": "to", "rightarrow": "to", "iff": "implies", "Leftrightarrow": "implies",
    "operatorname*": "operatorname",
    "R": r"\mathbb{R}", "Z": r"\mathbb{Z}", "N": r"\mathbb{N}", "Q": r"\mathbb{Q}", "C": r"\mathbb{C}", "mod": "bmod",
    "lparen": "(", "rparen": ")", "percent": "%", "textdegree": "degree", "texteuro": r"\euro ", "textdollar": "$",
    "I": "I", "tg": "tan", "ctg": "cot", "cosec": "csc", "plus": "+", "minus": "-", "equiv": "equiv", "cong": "equiv",
}  # fmt: skip
KNOWN = set(
    "frac sqrt binom pi infty emptyset ldots log ln lg sin cos tan cot sec csc sinh cosh tanh arcsin arccos "
    "arctan exp gcd lcm max min "
    "det int sum prod lim lfloor rfloor lceil rceil langle rangle alpha beta gamma delta epsilon zeta eta theta "
    "iota kappa lambda mu nu "
    "xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega hbar "
    "ell Pi nabla partial overline "
    "bar angle triangle cup cap setminus in notin le ge ne approx equiv pm mp wedge vee implies to mathbb "
    "mathrm text begin end forall "
    "exists circ degree deg operatorname arcsinh arccosh arctanh arsinh arcosh artanh asinh acosh atanh arccot "
    "arcsec arccsc coth sech "
    "csch floor ceil widetilde tilde underline prime measuredangle odot square parallel perp sim subset "
    "subseteq pounds euro yen iint oint "
    "over bmod pmod boxed fbox textcolor color and or star mbox textbf textit textrm hbox emph quad infinity "
    "cbrt mathbf color hat widehat dot ddot cross ket bra otimes".split()
)
DROPPED = set(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm displaystyle "
    "textstyle scriptstyle "
    "limits nolimits mathop mathrel mathord phantom hfill noindent normalsize large Large rm bf it sf tt nonumber "
    "notag label unit cancel boldsymbol mathbf bm bold mathit mathsf mathcal mathscr overrightarrow vec "
    "ensuremath allowbreak nobreak centering strut mathstrut".split()
)
