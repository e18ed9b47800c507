import itertools
import math

import numpy as np
import pytest

from harness.metrics import batched, estimators
from harness.metrics.monitors import monitors
from harness.metrics.summary import MetricConfig, evaluate, rankings_of
from harness.rewards import ArithmeticSteps, Outcome, OutcomeElseProcess, UnitTests, WeightedSum
from harness.types import Problem, Response, Rollout, ScoredResponse


def rollout(*rows, problem="p"):
    """A rollout from (text, correct, reward) rows."""
    return Rollout(
        Problem(problem, "1 + 1", "2"),
        tuple(ScoredResponse(Response((text,), "stop", (1, 2), -1.0), text, c, r) for text, c, r in rows),
    )


@pytest.mark.parametrize("seed", range(20))
def test_batched_estimators_equal_those_of_single_problems(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    k = int(rng.integers(1, n + 1))
    s = int(rng.integers(1, k + 1))
    texts = rng.integers(0, n, (6, n))
    correct = rng.random((6, 1)) < rng.random((6, n))
    rewards = np.round(rng.random((6, n)), 1 if seed % 2 else 6)  # every other seed has ties
    copies = np.zeros((6, n), dtype=int)
    for row in range(6):
        sizes = np.sort(np.bincount(texts[row][correct[row]]))[::-1]
        copies[row, : len(sizes)] = sizes[:n]
    passed, best = batched.pass_at_k_s(copies, n, k, s), batched.reward_at_k_s(correct, rewards, k, s)
    for row in range(6):
        sizes = [int(size) for size in copies[row] if size]
        assert passed[row] == pytest.approx(estimators.pass_at_k_s(n, sizes, k, s), abs=1e-9)
        assert best[row] == pytest.approx(
            estimators.reward_at_k_s(correct[row].tolist(), rewards[row].tolist(), k, s), abs=1e-9
        )


def test_the_best_of_k_is_the_mean_over_all_subsets():
    correct, rewards = np.array([[True, False, True, False, True]]), np.array([[0.9, 0.8, 0.8, 0.1, 0.0]])
    # Brute force over subsets and over both orders of the tied pair (indices 1 and 2).
    wins = []
    for tie in ((1, 2), (2, 1)):
        rank = {0: 0, tie[0]: 1, tie[1]: 2, 3: 3, 4: 4}
        wins += [correct[0][min(subset, key=rank.get)] for subset in itertools.combinations(range(5), 3)]
    assert batched.reward_at_k_s(correct, rewards, 3)[0] == pytest.approx(np.mean(wins))


def test_sixty_four_samples_of_one_problem_lose_no_precision():
    correct = np.arange(64)[None] % 3 == 0
    rewards = np.zeros((1, 64))
    # With all rewards equal the best of K is a random response, and S best are S random ones without replacement.
    assert batched.reward_at_k_s(correct, rewards, 32, 1)[0] == pytest.approx(22 / 64, abs=1e-12)
    assert batched.reward_at_k_s(correct, rewards, 32, 4)[0] == pytest.approx(
        math.comb(22, 4) / math.comb(64, 4), abs=1e-12
    )


def test_both_rankings_of_a_combined_reward_are_told_apart():
    # By answer and process the right one (1 - 0.5) beats the wrong one (0.3); by process alone it loses.
    rows = [rollout(("a", True, 0.5), ("b", False, 0.3))]
    found = monitors(rows, WeightedSum(ArithmeticSteps()), threshold=0.4)
    assert (found["reward@2/answer+prm"], found["reward@2/prm"]) == (1.0, 0.0)
    assert (found["selection_loss@2/answer+prm"], found["selection_loss@2/prm"]) == (0.0, 1.0)
    assert (found["auc/answer+prm"], found["auc/prm"]) == (1.0, 0.0)
    assert (found["selection_gap"], found["relative_selection_gap"]) == (0.5, 1.0)
    # What is kept without the gold is the wrong one: the gap of the verifier itself.
    assert (found["gv_gap/prm"], found["relative_gv_gap/prm"]) == (-0.5, -1.0)


def test_the_gap_while_training_is_that_of_the_evaluation():
    rng = np.random.default_rng(0)
    drawn = [[(rng.random() < 0.5, rng.random()) for _ in range(6)] for _ in range(20)]
    rows = [rollout(*[("t", right, right + value) for right, value in group]) for group in drawn]
    found = monitors(rows, WeightedSum(ArithmeticSteps()), threshold=0.5)
    wanted = evaluate(rows, MetricConfig(votes=False), rankings_of(1.0))
    for name in ("gv_gap/prm", "relative_gv_gap/prm"):
        assert found[name] == pytest.approx(wanted[name].value)


@pytest.mark.parametrize("reward", [Outcome(), OutcomeElseProcess(ArithmeticSteps()), UnitTests(), lambda *_: []])
def test_a_reward_that_may_see_the_gold_gives_no_ranking_but_answer(reward):
    found = monitors([rollout(("a", True, 1.0), ("b", False, 0.0))], reward, 0.5)
    assert {name.partition("/")[2] for name in found if "/" in name} == {"answer"}


def test_a_ranking_by_the_outcome_loses_nothing_in_selection():
    rows = [rollout(("a", True, 1.0), ("a", True, 1.0), ("b", False, 0.0), ("c", False, 0.0))]
    found = monitors(rows, Outcome(), threshold=0.5)
    assert found["pass@4"] == found["reward@4/answer"] == 1.0
    assert found["pass@2"] == pytest.approx(5 / 6)  # of 6 pairs only (b, c) holds no right one
    assert found["selection_loss@2/answer"] == pytest.approx(0.0)
    assert found["pass@4-4"] == 0.0
    assert found["duplicate_share"] == 0.25


def test_copies_of_one_right_response_are_not_several_distinct_ones():
    four = [rollout(*[("a", True, 1.0)] * 4)]
    different = [rollout(*[(text, True, 1.0) for text in "abcd"])]
    assert monitors(four)["pass@4-4"] == 0.0
    assert monitors(different)["pass@4-4"] == 1.0


def test_problems_with_different_numbers_of_responses_are_estimated_at_the_smallest():
    rows = [rollout(*[("a", True, 1.0)] * 2), rollout(("a", False, 0.0), ("b", True, 1.0), ("c", False, 0.0))]
    found = monitors(rows, Outcome(), 0.5)
    assert found["pass@2"] == pytest.approx((1 + 2 / 3) / 2)
    assert not [name for name in found if "@3" in name]


def test_equations_of_right_responses_are_counted_once_each():
    rows = [rollout(("1 + 1 = 2\n", True, 1.0), ("1 + 1 = 2\n2 = 2\n", True, 1.0), ("1 + 1 = 3\n", False, 0.0))]
    assert monitors(rows)["distinct_equation_ratio"] == pytest.approx(2 / 3)
    assert "distinct_equation_ratio" not in monitors([rollout(("no", True, 1.0))])


def test_no_rollouts_and_no_responses_give_numbers_and_no_rankings():
    assert monitors([], Outcome(), 0.0)["accuracy"] == 0.0
    assert "pass@1" not in monitors([Rollout(Problem("p", "q", "1"))], Outcome(), 0.0)
