"""Bounds against the published constants, error and power by simulation, adjusted estimates against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.metrics.sequential import (
    bounds,
    confidence_sequence,
    crossing,
    e_bh,
    e_process,
    group_sequential,
    holm,
    random_order,
    values_needed,
)

PLANNED, LOOKS = 500, 5


@pytest.mark.parametrize(
    ("boundary", "looks", "constant"),
    [
        # Jennison and Turnbull, Group Sequential Methods (2000), tables 2.1 and 2.3, two-sided 5 %.
        ("pocock", 2, 2.178), ("pocock", 3, 2.289), ("pocock", 5, 2.413), ("pocock", 10, 2.555),
        ("obrien_fleming", 2, 1.977), ("obrien_fleming", 3, 2.004), ("obrien_fleming", 5, 2.040),
        ("obrien_fleming", 10, 2.087),
    ],
)  # fmt: skip
def test_bounds_are_the_published_ones(boundary, looks, constant):
    found = bounds(looks, boundary)
    assert found[-1] == pytest.approx(constant, abs=6e-4)
    shape = [1.0] * looks if boundary == "pocock" else [math.sqrt(looks / k) for k in range(1, looks + 1)]
    assert found == pytest.approx([found[-1] * each for each in shape])


def test_one_look_is_the_usual_test():
    assert bounds(1) == pytest.approx((1.959964,), abs=1e-5)


def test_crossing_chances_equal_simulated_ones():
    limits, drift = bounds(3, "pocock"), 1.5
    steps = np.random.default_rng(0).normal(drift / math.sqrt(3), 1, (200_000, 3))
    z = steps.cumsum(1) / np.sqrt([1, 2, 3])
    alive = np.ones(len(z), dtype=bool)
    for k, (up, down) in enumerate(crossing(limits, drift)):
        assert up == pytest.approx((alive & (z[:, k] >= limits[k])).mean(), abs=4e-3)
        assert down == pytest.approx((alive & (z[:, k] <= -limits[k])).mean(), abs=4e-3)
        alive &= np.abs(z[:, k]) < limits[k]


def pairs(difference: float, seed: int, count: int = PLANNED) -> np.ndarray:
    """Differences of which 30 % are not 0, as between two checkpoints."""
    chances = [0.15 + difference / 2, 0.7, 0.15 - difference / 2]
    return np.random.default_rng(seed).choice([1.0, 0.0, -1.0], p=chances, size=count)


def looks_until_end(differences: np.ndarray, boundary: str) -> tuple[bool, int]:
    """As `group_sequential`, without the adjusted estimates, which 2,000 runs need not have."""
    from harness.metrics.sequential import _look

    for k in range(1, LOOKS + 1):
        seen = differences[: PLANNED * k // LOOKS]
        if _look(seen, bounds(LOOKS, boundary)[k - 1])[1]:
            return True, len(seen)
    return False, PLANNED


@pytest.mark.parametrize("boundary", ["obrien_fleming", "pocock"])
def test_without_a_difference_looking_five_times_rejects_in_one_of_twenty(boundary):
    rejected = [looks_until_end(pairs(0.0, seed), boundary)[0] for seed in range(2000)]
    assert np.mean(rejected) <= 0.05


def test_ten_points_are_found_with_less_than_two_thirds_of_the_problems():
    found = [looks_until_end(pairs(0.1, seed), "obrien_fleming") for seed in range(2000)]
    assert np.mean([rejected for rejected, _ in found]) >= 0.96
    assert np.mean([used for _, used in found]) <= 0.65 * PLANNED


def test_peeking_without_bounds_rejects_far_more_often():
    from harness.metrics.intervals import mcnemar

    def peeked(differences: np.ndarray) -> bool:
        return any(
            mcnemar(int((seen > 0).sum()), int((seen < 0).sum())) < 0.05
            for seen in (differences[:count] for count in range(20, PLANNED + 1, 20))
        )

    assert np.mean([peeked(pairs(0.0, seed)) for seed in range(300)]) > 0.12


def test_the_adjusted_estimate_is_median_unbiased_where_the_plain_one_is_not():
    found = [group_sequential(pairs(0.1, seed), PLANNED) for seed in range(150)]
    adjusted = [test.adjusted for test in found]
    assert abs(np.median([each.value for each in adjusted]) - 0.1) < 0.015
    assert np.mean([each.low <= 0.1 <= each.high for each in adjusted]) >= 0.9
    early = [test.difference.value for test in found if test.taken < LOOKS]
    assert np.mean(early) > 0.105


def test_the_adjusted_p_value_of_one_look_is_the_normal_one():
    test = group_sequential(pairs(0.05, 3), PLANNED, looks=1)
    error = (test.difference.high - test.difference.low) / 2 / 1.959964
    normal = math.erfc(abs(test.difference.value / error) / math.sqrt(2))
    assert test.p_value == pytest.approx(normal, abs=1e-6)
    assert test.adjusted.value == pytest.approx(test.difference.value, abs=1e-6)


def test_a_plan_that_has_not_come_to_its_end_gives_no_p_value():
    differences = pairs(0.0, 1)
    assert group_sequential(differences[:99], PLANNED) is None
    test = group_sequential(differences[:250], PLANNED)
    assert (test.taken, test.problems, test.ended, test.p_value, test.adjusted) == (2, 200, False, None, None)
    with pytest.raises(ValueError, match="do not fit"):
        group_sequential(differences, 400)


def test_values_between_0_and_1_are_tested_by_their_spread():
    values = np.random.default_rng(0).normal(0.1, 0.3, PLANNED).clip(-1, 1)
    test = group_sequential(values, PLANNED)
    assert test.significant
    seen = values[: test.problems]
    assert test.z == pytest.approx(seen.mean() / seen.std(ddof=1) * math.sqrt(len(seen)))


def test_the_e_process_keeps_its_level_at_every_problem_and_finds_ten_points():
    null = [e_process(pairs(0.0, seed).tolist()).significant for seed in range(500)]
    assert np.mean(null) <= 0.05
    found = [e_process(pairs(0.1, seed).tolist()).significant for seed in range(200)]
    assert 0.75 < np.mean(found) < 0.9  # less than the 98 % of a plan: the price of looking at will


def test_the_capital_of_a_bet_by_hand():
    # Stakes: 0 before anything is known; then 1 / 1.25 = 0.8, cut to 0.75; then 0 / 2.25.
    bet = e_process([1.0, -1.0, 1.0])
    assert bet.evidence == pytest.approx((1 - 0.75 + 1) / 2)
    assert bet.largest == 1.0
    with pytest.raises(ValueError, match="between -1 and 1"):
        e_process([2.0])


def shares_of(kind: str, mean: float, count: int, seed: int) -> np.ndarray:
    """Accuracies of problems: of one answer each, or of 4 answers with chances that differ between problems."""
    rng = np.random.default_rng(seed)
    if kind == "one":
        return (rng.random(count) < mean).astype(float)
    return rng.binomial(4, rng.beta(mean, 1 - mean, count)) / 4


@pytest.mark.parametrize(("kind", "mean"), [("one", 0.1), ("one", 0.5), ("four", 0.9)])
def test_an_interval_that_decided_when_to_stop_still_covers(kind, mean):
    runs, width, most = 200, 0.12, 800
    covered = used = 0
    for seed in range(runs):
        values, count = shares_of(kind, mean, most, seed), 32
        while True:  # as `harness eval --until` does
            found = confidence_sequence(values[:count], width)
            if (found.high - found.low) / 2 < width:
                break
            count = max(count + 16, min(2 * count, values_needed(values[:count], width)))
            assert count <= most
        covered += found.low <= mean <= found.high
        used += count
    assert covered / runs >= 0.94
    variance = shares_of(kind, mean, 20_000, 0).var()
    assert used / runs <= 2.6 * 1.96**2 * variance / width**2 + 32


def test_a_confidence_sequence_holds_at_all_times_together():
    missed = 0
    for seed in range(100):
        values = shares_of("one", 0.3, 240, seed)
        found = (confidence_sequence(values[:count], 0.1) for count in range(5, 241, 15))
        missed += any(not each.low <= 0.3 <= each.high for each in found)
    assert missed / 100 <= 0.05


def test_a_confidence_sequence_by_hand():
    # One value of 1: the stake is h / (1/4 + h^2), and above m the bet has won 1 + min(stake, 3/4 / m) (1 - m).
    found = confidence_sequence([1.0], 0.1)
    assert (found.low, found.high, found.value) == (0.0, 1.0, 1.0)
    ones = confidence_sequence([1.0] * 60, 0.1)
    assert 0.0 < ones.low < 0.95
    assert ones.high == 1.0
    won = 0.0
    mean, squares, variance = 0.5, 0.25, 0.25
    for i in range(60):
        won += math.log1p(min(0.1 / (variance + 0.01), 0.75 / ones.low) * (1 - ones.low))
        mean = (mean * (i + 1) + 1) / (i + 2)
        squares += (1 - mean) ** 2
        variance = squares / (i + 2)
    assert won == pytest.approx(math.log(40), abs=1e-9)
    assert confidence_sequence([0.0] * 60, 0.1).high == pytest.approx(1 - ones.low, abs=1e-9)
    assert (confidence_sequence([], 0.1).low, confidence_sequence([], 0.1).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        confidence_sequence([2.0], 0.1)


def test_an_order_is_random_and_a_part_of_it_is_its_beginning():
    ids = [f"task/{i}" for i in range(100)]
    order = random_order(ids)
    assert sorted(order) == sorted(ids)
    assert order != ids
    assert order != random_order(ids, seed=1)
    half = set(order[:50])
    assert random_order([each for each in reversed(ids) if each in half]) == order[:50]


def test_holm_and_e_bh_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    # m = 4, level 0.05: thresholds 80, 40, 26.7, 20 for the 1st to 4th largest.
    assert e_bh([100, 45, 1, 10]) == [True, True, False, False]
    assert e_bh([39, 39, 39, 39]) == [True] * 4
    assert e_bh([5, 1]) == [False, False]
