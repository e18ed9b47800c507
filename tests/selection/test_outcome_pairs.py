from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.selection.distinct import AnswerLine, DistinctTexts
from harness.selection.outcome_pairs import DistancePairs, GoldPairs, OutcomePairs, WrittenPairs, before_phrase
from harness.store import write_rows
from harness.types import RolloutConfig
from tests.selection.test_balance import rollout


def pairs(rows, **options):
    found, counts = OutcomePairs(**options)([rollout(0, rows)], RolloutConfig(), lambda problem: problem.question)
    return {(pair.chosen, pair.rejected) for pair in found}, found, counts


def test_every_pair_prefers_the_higher_reward_by_the_margin():
    rows = [("best", 2.0, True), ("good", 1.0, True), ("close", 0.9, False), ("bad", 0.0, False)]
    assert pairs(rows, max_per_problem=99)[0] == {
        ("best", "good"), ("best", "close"), ("best", "bad"), ("good", "bad"), ("close", "bad"),
    }  # fmt: skip


def test_a_problems_pairs_weigh_one_in_all():
    rows = [(f"right{i}", 1.0, True) for i in range(3)] + [(f"wrong{i}", 0.0, False) for i in range(3)]
    _, found, counts = pairs(rows, max_per_problem=4)
    assert len(found) == 4
    assert sum(pair.weight for pair in found) == 1
    assert counts["paired_share"] == 1


def test_problems_all_right_or_all_wrong_give_no_pairs():
    assert pairs([("a", 1.0, True), ("b", 1.0, True)])[0] == set()
    assert pairs([("a", 0.0, False), ("b", 0.0, False)])[2]["paired_share"] == 0


def test_spin_prefers_the_worked_solution_to_the_policys_own_samples():
    """arXiv:2401.01335, section 4: as DPO, on pairs whose chosen side no policy drew."""
    row = rollout(0, [("own", 1.0, True), ("gold", 1.0, True), ("own", 1.0, True), ("other", 0.0, False)])
    row = replace(row, problem=replace(row.problem, solution="gold"))
    for count, expected in ((1, ["own"]), (3, ["own", "other"])):
        found, counts = GoldPairs(count)([row], RolloutConfig(), lambda problem: "Q")
        assert [(pair.prompt, pair.chosen, pair.rejected) for pair in found] == [("Q", "gold", s) for s in expected]
        assert sum(pair.weight for pair in found) == 1
        assert counts["same_share"] == pytest.approx(1 - len(expected) / count)
    # At the fixed point the policy writes as the solutions are written, and nothing is left to learn.
    same = replace(row, responses=row.responses[1:2])
    assert GoldPairs()([same], RolloutConfig(), lambda problem: "Q") == ([], {"num_rows": 0, "same_share": 1.0})
    with pytest.raises(InputError, match=r"problem '.*' has no worked solution to prefer"):
        GoldPairs()([rollout(0, [("a", 1.0, True)])], RolloutConfig(), lambda problem: "Q")


def distance_pairs(rows, **options):
    options = {"distinct": DistinctTexts(min_distance=0.0), **options}
    config = RolloutConfig(reward_threshold=0.5)
    found, counts = DistancePairs(**options)([rollout(0, rows)], config, lambda problem: problem.question)
    return [(pair.chosen, pair.rejected) for pair in found], counts


def test_the_farthest_wrong_response_is_rejected_and_none_twice():
    rows = [("aaaa", 1.0, True), ("aaab", 1.0, True), ("cccccc", 0.0, False), ("aaac", 0.0, False)]
    # Both are farthest from "cccccc" (6 edits against 1); the second must take what the first left.
    assert distance_pairs(rows)[0] == [("aaaa", "cccccc"), ("aaab", "aaac")]
    # There are no more pairs than wrong responses.
    assert distance_pairs(rows[:3])[0] == [("aaaa", "cccccc")]


@pytest.mark.parametrize(
    ("wrong", "rejected"),
    [
        # Edits by both lengths: "b" * 9 has 9 / 13 > 0.5, "bbbbb" 5 / 9 > 0.5, "bbb" 4 / 7 > 0.5, "aab" 2 / 7.
        (["b" * 9, "bbbbb", "bbb", "aab"], "bbb"),
        # "abbb" has 3 / 8 = 0.375: nothing is beyond 0.5 or 0.4, only it is beyond 0.3, "aab" is shorter but nearer.
        (["aab", "abbb"], "abbb"),
        # Nothing is beyond 0.3 ("aaab" has 1 / 8): the shortest of all.
        (["aaab", "aab"], "aab"),
    ],
)
def test_the_shortest_wrong_response_beyond_a_bound_is_rejected(wrong, rejected):
    rows = [("aaaa", 1.0, True), *((text, 0.0, False) for text in wrong)]
    assert distance_pairs(rows, rejected="shortest_beyond")[0] == [("aaaa", rejected)]


def test_wrong_responses_may_be_thinned_out_before_pairing():
    rows = [("a" * 10, 1.0, True), ("b" * 10, 0.0, False), ("b" * 12, 0.0, False), ("c" * 9, 0.0, False)]
    # The b's are 2 / 11 < 0.2 apart, so the longer is not looked at.
    assert distance_pairs(rows, max_wrong=24)[0] == [("a" * 10, "b" * 10)]
    assert distance_pairs(rows)[0] == [("a" * 10, "b" * 12)]


def test_the_answer_is_cut_from_rejected_responses_where_text_is_left():
    assert before_phrase("So 5.\nThe answer is 5", "The answer is") == "So 5.\n"
    assert before_phrase("The answer is 5\n", "The answer is") == "The answer is 5\n"
    assert before_phrase("So 5.", "The answer is") == "So 5."
    rows = [("so 6\nThe answer is 6", 1.0, True), ("so 5\nThe answer is 5", 0.0, False)]
    assert distance_pairs(rows, cut_answer="The answer is")[0] == [("so 6\nThe answer is 6", "so 5\n")]


def test_problems_without_a_side_are_counted():
    _, counts = distance_pairs([("a", 0.0, False)])
    assert counts == {"num_rows": 0, "num_without_right": 1, "num_without_wrong": 0, "num_paired": 0}


ANSWERED = [
    ("first\nThe answer is 1\nand on", 1.0, True),
    ("second way\nThe answer is 1", 1.0, True),
    ("wrong\nThe answer is 7\nand on", 0.0, False),
    ("wrong\nThe answer is 8", 0.0, False),
    ("wrong\nThe answer is 71", 0.0, False),
]


@pytest.mark.parametrize("answer_line", [None, AnswerLine()])
def test_pairs_read_from_their_file_are_the_pairs_that_were_written(tmp_path, answer_line):
    miner = DistancePairs(DistinctTexts(min_distance=0.0, answer_line=answer_line), cut_answer="The answer is")
    one = rollout(0, ANSWERED)
    rows, _ = miner([one], RolloutConfig(), lambda problem: problem.question)
    assert [row.rejected for row in rows] == ["wrong\n"] * 2
    write_rows(tmp_path / "pairs.jsonl", rows)
    read = WrittenPairs(tmp_path / "pairs.jsonl").paired(one)
    assert [(c, s.response) for c, s in read] == [(c, s.response) for c, s in miner.paired(one)]
    assert len({scored.response.text for _, scored in read}) == 2


def test_pairs_of_other_rollouts_are_refused(tmp_path):
    one = rollout(0, ANSWERED)
    write_rows(tmp_path / "pairs.jsonl", DistancePairs(DistinctTexts())([one], RolloutConfig(), lambda p: "")[0])
    with pytest.raises(InputError, match=r"pairs.jsonl: problem .*: no rollout begins with the rejected response"):
        WrittenPairs(tmp_path / "pairs.jsonl").paired(rollout(0, ANSWERED[:2]))
