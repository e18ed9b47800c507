"""Intervals for means over problems, paired tests between two systems, and how small a difference a test can see.

A problem is the unit of sampling everywhere: n samples of one problem are one cluster, so drawing more samples per
problem never makes an interval narrower than the problems themselves allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
SMALL = 100
"""Up to this many problems, intervals of shares are exact (Clopper-Pearson) rather than Wilson's."""

NO_SPREAD = 1e-12
"""A variance below it is rounding error; such values count as one observation per problem."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float
    count: int
    """Problems it is a mean over."""

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927)."""
    z = normal_quantile((1 + CONFIDENCE) / 2)
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    low = 0.0 if successes <= 0 else max(0.0, centre - half)
    high = 1.0 if successes >= trials else min(1.0, centre + half)
    return low, high


def clopper_pearson(successes: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson 1934); counts may be fractional, as effective sizes are."""
    tail = (1 - confidence) / 2
    failures = trials - successes
    low = 0.0 if successes <= 0 else beta_quantile(tail, successes, failures + 1)
    high = 1.0 if failures <= 0 else beta_quantile(1 - tail, successes + 1, failures)
    return low, high


def mean_interval(values: Sequence[float] | np.ndarray, bounded: bool = True) -> Estimate:
    """The mean over problems and its 95 % interval.

    Shares (all values within 0 and 1) get the interval of a binomial with the effective number of problems that their
    spread implies, corrected for estimating it from P problems (Korn and Graubard, Survey Methodology 24, 1998); for
    values of 0 and 1 alone that is the plain Wilson or Clopper-Pearson interval. It never has zero width. All other
    quantities get the Student interval.

    Args:
        values: one value per problem, each already a mean over its samples.
        bounded: whether the quantity is a share by nature.
    """
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    variance = float(values.var(ddof=1)) / count if count > 1 else math.inf
    if not bounded:
        half = 0.0 if variance == 0 else _student(count) * math.sqrt(variance)
        return Estimate(mean, mean - half, mean + half, count)
    mean = min(max(mean, 0.0), 1.0)
    binary = bool(np.isin(values, (0.0, 1.0)).all())
    if binary or count == 1 or variance < NO_SPREAD:
        trials = float(count)
    else:
        correction = normal_quantile((1 + CONFIDENCE) / 2) / _student(count)
        trials = mean * (1 - mean) / variance * correction**2
    low, high = (clopper_pearson if count <= SMALL else wilson)(mean * trials, trials)
    return Estimate(mean, low, high, count)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], count: int, *, seed: int = 0, num_resamples: int = 2000
) -> Estimate:
    """Percentile interval of any statistic of problems, resampled with replacement.

    Args:
        statistic: from problem indices (count,), with repeats, to the value.
        count: number of problems.
    """
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, count, count)) for _ in range(num_resamples)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(float(statistic(np.arange(count))), float(low), float(high), count)


@dataclass(frozen=True)
class PairedTest:
    """Two systems on the same problems."""

    difference: Estimate
    """Mean of the second minus mean of the first."""
    p_value: float
    method: str
    detectable: float
    """Smallest true difference found with 80 % power at the 5 % level on this many problems with this spread."""

    @property
    def significant(self) -> bool:
        """Whether a winner may be called: the test rejects, and the difference is one the data could have shown."""
        return self.p_value < 1 - CONFIDENCE and abs(self.difference.value) >= self.detectable


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare two systems problem by problem: McNemar for one sample each, a paired bootstrap otherwise.

    Args:
        first, second: one value per problem, in the same order.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired values of shapes {a.shape} and {b.shape} cannot be compared")
    differences = b - a
    detectable = minimum_detectable_difference(differences)
    if np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all():
        p_value = mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
        return PairedTest(mean_interval(differences, bounded=False), p_value, "McNemar, exact", detectable)
    interval = bootstrap_interval(lambda rows: float(differences[rows].mean()), len(differences), seed=seed)
    return PairedTest(interval, bootstrap_p_value(differences, seed=seed), "paired bootstrap", detectable)


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p-value that discordant pairs fall either way with equal chance (McNemar 1947)."""
    total = wins + losses
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, i) for i in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**total))


def bootstrap_p_value(differences: np.ndarray, *, seed: int = 0, num_resamples: int = 10_000) -> float:
    """Two-sided p-value of a zero mean, from resamples of the differences shifted to have one."""
    observed = abs(differences.mean())
    if observed == 0:
        return 1.0
    rng = np.random.default_rng(seed)
    centred = differences - differences.mean()
    extreme = 0
    for start in range(0, num_resamples, 500):
        rows = rng.integers(0, len(centred), (min(500, num_resamples - start), len(centred)))
        extreme += int((np.abs(centred[rows].mean(1)) >= observed - 1e-12).sum())
    return (extreme + 1) / (num_resamples + 1)


def minimum_detectable_difference(differences: np.ndarray, power: float = 0.8) -> float:
    """The true mean difference that a two-sided 5 % test of such differences detects with the given power.

    `(z(0.975) + z(power)) * sd / sqrt(P)`; with no spread at all, one problem's worth.
    """
    count = len(differences)
    deviation = float(differences.std(ddof=1)) if count > 1 else 1.0
    reach = normal_quantile((1 + CONFIDENCE) / 2) + normal_quantile(power)
    return max(reach * deviation / math.sqrt(count), 1 / count)


def normal_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


@cache
def _student(count: int) -> float:
    """The 97.5 % quantile of Student's t with count - 1 degrees of freedom."""
    freedom = count - 1
    if freedom < 1:
        return math.inf
    # P(T > t) = I_x(freedom / 2, 1 / 2) / 2 with x = freedom / (freedom + t^2)
    x = beta_quantile(1 - CONFIDENCE, freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """x with `incomplete_beta(a, b, x)` = probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
        if high - low <= 1e-15 * high:
            break
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    scale = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m, odd = divmod(step, 2)
        if odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        fraction *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return scale / fraction
