"""Resource bombs, injections and degenerate input: nothing runs, nothing hangs, nothing is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.grading import grade, is_equivalent
from tests.grading.hostile import BOMBS, INJECTIONS, MARK


@pytest.fixture(scope="module", autouse=True)
def no_mark():
    Path(MARK).unlink(missing_ok=True)


@pytest.mark.timeout(120)
def test_bombs_are_rejected():
    for text in BOMBS:
        assert not is_equivalent("x+1", text), text[:80]
        assert not is_equivalent(text, r"\frac{1}{3}"), text[:80]
        assert not grade(text, r"\frac{1}{3}").correct, text[:80]


@pytest.mark.timeout(60)
def test_nothing_in_an_answer_is_executed():
    for text in INJECTIONS:
        for wrapped in (text, f"${text}$", rf"\boxed{{{text}}}", f"The answer is {text}"):
            assert not is_equivalent("1", wrapped), text
            assert not grade(wrapped, "x+1").correct, text
    assert not Path(MARK).exists()
