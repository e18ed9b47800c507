"""Every estimator against the mean over all subsets, written out."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import estimators

TOLERANCE = 1e-9


@st.composite
def experiments(draw, largest: int = 7):
    """n samples out of a few distinct responses, each with a verdict and a reward of a coarse grid, so ties abound."""
    n = draw(st.integers(1, largest))
    table = draw(st.lists(st.tuples(st.booleans(), st.sampled_from([-1.0, 0.0, 0.5])), min_size=5, max_size=5))
    texts = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    k = draw(st.integers(1, n))
    s = draw(st.integers(1, k))
    return texts, [table[t][0] for t in texts], [table[t][1] for t in texts], k, s


def mean_over_subsets(n: int, k: int, statistic) -> float:
    return float(np.mean([statistic(subset) for subset in itertools.combinations(range(n), k)]))


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_pass_at_k_is_the_mean_over_subsets(experiment):
    texts, correct, _, k, _ = experiment
    expected = mean_over_subsets(len(texts), k, lambda subset: any(correct[i] for i in subset))
    assert float(estimators.pass_at_k(len(texts), sum(correct), k)) == pytest.approx(expected, abs=TOLERANCE)


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_pass_at_k_s_is_the_mean_over_subsets(experiment):
    texts, correct, _, k, s = experiment
    copies = list(Counter(t for t, right in zip(texts, correct, strict=True) if right).values())
    expected = mean_over_subsets(len(texts), k, lambda subset: len({texts[i] for i in subset if correct[i]}) >= s)
    assert estimators.pass_at_k_s(len(texts), copies, k, s) == pytest.approx(expected, abs=TOLERANCE)


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_maj_at_k_is_the_mean_over_subsets_with_ties_averaged(experiment):
    texts, correct, _, k, _ = experiment
    right = dict(zip(texts, correct, strict=True))
    votes = Counter(texts)
    silent = votes.pop(0, 0)  # response 0 holds no answer

    def won(subset) -> float:
        counts = Counter(texts[i] for i in subset if texts[i] != 0)
        best = [t for t in counts if counts[t] == max(counts.values())]
        return float(np.mean([right[t] for t in best])) if best else 0.0

    ours = estimators.maj_at_k(list(votes.values()), [right[t] for t in votes], k, silent)
    assert ours == pytest.approx(mean_over_subsets(len(texts), k, won), abs=TOLERANCE)


def rankings(items, reward):
    """All orders of the items in which rewards do not rise: the ways to break ties."""
    groups = [list(g) for _, g in itertools.groupby(sorted(items, key=lambda i: -reward(i)), key=lambda i: -reward(i))]
    for parts in itertools.product(*map(itertools.permutations, groups)):
        yield [item for part in parts for item in part]


@given(experiments(largest=6))
@settings(max_examples=60, deadline=None)
def test_reward_at_k_s_is_the_mean_over_subsets_and_orders_of_ties(experiment):
    texts, correct, rewards, k, s = experiment

    def best_are_right(subset) -> float:
        orders = list(rankings(subset, lambda i: rewards[i]))
        return float(np.mean([all(correct[i] for i in order[:s]) for order in orders]))

    expected = mean_over_subsets(len(texts), k, best_are_right)
    assert estimators.reward_at_k_s(correct, rewards, k, s) == pytest.approx(expected, abs=TOLERANCE)


@given(experiments(largest=6))
@settings(max_examples=60, deadline=None)
def test_distinct_reward_at_k_s_merges_copies_first(experiment):
    texts, correct, rewards, k, s = experiment
    right, reward = dict(zip(texts, correct, strict=True)), dict(zip(texts, rewards, strict=True))

    def best_are_right(subset) -> float:
        orders = list(rankings({texts[i] for i in subset}, lambda t: reward[t]))
        return float(np.mean([len(order) >= s and all(right[t] for t in order[:s]) for order in orders]))

    expected = mean_over_subsets(len(texts), k, best_are_right)
    ours = estimators.distinct_reward_at_k_s(correct, rewards, texts, k, s)
    assert ours == pytest.approx(expected, abs=TOLERANCE)
    copies = list(Counter(t for t in texts if right[t]).values())
    assert ours <= estimators.pass_at_k_s(len(texts), copies, k, s) + TOLERANCE


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_weighted_maj_at_k_is_the_mean_over_subsets(experiment):
    texts, correct, rewards, k, _ = experiment
    right = dict(zip(texts, correct, strict=True))

    def won(subset) -> float:
        sums: dict[int, float] = {}
        for i in subset:
            if texts[i] != 0:
                sums[texts[i]] = sums.get(texts[i], 0.0) + rewards[i]
        best = [t for t in sums if sums[t] == max(sums.values())]
        return float(np.mean([right[t] for t in best])) if best else 0.0

    ours = estimators.weighted_maj_at_k([t - 1 for t in texts], correct, rewards, k)
    assert ours == pytest.approx(mean_over_subsets(len(texts), k, won), abs=TOLERANCE)


def top_majority(texts, correct, rewards, k, top):
    """The vote of the best, over all subsets and orders of equal rewards; response 0 holds no answer."""
    right = dict(zip(texts, correct, strict=True))

    def won(subset) -> float:
        shares = []
        for order in rankings([i for i in subset if texts[i] != 0], lambda i: rewards[i]):
            counts = Counter(texts[i] for i in order[:top])
            best = [t for t in counts if counts[t] == max(counts.values())]
            shares.append(np.mean([right[t] for t in best]) if best else 0.0)
        return float(np.mean(shares))

    return mean_over_subsets(len(texts), k, won)


@given(experiments(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_top_maj_at_k_is_the_mean_over_subsets(experiment, top):
    texts, correct, rewards, k, _ = experiment
    distinct = [reward + 0.01 * i for i, reward in enumerate(rewards)]
    ours = estimators.top_maj_at_k([t - 1 for t in texts], correct, distinct, k, top)
    assert ours == pytest.approx(top_majority(texts, correct, distinct, k, top), abs=TOLERANCE)


def test_top_maj_at_k_ranks_equal_rewards_by_lot():
    texts, rewards = [1, 2, 2, 3, 0, 1], [0.5, 0.5, 0.5, 0.0, 0.9, 0.5]
    correct = [t == 2 for t in texts]
    for k in (4, 6):
        ours = estimators.top_maj_at_k([t - 1 for t in texts], correct, rewards, k, 3)
        assert ours == pytest.approx(top_majority(texts, correct, rewards, k, 3), abs=0.03)


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_best_of_k_is_at_most_pass_at_k_and_equal_under_the_oracle(experiment):
    texts, correct, rewards, k, _ = experiment
    coverage = float(estimators.pass_at_k(len(texts), sum(correct), k))
    assert estimators.reward_at_k_s(correct, rewards, k) <= coverage + TOLERANCE
    oracle = [float(right) for right in correct]
    assert estimators.reward_at_k_s(correct, oracle, k) == pytest.approx(coverage, abs=TOLERANCE)


def test_the_closed_form_holds_without_ties():
    # Sum over i of [i correct] C(b_i, S-1) C(n-i, K-S) / C(n, K), with b_i correct ones before rank i.
    from math import comb

    rng = np.random.default_rng(0)
    n, k, s = 40, 16, 3
    correct = (rng.random(n) < 0.4).tolist()
    before = np.cumsum([0, *correct])[:-1]
    expected = sum(comb(int(b), s - 1) * comb(n - i - 1, k - s) for i, b in enumerate(before) if correct[i])
    ours = estimators.reward_at_k_s(correct, [-float(i) for i in range(n)], k, s)
    assert ours == pytest.approx(expected / comb(n, k), abs=TOLERANCE)


def test_large_n_neither_overflows_nor_loses_digits():
    from fractions import Fraction
    from math import comb

    n, k, s, c = 1024, 300, 40, 130
    expected = 1 - Fraction(sum(comb(c, j) * comb(n - c, k - j) for j in range(s)), comb(n, k))
    assert estimators.pass_at_k_s(n, [1] * c, k, s) == pytest.approx(float(expected), abs=TOLERANCE)
    shares = [estimators.maj_at_k([c, n - c], [True, False], k), estimators.maj_at_k([c, n - c], [False, True], k)]
    assert sum(shares) == pytest.approx(1, abs=TOLERANCE)


@given(chance=st.floats(0.05, 0.95), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_pass_at_1_does_not_move_with_n(chance, seed):
    # The mean over many problems of one difficulty is the chance itself, whatever n.
    rng = np.random.default_rng(seed)
    for n in (1, 4, 64):
        counts = rng.binomial(n, chance, 40_000)
        error = 5 * np.sqrt(chance * (1 - chance) / (40_000 * n))
        assert estimators.pass_at_k(n, counts, 1).mean() == pytest.approx(chance, abs=error)


def test_k_above_n_is_refused():
    with pytest.raises(ValueError, match="k = 3 must be between 1 and the 2 samples"):
        estimators.pass_at_k(2, 1, 3)
    with pytest.raises(ValueError, match="k = 3"):
        estimators.maj_at_k([2], [True], 3)
    with pytest.raises(ValueError, match="S = 2"):
        estimators.reward_at_k_s([True, True], [0.0, 1.0], 1, 2)


def test_the_generation_verification_gap_by_hand():
    correct, kept = [True, True, False, False], [True, False, True, False]
    assert estimators.gv_gap(correct, kept) == 0.0  # 1 of 2 kept, 2 of 4 of all
    assert estimators.gv_gap(correct, [True, True, False, False]) == 0.5
    assert estimators.relative_gv_gap(correct, [True, True, False, False]) == 1.0  # all that was to be gained
    assert estimators.gv_gap(correct, [False] * 4) == 0.0
    assert estimators.relative_gv_gap([True, True], [True, False]) is None


@pytest.mark.parametrize(
    ("n", "c", "k", "by_tau", "mean"),
    [
        (16, 11, 8, (0.9999999999999, 0.9871794872, 0.5, 0.0128205128), 0.3782051282),
        (8, 3, 4, (0.9285714286, 0.5, 0.0714285714, 0.0), 0.0357142857),
        (48, 20, 16, (0.9773441666, 0.3012883510, 0.0012631806, 2.1e-9), 0.0221345397),
        (16, 16, 8, (1.0, 1.0, 1.0, 1.0), 1.0),
    ],
)
def test_g_pass_at_k_has_the_values_of_the_authors_program(n, c, k, by_tau, mean):
    found = [estimators.g_pass_at_k(n, c, k, tau) for tau in (0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx(by_tau, abs=1e-9)
    assert estimators.mean_g_pass_at_k(n, c, k) == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("tau", [0.01, 0.07, 0.3, 0.5, 0.9, 1.0])
def test_g_pass_at_k_equals_enumeration(tau):
    n, c = 7, 4
    for k in range(1, n + 1):
        subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
        wanted = max(1, -(-round(tau * 100) * k // 100))
        share = sum(sum(subset) >= wanted for subset in subsets) / len(subsets)
        assert estimators.g_pass_at_k(n, c, k, tau) == pytest.approx(share, abs=1e-12)
    assert estimators.g_pass_at_k(n, c, 3, 1e-9) == pytest.approx(float(estimators.pass_at_k(n, c, 3)))
