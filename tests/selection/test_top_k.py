from dataclasses import replace

import pytest

from harness.selection.top_k import TopK
from harness.types import RolloutConfig
from tests.selection.test_balance import rollout

ROLLOUTS = [
    rollout(0, [("right", 1.0, True), ("right", 1.0, True), ("other", 1.0, True), ("wrong", 0.0, False)]),
    rollout(1, [("wrong", 0.0, False)]),
]


def texts(select, threshold, rollouts=ROLLOUTS):
    rows, counts = select(rollouts, RolloutConfig(reward_threshold=threshold), lambda problem: problem.question)
    return sorted((row.prompt, row.response) for row in rows), counts


def test_correct_distinct_responses_are_kept_with_their_prompt():
    rows, counts = texts(TopK(), 0.5)
    assert rows == [("q0", "other"), ("q0", "right")]
    assert counts["wrong_share"] == 0
    assert counts["empty_share"] == 0.5


def test_a_threshold_below_the_reward_of_wrong_responses_trains_on_them_and_says_so():
    rows, counts = texts(TopK(), -0.5)
    assert len(rows) == 4
    assert counts["wrong_share"] == 0.5


def test_responses_cut_at_the_token_limit_are_dropped_unless_asked_for():
    [scored] = rollout(0, [("half a", 1.0, True)]).responses
    cut = replace(ROLLOUTS[0], responses=(replace(scored, response=replace(scored.response, finish_reason="length")),))
    assert texts(TopK(), 0.5, [cut])[0] == []
    assert texts(TopK(keep_cut=True), 0.5, [cut])[0] == [("q0", "half a")]


def test_responses_without_an_answer_are_dropped_unless_asked_for_however_good_their_reward():
    [found] = [rollout(0, [("no answer", 0.9, False), ("right", 0.8, True)], solution="worked")]
    unanswered = replace(found.responses[0], answer=None)
    mixed, alone = (replace(found, responses=rows) for rows in ((unanswered, found.responses[1]), (unanswered,)))
    assert texts(TopK(), -0.5, [mixed])[0] == [("q0", "right")]
    assert texts(TopK(keep_unanswered=True), -0.5, [mixed])[0] == [("q0", "no answer"), ("q0", "right")]
    assert texts(TopK(with_gold=True), -0.5, [alone])[0] == [], "its gold solution is left out with it"
    assert texts(TopK(with_gold=True), -0.5, [mixed])[0] == [("q0", "right"), ("q0", "worked")]


def test_copies_are_kept_where_asked():
    rows, _ = texts(TopK(keep_copies=True), 0.5)
    assert rows == [("q0", "other"), ("q0", "right"), ("q0", "right")]


def test_copies_use_up_places_when_they_are_dropped_after_the_cap():
    copies = [rollout(0, [("right", 1.0, True), ("right", 1.0, True), ("other", 0.9, True)])]
    assert len(texts(TopK(max_per_problem=2, dedup="after_cap"), 0.5, copies)[0]) == 1
    assert len(texts(TopK(max_per_problem=2), 0.5, copies)[0]) == 2


@pytest.mark.parametrize(("wanted", "rows"), [(0.5, 2), (1.0, 2), (1.4, 3), (9, 4)])
def test_the_cap_is_the_smallest_that_gives_the_rows_wanted(wanted, rows):
    assert len(texts(TopK(rows_per_problem=wanted), -0.5)[0]) == rows
