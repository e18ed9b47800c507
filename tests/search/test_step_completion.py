from __future__ import annotations

import pytest

from harness.search import StepCompletion
from harness.types import Generate, Response, Rollout, SamplingConfig, ScoredResponse
from tests.search.script import PROBLEM, Script, result


def response(*steps, correct=False, reason="stop"):
    ids = tuple(map(ord, "".join(steps)))
    ends = tuple(len("".join(steps[:count])) for count in range(1, len(steps) + 1))
    return ScoredResponse(Response(steps, reason, ids, step_ends=ends), correct=correct)


def valued(responses, table, **options):
    """Step values by text, and the texts of the prefixes that were completed."""
    script = Script(table, lambda text: float(text.endswith("yes")))
    found = result(StepCompletion(**options)(Rollout(PROBLEM, tuple(responses)), SamplingConfig()), script)
    asked = [prefix for request in script.requests if isinstance(request, Generate) for prefix in request.prefixes]
    return {r.text: r.step_values for r in found}, asked


def test_a_step_is_good_if_any_completion_is_right():
    wrong = response("a\n", "b\n", "c\n", "no")
    samples = {"a\n": ["no", "yes"], "a\nb\n": ["no", "no"], "a\nb\nc\n": ["no", "no"]}
    values, asked = valued([wrong], samples, samples=2)
    assert values == {"a\nb\nc\nno": (1.0, 0.0, 0.0, 0.0)}
    assert [prefix.text for prefix in asked] == ["a\n", "a\nb\n", "a\nb\nc\n"]


def test_soft_values_are_the_share_of_right_completions_of_the_prefix_itself():
    right, wrong = response("a\n", "yes", correct=True), response("a\n", "b\n", "no")
    samples = {"a\n": ["no", "no", "no", "yes"], "a\nb\n": ["yes", "yes", "no", "no"]}
    values, _ = valued([right, wrong], samples, samples=4, estimate="soft")
    assert values == {"a\nyes": (0.25, 1.0), "a\nb\nno": (0.25, 0.5, 0.0)}


def test_prefixes_of_right_responses_are_known_to_be_good_and_not_completed():
    right, wrong = response("a\n", "b\n", "yes", correct=True), response("a\n", "x\n", "no")
    values, asked = valued([right, wrong], {"a\nx\n": ["no"]}, samples=1)
    assert values == {"a\nb\nyes": (1.0, 1.0, 1.0), "a\nx\nno": (1.0, 0.0, 0.0)}
    assert [prefix.text for prefix in asked] == ["a\nx\n"]


def test_a_success_after_more_steps_counts_for_the_steps_before():
    values, _ = valued([response("a\n", "b\n", "no")], {"a\n": ["no"], "a\nb\n": ["yes"]}, samples=1)
    assert values == {"a\nb\nno": (1.0, 1.0, 0.0)}


def test_a_right_response_that_is_a_prefix_of_a_wrong_one_keeps_its_verdict():
    short, longer = response("a\n", "b\n", correct=False), response("a\n", "b\n", "yes", correct=True)
    values, asked = valued([short, longer], {}, samples=1)
    assert values == {"a\nb\n": (1.0, 0.0), "a\nb\nyes": (1.0, 1.0, 1.0)}
    assert asked == []


def test_shared_prefixes_are_completed_once_and_all_in_one_request():
    first, second = response("a\n", "b\n", "no"), response("a\n", "c\n", "no")
    script = Script({"a\n": ["no"], "a\nb\n": ["no"], "a\nc\n": ["no"]})
    result(StepCompletion(samples=1)(Rollout(PROBLEM, (first, second, first)), SamplingConfig()), script)
    [request] = [request for request in script.requests if isinstance(request, Generate)]
    assert [prefix.text for prefix in request.prefixes] == ["a\n", "a\nb\n", "a\nc\n"]


def test_prefixes_are_the_sampled_tokens_and_text_where_a_token_crosses_the_end_of_a_step():
    known = response("a\n", "b\n", "no")
    crossed = Response(known.response.steps, "stop", known.response.token_ids, step_ends=(-1, 4, 6))
    _, asked = valued([ScoredResponse(crossed)], {"a\n": ["no"], "a\nb\n": ["no"]}, samples=1)
    assert [(prefix.token_ids, prefix.inserted) for prefix in asked] == [
        ((), ((0, "a\n"),)),
        (tuple(map(ord, "a\nb\n")), ()),
    ]


@pytest.mark.parametrize("reason", ["length", "step"])
def test_responses_that_did_not_end_by_themselves_are_left_out(reason):
    assert valued([response("a\n", "b", reason=reason)], {}) == ({}, [])
