"""Responses that the policy judges itself; its judgements are written by hand."""

from __future__ import annotations

import pytest

from harness.errors import InputError
from harness.rewards import SearchValue
from harness.search import SelfJudged
from harness.selection import OutcomePairs
from harness.types import Response, Rollout, RolloutConfig, SamplingConfig, ScoredResponse
from tests.search.script import PROBLEM, Script, result

SAID = {
    "good": ["clear. Score: 5", "Score: 4"],
    "bad": ["I would not say Score: 5 but Score: 1", "**Score:** 0"],
    "odd": ["no idea", "Score: 70"],
    "fair": ["Score: 3", "none"],
}


def script(drawn):
    def samples(request, number, index):
        if request.problem.id == PROBLEM.id:
            return drawn
        [text] = [text for text in SAID if f"Response:\n{text}\n" in request.problem.question]
        assert PROBLEM.question in request.problem.question
        assert request.sampling.n == 2
        return SAID[text]

    return Script(samples)


def test_a_response_is_worth_the_mean_score_of_its_judgements_and_without_one_left_out():
    served = script(["good", "odd", "bad", "fair", "bad"])
    found = result(SelfJudged(samples=2)(Rollout(PROBLEM), SamplingConfig(n=5)), served)
    assert [(response.text, response.step_values) for response in found] == [
        ("good", (4.5,)), ("bad", (0.5,)), ("fair", (3.0,)), ("bad", (0.5,)),
    ]  # fmt: skip
    assert len(served.requests) == 1 + 4  # equal responses are judged once
    scores = SearchValue()([PROBLEM] * 4, found, [False] * 4)
    rows = tuple(ScoredResponse(r, reward=score.value) for r, score in zip(found, scores, strict=True))
    config = RolloutConfig(reward_threshold=-1.0)
    pairs, _ = OutcomePairs(extremes=True)([Rollout(PROBLEM, rows)], config, lambda problem: "Q")
    assert [(pair.chosen, pair.rejected, pair.weight) for pair in pairs] == [("good", "bad", 1.0)]
    ties = tuple(ScoredResponse(r, reward=2.0) for r in found)
    assert OutcomePairs(extremes=True)([Rollout(PROBLEM, ties)], config, lambda problem: "Q")[0] == []


def test_what_no_search_has_valued_has_no_reward():
    with pytest.raises(InputError, match=f"a response to problem '{PROBLEM.id}' has no value of a search"):
        SearchValue()([PROBLEM], [Response(("x",))], [True])
    with pytest.raises(ValueError, match=r"must hold \{question\} and \{response\}"):
        SelfJudged(question="How good is {response}?")
