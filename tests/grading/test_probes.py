"""Weak spots of graders, class by class."""

from __future__ import annotations

import pytest

from harness.grading import grade, is_equivalent
from tests.grading import unseen
from tests.grading.probes import PAIRS_DIFFERENT, PAIRS_SAME, RESPONSES_RIGHT, RESPONSES_WRONG


@pytest.mark.parametrize("kind", PAIRS_SAME)
def test_right_answers_of_each_class_are_accepted(kind):
    assert [pair for pair in PAIRS_SAME[kind] if not is_equivalent(*pair)] == []


@pytest.mark.parametrize("kind", PAIRS_DIFFERENT)
def test_wrong_answers_of_each_class_are_refused(kind):
    assert [pair for pair in PAIRS_DIFFERENT[kind] if is_equivalent(*pair)] == []


@pytest.mark.parametrize("kind", RESPONSES_RIGHT)
def test_right_responses_of_each_class_are_accepted(kind):
    assert [(gold, text) for gold, text in RESPONSES_RIGHT[kind] if not grade(text, gold).correct] == []


@pytest.mark.parametrize("kind", RESPONSES_WRONG)
def test_wrong_responses_of_each_class_are_refused(kind):
    assert [(gold, text) for gold, text in RESPONSES_WRONG[kind] if grade(text, gold).correct] == []


def test_answers_labelled_before_they_were_graded():
    assert [pair for pair in unseen.PAIRS_SAME if not is_equivalent(*pair)] == []
    assert [pair for pair in unseen.PAIRS_DIFFERENT if is_equivalent(*pair)] == []
    assert [(gold, text) for gold, text in unseen.RESPONSES_RIGHT if not grade(text, gold).correct] == []
    assert [(gold, text) for gold, text in unseen.RESPONSES_WRONG if grade(text, gold).correct] == []
