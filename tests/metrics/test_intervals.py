import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import intervals


@given(a=st.floats(0.5, 3000), b=st.floats(0.5, 3000), x=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_the_incomplete_beta_function_is_scipys(a, b, x):
    assert intervals.incomplete_beta(a, b, x) == pytest.approx(scipy.special.betainc(a, b, x), abs=1e-10)


@given(trials=st.integers(1, 3000), data=st.data())
@settings(max_examples=100, deadline=None)
def test_intervals_of_shares_are_scipys(trials, data):
    successes = data.draw(st.integers(0, trials))
    reference = scipy.stats.binomtest(successes, trials)
    assert intervals.clopper_pearson(successes, trials) == pytest.approx(
        tuple(reference.proportion_ci(method="exact")), abs=1e-9
    )
    assert intervals.wilson(successes, trials) == pytest.approx(
        tuple(reference.proportion_ci(method="wilson")), abs=1e-9
    )


@pytest.mark.parametrize("count", [2, 5, 30, 1319])
def test_the_interval_of_an_amount_is_students(count):
    values = np.random.default_rng(count).normal(3, 2, count)
    reference = scipy.stats.t.interval(0.95, count - 1, values.mean(), scipy.stats.sem(values))
    estimate = intervals.mean_interval(values, bounded=False)
    assert (estimate.low, estimate.high) == pytest.approx(reference, abs=1e-9)


def test_one_sample_per_problem_gives_the_binomial_interval():
    few, many = [1.0] * 7 + [0.0] * 23, [1.0] * 70 + [0.0] * 230
    assert (intervals.mean_interval(few).low, intervals.mean_interval(few).high) == intervals.clopper_pearson(7, 30)
    assert (intervals.mean_interval(many).low, intervals.mean_interval(many).high) == intervals.wilson(70, 300)


def test_repeating_every_sample_does_not_narrow_the_interval():
    # All samples of a problem agree, so 64 of them say no more than one.
    once = intervals.mean_interval([1.0, 0.0, 0.0, 1.0, 1.0] * 40)
    assert intervals.mean_interval([np.mean([v] * 64) for v in (1, 0, 0, 1, 1)] * 40) == once


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_an_interval_has_a_width_where_all_problems_agree(value):
    estimate = intervals.mean_interval([value] * 20)
    assert estimate.high - estimate.low > 0.1


def test_one_problem_gives_an_interval_that_says_next_to_nothing():
    estimate = intervals.mean_interval([0.5])
    assert estimate.low < 0.05
    assert estimate.high > 0.95
    assert intervals.mean_interval([3.0], bounded=False).high == math.inf


@pytest.mark.parametrize(("num_problems", "n"), [(30, 8), (400, 4)])
def test_clustered_intervals_cover_the_truth_in_95_percent_of_experiments(num_problems, n):
    rng = np.random.default_rng(0)
    chances = rng.beta(0.4, 1.2, (800, num_problems))  # problems differ in difficulty
    means = rng.binomial(n, chances) / n
    covered = [e.low <= 0.25 <= e.high for e in (intervals.mean_interval(row) for row in means)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


@given(wins=st.integers(0, 200), losses=st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_mcnemar_is_the_exact_binomial_test(wins, losses):
    expected = scipy.stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert intervals.mcnemar(wins, losses) == pytest.approx(expected, abs=1e-9)


def test_the_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(1)
    values = rng.beta(2, 3, 200)
    ours = intervals.bootstrap_interval(lambda rows: float(values[rows].mean()), 200, num_resamples=5000)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=rng)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.005)


def test_the_bootstrap_p_value_is_close_to_the_t_tests():
    differences = np.random.default_rng(2).normal(0.05, 0.3, 300)
    expected = scipy.stats.ttest_1samp(differences, 0).pvalue
    assert intervals.bootstrap_p_value(differences) == pytest.approx(expected, abs=0.01)


def test_the_detectable_difference_is_found_with_80_percent_power():
    rng = np.random.default_rng(3)
    spread = rng.normal(0, 0.4, 500)
    detectable = intervals.minimum_detectable_difference(spread)
    samples = rng.normal(detectable, 0.4, (2000, 500))
    found = scipy.stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.06)


def test_no_winner_is_called_inside_the_detectable_difference():
    # 12 wins against 3 losses: the exact test rejects, but the difference of 0.0225 is below the 0.027 that 400
    # problems with this spread show reliably.
    first = [1.0] * 3 + [0.0] * 12 + [1.0] * 385
    second = [0.0] * 3 + [1.0] * 12 + [1.0] * 385
    test = intervals.paired_test(first, second)
    assert test.p_value == pytest.approx(scipy.stats.binomtest(3, 15).pvalue)
    assert test.p_value < 0.05
    assert test.difference.value < test.detectable
    assert not test.significant


def test_a_large_difference_is_called():
    first, second = [0.0] * 100, [1.0] * 60 + [0.0] * 40
    test = intervals.paired_test(first, second)
    assert test.significant
    assert test.method == "McNemar, exact"
    assert intervals.paired_test([0.5] * 100, [0.75] * 60 + [0.5] * 40).method == "paired bootstrap"


def clustered_values(seed: int, clusters: int, size: int) -> tuple[np.ndarray, list[str]]:
    """Answers of 0 and 1 to variants of a few problems, where variants of one problem go together; mean one half."""
    rng = np.random.default_rng(seed)
    rates = np.repeat(rng.beta(1, 1, clusters), size)
    return (rng.random(clusters * size) < rates).astype(float), [f"c{i // size}" for i in range(clusters * size)]


@pytest.mark.parametrize("bounded", [True, False])
def test_intervals_over_clusters_cover_where_plain_ones_do_not(bounded):
    def cover(with_clusters: bool) -> float:
        hits = 0
        for seed in range(400):
            values, clusters = clustered_values(seed, clusters=40, size=20)
            found = intervals.mean_interval(values, bounded, clusters if with_clusters else None)
            hits += found.low <= 0.5 <= found.high
        return hits / 400

    assert cover(True) >= 0.94
    assert cover(False) < 0.7


def test_clusters_of_one_change_nothing_and_their_variance_is_written_out():
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.5])
    alone = [str(i) for i in range(6)]
    assert intervals.mean_interval(values, True, alone) == intervals.mean_interval(values)
    assert intervals.mean_interval(values, False, alone) == intervals.mean_interval(values, False)
    deviations = values - values.mean()
    by_hand = (deviations[:3].sum() ** 2 + deviations[3:5].sum() ** 2 + deviations[5] ** 2) / 36 * 3 / 2
    assert intervals.clustered_variance(values, ["a", "a", "a", "b", "b", "c"]) == pytest.approx(by_hand)


def test_a_paired_test_over_clusters_does_not_take_variants_for_problems():
    def tested(with_clusters: bool, seed: int) -> bool:
        rng = np.random.default_rng(seed)
        # Each of 25 seed problems moves all of its 20 variants the same way: no difference on average.
        shift = np.repeat(rng.choice([-1, 1], 25), 20) * 0.3
        first = rng.random(500) < 0.5
        second = np.where(rng.random(500) < abs(shift), shift > 0, first)
        clusters = [f"c{i // 20}" for i in range(500)] if with_clusters else None
        return intervals.paired_test(first, second, clusters=clusters, seed=seed).p_value < 0.05

    assert np.mean([tested(True, seed) for seed in range(60)]) <= 0.12
    assert np.mean([tested(False, seed) for seed in range(60)]) > 0.3


def test_the_variance_of_an_accuracy_splits_into_problems_and_samples():
    rng = np.random.default_rng(0)
    rates, n, count = rng.beta(2, 2, 200_000), 4, 200_000
    correct = rng.binomial(n, rates)
    split = intervals.variance_split(n, correct)
    assert split.problems == pytest.approx(rates.var() / count, rel=0.02)
    assert split.samples == pytest.approx((rates * (1 - rates)).mean() / n / count, rel=0.02)
    assert split.problems + split.samples == pytest.approx((correct / n).var(ddof=1) / count)
    assert split.enough == math.ceil(10 * split.samples * n / split.problems)
    with pytest.raises(ValueError, match="needs two"):
        intervals.variance_split(1, [1, 0])


def test_an_earlier_models_values_sharpen_a_part_of_the_new_ones():
    errors, plain, covered = [], [], 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        skill = rng.normal(0, 1, 1000)
        old = (skill + rng.normal(0, 0.5, 1000) > 0.2).astype(float)
        new = (skill + rng.normal(0, 0.5, 1000) > 0).astype(float)
        found = intervals.control_variate(new[:200], old[:200], old)
        errors.append(found.value - 0.5)
        plain.append(new[:200].mean() - 0.5)
        covered += found.low <= 0.5 <= found.high
    assert abs(np.mean(errors)) < 0.004
    assert np.std(errors) <= 0.87 * np.std(plain)
    assert covered / 300 >= 0.93
    with pytest.raises(ValueError, match="four pairs"):
        intervals.control_variate([1, 0], [1, 0], [1, 0])


def test_the_standard_error_is_that_of_the_mean_over_problems_or_clusters():
    # avg@4 of five problems: sd over problems of c / n, over the root of their number.
    shares = [0.0, 0.25, 0.5, 1.0, 1.0]
    assert intervals.mean_interval(shares).error == pytest.approx(np.std(shares, ddof=1) / math.sqrt(5), abs=1e-12)
    clusters = ["a", "a", "b", "c", "c"]
    mean, names = np.mean(shares), sorted(set(clusters))
    totals = [sum(x - mean for x, c in zip(shares, clusters, strict=True) if c == name) for name in names]
    by_hand = math.sqrt(sum(total**2 for total in totals) * 3 / 2) / 5
    assert intervals.mean_interval(shares, clusters=clusters).error == pytest.approx(by_hand, abs=1e-12)
    assert intervals.mean_interval([0.5]).error is None
