"""The steps of a wrong response a b c 2; what follows a prefix is written by hand, right answers end in "yes"."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.grading import PROTOCOLS, grade
from harness.search import StepExplore
from harness.types import Generate, Judge, Response, Rollout, SamplingConfig, ScoredResponse, UnitTest
from tests.search.script import PROBLEM, Script, result

STEPS = ("a\n", "b\n", "c\n", "#### 2")
RIGHT = ScoredResponse(Response(("#### 1",), "stop"), "1", correct=True)
SAMPLES = {"a\n": ["no", "yes", "no", "yes"], "a\nb\n": ["no"] * 4, "a\nb\nc\n": ["yes"] * 4}
PLAIN = {"at_once": 4, "skip_answer": False, "share_prefixes": False}


def wrong(*steps: str, answer: str | None = "2", reason: str = "stop") -> ScoredResponse:
    return ScoredResponse(Response(steps, reason), answer)


def explore(samples, *responses: ScoredResponse, sampling=SamplingConfig(), answers=None, **options):
    """What was found, and (prefix, samples) of each request."""
    script = Script(samples, lambda text: float(text.endswith("yes")), order=answers)
    rollout = Rollout(PROBLEM, responses or (RIGHT, wrong(*STEPS)))
    found = result(StepExplore(**options).explore(rollout, sampling), script)
    return found, [(r.prefixes[0].text, r.sampling.n) for r in script.requests if isinstance(r, Generate)]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (PLAIN, [("a\n", 4), ("a\nb\n", 4)]),
        # One at a time, step 1 stops at its second sample and is filled up once the pit is known to be step 2.
        ({}, [("a\n", 1)] * 2 + [("a\nb\n", 1)] * 4 + [("a\n", 1)] * 2),
    ],
)
def test_the_pit_is_the_first_step_that_no_continuation_saves(options, asked):
    [found], requests = explore(SAMPLES, **options)
    # Step 1 has successes among its four continuations, step 2 none: it is the pit, and step 3 is never asked about.
    assert found.pit == 1
    first, second = found.explored
    assert [(c.completion.text, c.right) for c in first.continuations] == [
        ("no", False), ("yes", True), ("no", False), ("yes", True),
    ]  # fmt: skip
    assert (second.num_steps, second.sound, len(second.continuations)) == (2, False, 4)
    assert requests == asked


def test_without_an_earlier_pit_the_answer_is_it():
    [found], requests = explore({**SAMPLES, "a\nb\n": ["yes"] * 4})
    assert found.pit == 3
    # Only the step before the pit is filled up.
    assert [len(step.continuations) for step in found.explored] == [2, 1, 4]
    assert sum(n for _, n in requests) == 7


def test_a_plain_scan_continues_behind_the_answer_too():
    samples = {**SAMPLES, "a\nb\n": ["yes"] * 4, "".join(STEPS): ["", "", "", ""]}
    [found], requests = explore(samples, **PLAIN)
    assert found.pit == 3
    assert requests[-1] == ("a\nb\nc\n#### 2", 4)


@pytest.mark.parametrize("response", [wrong(*STEPS, answer=None), wrong(*STEPS, reason="length")])
def test_a_response_that_holds_no_answer_or_was_cut_is_continued_to_the_end(response):
    samples = {**SAMPLES, "a\nb\n": ["yes"], "".join(STEPS): ["yes"]}
    [found], _ = explore(samples, response)
    assert found.pit is None
    assert [step.num_steps for step in found.explored] == [1, 2, 3, 4]


def test_a_pit_at_the_first_step_needs_no_continuations_before_it():
    [found], requests = explore({"a\n": ["no"] * 4})
    assert (found.pit, requests) == (0, [("a\n", 1)] * 4)


@pytest.mark.parametrize("order", ["linear", "binary"])
def test_an_answer_guessed_before_is_not_read_for_that_of_a_continuation(order):
    """The protocol takes the first answer: read with their prefix, all continuations would answer 9."""
    problem = replace(PROBLEM, answer="6")
    response = wrong("I guess The answer is 9 at first.\n", "b\n", "The answer is 9", answer="9")
    samples = {response.response.steps[0]: ["The answer is 6"] * 4, "".join(response.response.steps[:2]): ["no"] * 4}
    script = Script(samples, lambda text: float(grade(text, "6", protocol=PROTOCOLS["self_explore"]).correct))
    [found] = result(StepExplore(order=order).explore(Rollout(problem, (response,)), SamplingConfig()), script)
    assert found.pit == 1


def test_a_program_is_judged_whole():
    problem = replace(PROBLEM, tests=(UnitTest(output="1"),))
    script = Script(SAMPLES, lambda text: float(text.endswith("yes")))
    result(StepExplore().explore(Rollout(problem, (wrong(*STEPS),)), SamplingConfig()), script)
    judged = {
        response.text for request in script.requests if isinstance(request, Judge) for response in request.responses
    }
    assert judged == {"a\nno", "a\nyes", "a\nb\nno"}


def test_no_pit_is_looked_for_behind_the_last_step_allowed():
    [found], requests = explore({"a\n": ["yes"] * 4}, max_steps=1)
    assert (found.pit, requests) == (None, [("a\n", 1)])


def test_what_responses_share_is_explored_once():
    samples = {"a\n": ["no", "yes", "yes", "no"], "a\nb\n": ["no"], "a\nx\n": ["yes"], "a\nx\nc\n": ["no"]}
    responses = (wrong(*STEPS), wrong("a\n", "x\n", "c\n", "#### 2"), wrong("a\n", "b\n", "#### 3"))
    found, requests = explore(samples, *responses)
    assert [one.pit for one in found] == [1, 2, 1]
    assert found[0].explored == found[2].explored
    drawn = {text: sum(n for t, n in requests if t == text) for text, _ in requests}
    assert drawn == {"a\n": 4, "a\nb\n": 4, "a\nx\n": 4, "a\nx\nc\n": 4}
    alone, requests = explore(samples, *responses, share_prefixes=False)
    assert [one.pit for one in alone] == [1, 2, 1]
    assert sum(n for _, n in requests) == (4 + 4) + (1 + 4 + 4) + (4 + 4)


def test_tokens_that_differ_are_not_shared_though_they_read_the_same():
    responses = [ScoredResponse(Response(("a\n", "2"), "stop", ids, step_ends=(1, 2)), "2") for ids in ((1, 9), (2, 9))]
    script = Script({"a\n": ["no"]}, lambda text: 0.0)
    result(StepExplore().explore(Rollout(PROBLEM, tuple(responses)), SamplingConfig()), script)
    asked = [request.prefixes[0].token_ids for request in script.requests if isinstance(request, Generate)]
    assert sorted(asked) == [(1,)] * 4 + [(2,)] * 4


def test_a_rollout_without_wrong_responses_asks_for_nothing():
    assert explore({}, RIGHT) == ([], [])


def seeded(request, asked, index):
    """Samples that follow from their own seeds, as an engine's do; longer prefixes are saved more rarely."""
    prefix, first = request.prefixes[index], request.sampling.seed + request.sampling.first
    chance = 1.0 - 0.2 * len(prefix.steps)
    rngs = [random.Random(f"{prefix.text} {first + j}") for j in range(request.sampling.n)]
    return [f"{rng.randrange(1000)} {'yes' if rng.random() < chance else 'no'}" for rng in rngs]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), order=st.integers(0, 99))
def test_stopping_early_and_skipping_the_answer_find_what_the_plain_scan_finds(seed, order):
    responses = tuple(wrong(f"{i % 2}\n", "b\n", "c\n", "d\n", f"#### {i}") for i in range(3))
    options = {"sampling": SamplingConfig(seed=seed), "share_prefixes": False}
    saved, few = explore(seeded, *responses, answers=random.Random(order), **options)
    plain, many = explore(seeded, *responses, **options, at_once=4, skip_answer=False)
    for ours, theirs in zip(saved, plain, strict=True):
        # Behind the answer (a prefix of five steps) no continuation is right, so the plain scan always finds a pit.
        assert ours.pit == theirs.pit
        if ours.pit:
            assert ours.explored[ours.pit - 1] == theirs.explored[ours.pit - 1]
    assert sum(n for _, n in few) <= sum(n for _, n in many)


@given(pit=st.integers(0, 8))
@settings(deadline=None)
def test_bisecting_finds_the_pit_where_nothing_after_it_is_sound(pit):
    steps = [f"{i}\n" for i in range(8)]
    samples = {"".join(steps[: i + 1]): ["yes" if i < pit else "no"] for i in range(8)}
    [found], requests = explore(samples, wrong(*steps, "#### 2"), order="binary")
    [linear], scanned = explore(samples, wrong(*steps, "#### 2"))
    assert found.pit == linear.pit == pit
    if pit:
        assert len(next(s for s in found.explored if s.num_steps == pit).continuations) == 4
    assert len({prefix for prefix, _ in requests}) <= 4  # of 9 places, bisected
    assert len({prefix for prefix, _ in scanned}) == min(pit + 1, 8)
