import math
import random
from dataclasses import replace

import numpy as np
import pytest

from harness.errors import InputError
from harness.selection.balance import (
    BalancedSampling,
    balance_scores,
    fixed_temperatures_of_released_run,
    released_code_thresholds,
    score_thresholds,
)
from harness.selection.ranked import build_pool
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse
from tests.selection.plain_balance import balance


def rollout(index, rows, solution=""):
    """A rollout from (text, reward, correct) rows."""
    responses = tuple(ScoredResponse(Response((text,), "stop"), "", correct, reward) for text, reward, correct in rows)
    return Rollout(Problem(str(index), f"q{index}", "1", solution), responses)


def random_queries(rng, num_queries, num_samples, distinct_rewards):
    """Queries whose copies carry the same reward and verdict, as the same text always does."""
    queries = []
    for _ in range(num_queries):
        known = {}
        rows = []
        for _ in range(rng.randint(0, num_samples)):
            text = f"t{rng.randint(0, num_samples)}"
            reward = rng.random() * 3 - 1 if distinct_rewards else rng.choice([-0.5, 0.0, 0.5, 1.0])
            known.setdefault(text, (reward, rng.random() < 0.4))
            rows.append((text, *known[text]))
        queries.append(rows)
    return queries


def test_the_papers_worked_numbers():
    # 16 of 64 selected are correct: ratio .25, quantity full; 2 of 2 with n* = 8: quantity .25; 8 of 8: both full.
    scores = balance_scores(np.array([16, 2, 8, 0]), np.array([64, 2, 8, 0]), 8)
    assert scores.tolist() == [0.25, 0.25, 1.0, 0.0]


def test_more_correct_rows_than_n_star_add_nothing_at_a_fixed_ratio():
    counts = np.arange(8, 64)
    assert set(balance_scores(counts, 2 * counts, 8).tolist()) == {0.5}


@pytest.mark.parametrize("dedup", ["before_cap", "after_cap"])
@pytest.mark.parametrize("empty", ["zero", "drop"])
def test_the_vectorised_search_equals_the_plain_definition(dedup, empty):
    rng = random.Random(f"{dedup}{empty}")
    for case in range(500):
        # With distinct rewards for distinct texts the order is the same in both; copies of a text are interchangeable.
        queries = random_queries(rng, rng.randint(1, 6), rng.randint(1, 8), distinct_rewards=True)
        thresholds = sorted(rng.uniform(-1.2, 2.2) for _ in range(5))
        target = rng.choice([None, 1, 3, 8, 100])
        n_star = rng.choice([1, 2, 6, 8])
        pool = build_pool([rollout(i, q) for i, q in enumerate(queries)], dedup=dedup, seed=case)
        found = score_thresholds(pool, thresholds, target=target, n_star=n_star, empty=empty)
        for i, threshold in enumerate(thresholds):
            score, cap = balance(queries, threshold, target, n_star, dedup, empty)
            assert found.mean[i] == pytest.approx(score, abs=1e-12)
            assert found.cap[i] == cap


def test_a_threshold_equal_to_a_reward_does_not_select_it():
    pool = build_pool([rollout(0, [("a", 0.5, True), ("b", 0.2, False)])])
    assert pool.num_above(np.array([0.5, 0.49, 0.2, 0.1])).ravel().tolist() == [0, 1, 1, 2]


def test_a_query_with_only_the_gold_solution_scores_one_over_n_star():
    unsolved = rollout(0, [("wrong", -0.3, False)], solution="worked")
    pool = build_pool([unsolved], with_gold=True, dedup="after_cap")
    assert score_thresholds(pool, [0.0], target=None, n_star=8).mean[0] == 1 / 8


def test_the_released_code_steps_its_thresholds_in_floating_point():
    thresholds = released_code_thresholds()
    assert len(thresholds) == 200
    assert thresholds[-1] == pytest.approx(0.99)
    assert fixed_temperatures_of_released_run() == (0.55, 0.65, 0.75, 0.85, 0.95, 1.05, 1.15)


class ProbeOf:
    """Hands out prepared rollouts by temperature and counts what was asked for."""

    def __init__(self, rollouts):
        self.rollouts, self.asked = rollouts, 0

    @property
    def num_problems(self):
        return len(next(iter(self.rollouts.values())))

    def __call__(self, sampling, start=0, stop=None):
        rows = self.rollouts[sampling.temperature][start:stop]
        self.asked += len(rows)
        return rows


def prepared(rng, temperatures, quality, num_problems=200, n=8):
    """Rollouts whose share of correct, distinct samples is `quality` of the temperature."""
    return {
        t: [
            rollout(
                i, [(f"{rng.random()}" if (c := rng.random() < quality(t)) else "wrong", float(c), c) for _ in range(n)]
            )
            for i in range(num_problems)
        ]
        for t in temperatures
    }


def test_the_setting_of_the_highest_score_is_chosen_and_its_plateau_reported():
    rng = random.Random(0)
    temperatures = (0.5, 0.8, 1.1)
    probe = ProbeOf(prepared(rng, temperatures, lambda t: {0.5: 0.2, 0.8: 0.9, 1.1: 0.3}[t]))
    scheduler = BalancedSampling(SamplingConfig(n=8), temperatures, (-0.5, 0.5), rows_per_problem=8)
    config, account = scheduler.decide(1, probe)
    assert (config.sampling.temperature, config.reward_threshold) == (0.8, 0.5)
    assert np.shape(account["balance_scores"]) == (3, 2)
    assert account["balance_score"] == np.max(account["balance_scores"])
    assert [entry["temperature"] for entry in account["plateau"]] == [0.8]


def test_halving_makes_the_same_choice_with_fewer_samples():
    temperatures = tuple(round(0.5 + 0.1 * i, 1) for i in range(8))
    full = BalancedSampling(SamplingConfig(n=8), temperatures, (0.5,), rows_per_problem=4)
    saved = []
    for seed in range(5):
        rollouts = prepared(random.Random(seed), temperatures, lambda t: 0.8 - abs(t - 0.9), num_problems=400)
        whole, halved = ProbeOf(rollouts), ProbeOf(rollouts)
        choice, _ = full.decide(1, whole)
        assert replace(full, halving=True).decide(1, halved)[0] == choice
        saved.append(1 - halved.asked / whole.asked)
    assert min(saved) > 0.3


def test_the_threshold_is_searched_again_on_all_rollouts_where_asked():
    rows = [rollout(i, [("a", 0.9, True), ("b", 0.3, False)]) for i in range(4)]
    scheduler = BalancedSampling(SamplingConfig(n=2), (1.0,), (-1.0, 0.5), rows_per_problem=2, n_star=1)
    probe = ProbeOf({1.0: [rollout(0, [("a", 0.2, True), ("b", 0.3, True)])]})
    decision = scheduler.decide(1, probe)
    assert decision[0].reward_threshold == -1.0
    assert scheduler.refine(decision, rows) == decision
    again, account = replace(scheduler, search_threshold_again=True).refine(decision, rows)
    assert again.reward_threshold == 0.5
    assert account["searched_again"]["balance_score"] == 1.0


def two_rewards():
    return ProbeOf({1.0: [rollout(i, [("a", 1.0, True), ("b", 0.25, False)]) for i in range(3)]})


def test_thresholds_above_all_rewards_are_refused_with_the_range_of_the_rewards():
    scheduler = BalancedSampling(SamplingConfig(n=2), (1.0,), (1.0, 2.0), rows_per_problem=2)
    with pytest.raises(InputError, match=r"thresholds 1 to 2 .*\(6 responses with rewards from 0.25 to 1\)"):
        scheduler.decide(1, two_rewards())


@pytest.mark.parametrize("thresholds", [(-1.0, 0.0), (0.3, 0.9)])
def test_thresholds_between_which_there_is_no_reward_are_reported(thresholds, caplog):
    BalancedSampling(SamplingConfig(n=2), (1.0,), thresholds, rows_per_problem=2).decide(1, two_rewards())
    [said] = [record.getMessage() for record in caplog.records]
    assert "select the same probe responses (6 responses with rewards from 0.25 to 1)" in said


@pytest.mark.parametrize("thresholds", [(-1.0, 0.25), (0.2, 0.3, 2.0), (0.0,)])
def test_thresholds_that_differ_in_what_they_select_are_not(thresholds, caplog):
    BalancedSampling(SamplingConfig(n=2), (1.0,), thresholds, rows_per_problem=2).decide(1, two_rewards())
    assert not caplog.records


def test_responses_cut_at_the_token_limit_are_counted_where_nothing_is_selected():
    cut = ScoredResponse(Response(("a",), "length"), "", True, 1.0)
    probe = ProbeOf({1.0: [Rollout(Problem("0", "q"), (cut, cut))]})
    with pytest.raises(InputError, match="2 of them cut at the token limit"):
        BalancedSampling(SamplingConfig(n=2), (1.0,), (0.5,)).decide(1, probe)


def test_responses_without_an_answer_count_only_where_asked_and_are_counted_where_nothing_is_selected():
    unanswered = ScoredResponse(Response(("a",), "stop"), None, False, 1.0)
    probe = ProbeOf({1.0: [Rollout(Problem("0", "q"), (unanswered, unanswered))]})
    scheduler = BalancedSampling(SamplingConfig(n=2), (1.0,), (0.5,))
    with pytest.raises(InputError, match="2 without an answer"):
        scheduler.decide(1, probe)
    assert replace(scheduler, keep_unanswered=True).scores(probe.rollouts[1.0]).num_selected.tolist() == [1]


def test_the_probe_may_have_a_target_of_its_own():
    rows = [rollout(i, [(f"{i} {j}", 1.0 - 0.1 * j, True) for j in range(4)]) for i in range(6)]
    scheduler = BalancedSampling(SamplingConfig(n=4), (1.0,), (0.0,), rows_per_problem=2, probe_rows_per_problem=3)
    assert scheduler.scores(rows).num_selected.tolist() == [18]
    assert scheduler.scores(rows, probe=False).num_selected.tolist() == [12]


def test_n_star_follows_from_the_rows_wanted_per_problem():
    assert BalancedSampling(SamplingConfig()).enough == math.ceil(67500 / 11500) == 6
    with pytest.raises(ValueError, match="n_star"):
        BalancedSampling(SamplingConfig(), rows_per_problem=None)
