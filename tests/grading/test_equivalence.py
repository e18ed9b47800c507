"""What counts as the same answer, by kind."""

from __future__ import annotations

import pytest

from harness.grading import is_equivalent
from harness.grading.equivalence import decide
from tests.grading.pairs import DIFFERENT, SAME


@pytest.mark.parametrize("kind", SAME)
def test_answers_that_mean_the_same_are_equivalent(kind):
    assert [pair for pair in SAME[kind] if not is_equivalent(*pair)] == []


@pytest.mark.parametrize("kind", DIFFERENT)
def test_answers_that_differ_are_not_equivalent(kind):
    assert [pair for pair in DIFFERENT[kind] if is_equivalent(*pair)] == []


@pytest.mark.parametrize("kind", [kind for kind in SAME if kind not in {"choices", "choices in prose", "words"}])
def test_equivalence_does_not_depend_on_which_side_is_the_gold(kind):
    assert [pair for pair in SAME[kind] if not is_equivalent(*reversed(pair))] == []


@pytest.mark.parametrize("kind", DIFFERENT)
def test_difference_does_not_depend_on_which_side_is_the_gold(kind):
    assert [pair for pair in DIFFERENT[kind] if is_equivalent(*reversed(pair))] == []


def test_delimiters_and_boxes_around_either_side_do_not_matter():
    for gold in ("$5$", r"\boxed{5}", r"$\boxed{5}$", r"\(5\)", r"\[5\]", "**5**", "$$5$$"):
        assert is_equivalent(gold, "5")
        assert is_equivalent("5", gold)


@pytest.mark.parametrize(
    ("gold", "answer", "rule"),
    [
        ("5", "5", "exact"),
        ("0.5", "1/2", "numeric"),
        ("x+1", "1+x", "symbolic"),
        ("(1,2)", "(1, 2.0)", "tuple"),
        ("x>3", r"(3,\infty)", "interval"),
        (r"\{1,2\}", "2,1", "set"),
        ("1,2", "2,1", "list"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2.0\end{bmatrix}", "matrix"),
        ("B", "(B) 42", "choice"),
        ("even", "Even", "text"),
        ("x+y=1", "y=1-x", "equation"),
        ("5 cm", "5 centimeters", "unit"),
        ("1011_2", "1011_{two}", "base"),
        ("4:30 pm", "16:30", "time"),
        ("1:2", "2:4", "ratio"),
    ],
)
def test_the_rule_that_decided_is_named(gold, answer, rule):
    assert (decide(gold, answer).same, decide(gold, answer).rule) == (True, rule)


def test_what_cannot_be_read_is_no_wrong_answer_but_a_parse_failure():
    assert decide("5", "the large circle").status == "parse_failure"
    assert decide("5", "").status == "no_answer"
    assert decide("5", "6").status == "ok"


def test_values_beyond_the_budget_are_told_from_wrong_ones():
    assert decide("1", "9^{9^{9^9}}").status == "timeout"


def test_repeated_questions_are_answered_from_memory():
    assert decide("x+1", "1+x") is decide("x+1", "1+x")
