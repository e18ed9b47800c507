"""Samples that are explored at once; what follows a prefix is written by hand, right answers end in "yes"."""

from __future__ import annotations

from dataclasses import replace

from harness.search import ExploredSamples, PlainSteps, StepExplore
from harness.selection import PitPairs
from harness.types import Rollout, RolloutConfig, SamplingConfig, ScoredResponse
from tests.search.script import PROBLEM, Script, result

STEPS = PlainSteps(("\n",))
# The first of two responses is a, b, no; the second is right. Only a continuation of "a" is right, so b is the pit.
SAMPLES = {"": ["a\n", "first yes"], "a\n": ["b\n", "short yes", "no", "much longer yes"], "a\nb\n": ["no"]}


def search(samples=SAMPLES, n=2, **options):
    script = Script(samples, lambda text: float(text.endswith("yes")))
    method = ExploredSamples(STEPS, StepExplore(samples=3, at_once=3, **options))
    return result(method(Rollout(PROBLEM), SamplingConfig(n=n)), script)


def scored(responses):
    """As the grader would."""
    rows = tuple(ScoredResponse(response, None, response.text.endswith("yes")) for response in responses)
    return Rollout(PROBLEM, rows)


def test_wrong_samples_are_valued_up_to_their_first_pit_and_followed_by_the_continuations():
    found = search()
    assert [response.text for response in found[:2]] == ["a\nb\nno", "first yes"]
    assert [response.step_values for response in found[:2]] == [(1.0, 0.0, 0.0), ()]
    # They are made of the tokens that were sampled, not of their text read again.
    assert found[0].step_ends == (2, 4, 6)
    assert {response.text for response in found[2:]} == {
        "a\nshort yes", "a\nno", "a\nmuch longer yes", "a\nb\nno",
    }  # fmt: skip
    assert all(response.inserted == () and response.step_values == () for response in found[2:])
    assert all("".join(map(chr, response.token_ids)) == response.text for response in found)


def test_the_pairs_of_an_iteration_are_those_of_its_own_pits():
    rows, counts = PitPairs()([scored(search())], RolloutConfig(), lambda problem: "Q\n")
    assert [(row.prompt, row.chosen, row.rejected) for row in rows] == [("Q\na\n", "short yes", "b\n")]
    assert (counts["num_rows"], counts["num_pits"], counts["num_no_unused_right_continuation"]) == (1, 1, 0)


def test_at_a_first_step_the_shortest_right_response_is_chosen_and_without_one_nothing():
    samples = {"": ["a\n", "first yes"], "a\n": ["no"]}
    rollout = scored(search(samples))
    rows, _ = PitPairs()([rollout], RolloutConfig(), lambda problem: "Q\n")
    assert [(row.prompt, row.chosen, row.rejected) for row in rows] == [("Q\n", "first yes", "a\n")]
    wrong = replace(rollout, responses=rollout.responses[:1])
    assert PitPairs()([wrong], RolloutConfig(), lambda problem: "Q\n")[0] == []


def test_a_response_without_a_pit_gives_no_pair():
    samples = {"": ["a\n"], "a\n": [("no", "length"), "a yes"]}
    rollout = scored(search(samples, n=1, max_steps=1))
    assert rollout.responses[0].response.step_values == ()
    assert PitPairs()([rollout], RolloutConfig(), lambda problem: "Q\n")[0] == []
