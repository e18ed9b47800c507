from harness.rollouts.pairs import OutcomePairs
from harness.types import RolloutConfig
from tests.rollouts.test_balance import rollout


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
