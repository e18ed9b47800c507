from __future__ import annotations

import pytest

from harness.search import StepExplore
from harness.types import Generate, Response, Rollout, SamplingConfig, ScoredResponse
from tests.search.script import PROBLEM, Script, result

WRONG = Response(("a\n", "b\n", "c\n", "#### 2"), "stop")
RIGHT = ScoredResponse(Response(("#### 1",), "stop"), correct=True)
ROLLOUT = Rollout(PROBLEM, (RIGHT, ScoredResponse(WRONG)))
SAMPLES = {"a\n": ["no", "yes", "no", "yes"], "a\nb\n": ["no"] * 4, "a\nb\nc\n": ["yes"] * 4}


def value(text: str) -> float:
    return float(text.endswith("yes"))


@pytest.mark.parametrize(("at_once", "drawn"), [(0, [4, 4]), (1, [2, 4, 2])])
def test_the_pit_is_the_first_step_that_no_continuation_saves(at_once, drawn):
    script = Script(SAMPLES, value)
    [found] = result(StepExplore(4, at_once).explore(ROLLOUT, SamplingConfig()), script)
    # Step 1 has successes among its four continuations, step 2 none: it is the pit, and step 3 is never asked about.
    assert (found.pit, found.successes) == (1, (2, 0))
    assert [r.text for r in found.continuations[0]] == ["a\nno", "a\nyes", "a\nno", "a\nyes"]
    sizes = [(r.prefixes[0].text, r.sampling.n) for r in script.requests if isinstance(r, Generate)]
    # One at a time, step 1 stops at its second sample and is filled up once the pit is known to be step 2.
    expected = {0: [("a\n", 4), ("a\nb\n", 4)], 1: [("a\n", 1)] * 2 + [("a\nb\n", 1)] * 4 + [("a\n", 1)] * 2}
    assert sizes == expected[at_once]
    assert sum(n for _, n in sizes) == sum(drawn)


def test_without_an_earlier_pit_the_last_step_is_it():
    script = Script({**SAMPLES, "a\nb\n": ["yes"] * 4}, value)
    [found] = result(StepExplore(4).explore(ROLLOUT, SamplingConfig()), script)
    assert (found.pit, found.successes) == (3, (2, 4, 4))


def test_a_pit_at_the_first_step_needs_no_continuations_before_it():
    script = Script({**SAMPLES, "a\n": ["no"] * 4}, value)
    [found] = result(StepExplore(4, 1).explore(ROLLOUT, SamplingConfig()), script)
    assert (found.pit, found.successes) == (0, (0,))


def test_the_prefix_is_given_as_text_to_be_tokenised():
    script = Script(SAMPLES, value)
    responses = result(StepExplore(4)(ROLLOUT, SamplingConfig()), script)
    assert responses[1].inserted == ((0, "a\n"),)
    assert "".join(map(chr, responses[1].token_ids)) == "yes"


def test_a_rollout_without_wrong_responses_asks_for_nothing():
    script = Script({})
    assert result(StepExplore()(Rollout(PROBLEM, (RIGHT,)), SamplingConfig()), script) == []
    assert not script.requests
