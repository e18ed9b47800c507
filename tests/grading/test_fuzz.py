"""Generated answers: never an exception, never past the deadline, symmetric, reflexive."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.grading import extract_answer, grade, is_equivalent
from harness.grading.normalize import normalize
from tests.grading.pairs import DIFFERENT, SAME

DEADLINE = timedelta(seconds=3)
REAL = sorted(
    {text for table in (SAME, DIFFERENT) for pairs in table.values() for pair in pairs for text in pair if text}
)
PIECES = [
    r"\frac",
    r"\sqrt",
    r"\left(",
    r"\right)",
    r"{",
    r"}",
    r"(",
    r")",
    r"[",
    r"]",
    r"^",
    r"_",
    r"+",
    r"-",
    r"*",
    r"/",
    r"=",
    r"<",
    r">",
    r",",
    r";",
    r":",
    r"!",
    r"%",
    r"|",
    r"&",
    r"\\",
    r"\{",
    r"\}",
    r"\pm",
    r"\cup",
    r"\in",
    r"\infty",
    r"\pi",
    r"\text{cm}",
    r"\begin{pmatrix}",
    r"\end{pmatrix}",
    r"\sin",
    r"\log_",
    r"\sum_",
    r"\int",
    r"dx",
    r"\boxed{",
    r"$",
    r"x",
    r"y",
    r"n",
    r"0",
    r"1",
    r"2",
    r"12",
    r"3.5",
    r"10",
    r"and",
    r"or",
    r"1,000",
    r"\%",
    r"^\circ",
    r"\approx",
]
fuzz = settings(deadline=DEADLINE, max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
number = st.integers(-999, 999).map(str)


def _binary(children):
    forms = (
        r"\frac{%s}{%s}",
        "(%s)+(%s)",
        "(%s)-(%s)",
        r"(%s)\cdot(%s)",
        "{%s}^{%s}",
        "(%s, %s)",
        "%s, %s",
        "[%s, %s)",
    )
    return st.tuples(st.sampled_from(forms), children, children).map(lambda t: t[0] % t[1:])


def _unary(children):
    forms = (
        r"\sqrt{%s}",
        r"\sin(%s)",
        "-(%s)",
        "|%s|",
        r"\{%s\}",
        "x=%s",
        r"%s\%%",
        "(%s)!",
        r"\ln(%s)",
        "%s \\text{ cm}",
        r"\pm %s",
    )
    return st.tuples(st.sampled_from(forms), children).map(lambda t: t[0] % t[1])


latex = st.recursive(
    number | st.sampled_from(["x", "y", r"\pi", "e", "i", "n", r"\infty"]),
    lambda c: _binary(c) | _unary(c),
    max_leaves=8,
)
soup = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@st.composite
def mutated(draw):
    """A real answer with a few characters dropped, doubled or replaced."""
    text = list(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(0, len(text) - 1)))
        text[where : where + 1] = draw(
            st.sampled_from([[], [draw(st.sampled_from(PIECES))], text[where : where + 1] * 2])
        )
    return "".join(text)


@fuzz
@given(st.one_of(latex, soup, mutated(), st.text(max_size=60)), st.sampled_from(REAL))
def test_no_answer_raises_or_hangs(answer, gold):
    is_equivalent(gold, answer)
    is_equivalent(answer, gold)
    grade(answer, gold)


@fuzz
@given(st.one_of(latex, st.sampled_from(REAL)), st.sampled_from(["%s", " $%s$ ", r"\boxed{%s}", r"\[%s\]"]))
def test_an_answer_equals_itself_however_it_is_wrapped(answer, wrapper):
    if normalize(answer):
        assert is_equivalent(answer, wrapper % answer if "$" not in answer and "\\boxed" not in answer else answer)


@fuzz
@given(latex, latex)
def test_equivalence_is_symmetric(a, b):
    assert is_equivalent(a, b) == is_equivalent(b, a)


@fuzz
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_equal_exactly_when_they_are(a, b):
    assert is_equivalent(str(a), f"${b}$") == (a == b)
    assert is_equivalent(f"{a:,}", str(a))


@fuzz
@given(st.integers(-500, 500), st.integers(1, 500), st.integers(-500, 500), st.integers(1, 500))
def test_fractions_are_equal_exactly_when_they_cross_multiply(a, b, c, d):
    assert is_equivalent(rf"\frac{{{a}}}{{{b}}}", f"{c}/{d}") == (a * d == b * c)


@fuzz
@given(st.text(max_size=200))
def test_extraction_takes_any_text(text):
    extract_answer(text)
    assert extract_answer(text.replace("\\", "").replace("<", "") + r" \boxed{7}") is not None
