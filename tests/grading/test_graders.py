"""The graders of published numbers follow their sources, weaknesses included."""

from __future__ import annotations

import time

import pytest

from harness.errors import InputError
from harness.grading import GRADERS, grade, grade_many
from harness.grading.graders import named


@pytest.mark.parametrize(
    ("grader", "gold", "answer", "same"),
    [
        ("strict", "5", "500", False),
        ("rstar", "5", "500", True),  # factors of 100 count as percent
        ("rstar", "3.14159", "3.1416", True),  # relative tolerance 1e-4
        ("rstar", "3.14159", "3.15", False),
        ("rstar", "(1,2)", "[1,2]", True),  # brackets are ignored
        ("strict", "(1,2)", "[1,2]", False),
        ("prm800k", r"\frac{1}{2}", r"\frac12", True),
        ("prm800k", "1/2", "2/4", False),  # fractions must be reduced
        ("prm800k", "2", "2x/x", False),  # an integer gold wants an integer
        ("prm800k", "x+1", "1+x", True),
        ("prm800k", r"50\%", "50", True),
        ("prm800k", "(1,2)", "(1, 2)", True),
        ("prm800k", "(1,2)", "[1,2]", False),
        ("hendrycks", "0.5", r"\frac{1}{2}", True),
        ("hendrycks", "x+1", "1+x", False),  # strings only
        ("hendrycks", r"10\text{ cm}", "10", True),
        ("hendrycks", "k=5", "5", True),
        ("minerva", "x=5", "5", True),
        ("minerva", "5 dollars", "5", True),
        ("minerva", r"\dfrac12", r"\frac{1}{2}", True),
        ("minerva", "5", "6", False),
        # By google-deepmind/bbeh, evaluate.py, whose verdicts on 34,500 responses to its golds are these, one by one.
        ("bbeh", "(B)", "b", True),
        ("bbeh", "(B)", "(B)?", False),
        ("bbeh", "25.0", "**25**.", True),
        ("bbeh", "2, 3, 4", "2,3,4", True),
        ("bbeh", "2, 3, 4", "[2, 3, 4]", True),
        ("bbeh", "yes", "Yes?", True),
        ("bbeh", "yes", r"$\boxed{\text{Yes}}$", True),
        ("bbeh", "it's", "its", True),
        ("bbeh", "2,3,4", "2,3,5", False),
        # By CRUXEval: the same Python value.
        ("literal", "{1: None, 2: 'a'}", '{2: "a",1:None}', True),
        ("literal", "[1, 2]", "(1, 2)", False),
        ("literal", "1.0", "1", True),
        ("literal", "'ab'", "ab", False),
        ("literal", "set()", "set()", True),
        ("literal", "[1, 2]", "__import__('os').getcwd()", False),
    ],
)
def test_known_verdicts_of_each_grader(grader, gold, answer, same):
    assert GRADERS[grader].decide(gold, answer).same is same


def test_every_grader_has_a_name_and_a_version_for_result_files():
    assert all(grader.label == f"{name}-{grader.version}" for name, grader in GRADERS.items())


def test_grade_and_grade_many_take_a_grader_by_name():
    assert grade(r"\boxed{500}", "5", grader="rstar").correct
    assert [v.correct for v in grade_many([r"\boxed{500}"] * 2, ["5", "6"], grader="rstar")] == [True, False]


def test_an_unknown_grader_is_refused_with_the_known_names():
    with pytest.raises(InputError, match="strict, prm800k"):
        named("lenient")


@pytest.mark.parametrize("grader", GRADERS)
@pytest.mark.parametrize("answer", [r"\infty", r"-\infty", "10^{400}", "2^{2000}", "1e400", "9999!", "(a+b)^{999}"])
@pytest.mark.parametrize("gold", ["42", "-7", r"\frac{x+1}{2}"])
def test_no_grader_takes_what_is_beyond_all_floats_for_any_gold(grader, gold, answer):
    assert not GRADERS[grader].decide(gold, answer).same


@pytest.mark.parametrize("grader", GRADERS)
def test_infinity_equals_infinity(grader):
    assert GRADERS[grader].decide(r"\infty", r"\infty").same


@pytest.mark.parametrize("grader", GRADERS)
def test_beyond_the_limit_only_the_same_words_are_the_same(grader):
    rule = GRADERS[grader].decide
    assert rule("1" * 5000, "1" * 5000 + " ").same
    assert not rule("1" * 5000, "1" * 5000 + ".0").same


@pytest.mark.parametrize("unit", ["{", "1", "$", "a", r"\text{", r"\frac", "=", " ", "(", ",1"])
@pytest.mark.parametrize("grader", GRADERS)
def test_a_long_answer_takes_no_time(grader, unit):
    start = time.process_time()
    for length in (3_900, 1_000_000):
        GRADERS[grader].decide("5", unit * (length // len(unit)))
    assert time.process_time() - start < 2
