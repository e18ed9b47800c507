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
    error: float | None = None
    """Standard error of a mean over problems, by clusters where they share some; None where it is not known."""

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


def mean_interval(
    values: Sequence[float] | np.ndarray, bounded: bool = True, clusters: Sequence[str] | None = None
) -> Estimate:
    """The mean over problems and its 95 % interval.

    Shares (all values within 0 and 1) get the interval of a binomial with the effective number of problems that their
    spread implies, corrected for estimating it from P problems (Korn and Graubard, Survey Methodology 24, 1998); for
    values of 0 and 1 alone that is the plain Wilson or Clopper-Pearson interval. It never has zero width. All other
    quantities get the Student interval.

    Args:
        values: one value per problem, each already a mean over its samples.
        bounded: whether the quantity is a share by nature.
        clusters: of each problem what it has in common with others; problems of one cluster count together, so the
            interval is as wide as the clusters alone allow. None where all problems are independent.
    """
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    units = count if clusters is None else len(set(clusters))  # what is independent of each other
    variance = clustered_variance(values, clusters) if units > 1 else math.inf
    error = math.sqrt(variance) if units > 1 else None
    if not bounded:
        half = 0.0 if variance == 0 else _student(units) * math.sqrt(variance)
        return Estimate(mean, mean - half, mean + half, count, error)
    mean = min(max(mean, 0.0), 1.0)
    binary = units == count and bool(np.isin(values, (0.0, 1.0)).all())
    if binary or units == 1 or variance < NO_SPREAD:
        trials = float(units)
    else:
        correction = normal_quantile((1 + CONFIDENCE) / 2) / _student(units)
        trials = mean * (1 - mean) / variance * correction**2
    low, high = (clopper_pearson if units <= SMALL else wilson)(mean * trials, trials)
    return Estimate(mean, low, high, count, error)


def clustered_variance(values: np.ndarray, clusters: Sequence[str] | None = None) -> float:
    """The variance of a mean over problems of which those of one cluster are not independent.

    `G / (G - 1) sum_g (sum_{i in g} (x_i - mean))^2 / P^2` over G clusters; with each problem a cluster of its own that
    is the usual one.
    """
    count = len(values)
    if clusters is None:
        return float(values.var(ddof=1)) / count
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    totals = np.bincount(members, weights=values - values.mean())
    return float((totals**2).sum()) / count**2 * len(totals) / (len(totals) - 1)


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


def paired_test(
    first: Sequence[float], second: Sequence[float], *, clusters: Sequence[str] | None = None, seed: int = 0
) -> PairedTest:
    """Compare two systems problem by problem: McNemar for one sample each, a paired bootstrap otherwise.

    Args:
        first, second: one value per problem, in the same order.
        clusters: of each problem what it has in common with others. Where several share one, clusters are resampled,
            and the interval is Student's over them.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired values of shapes {a.shape} and {b.shape} cannot be compared")
    differences = b - a
    if clusters is not None and len(set(clusters)) < len(differences):
        return _clustered_test(differences, clusters, seed)
    detectable = minimum_detectable_difference(differences)
    if np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all():
        p_value = mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
        return PairedTest(mean_interval(differences, bounded=False), p_value, "McNemar, exact", detectable)
    interval = bootstrap_interval(lambda rows: float(differences[rows].mean()), len(differences), seed=seed)
    return PairedTest(interval, bootstrap_p_value(differences, seed=seed), "paired bootstrap", detectable)


def _clustered_test(differences: np.ndarray, clusters: Sequence[str], seed: int) -> PairedTest:
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    interval = mean_interval(differences, bounded=False, clusters=clusters)
    # A cluster's sum of deviations, times G / P, takes the place of a problem's difference.
    scaled = np.bincount(members, weights=differences) * len(names) / len(differences)
    detectable = minimum_detectable_difference(scaled)
    p_value = bootstrap_p_value(scaled, seed=seed)
    return PairedTest(interval, p_value, f"paired bootstrap of {len(names)} clusters", detectable)


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


@dataclass(frozen=True)
class VarianceSplit:
    """Where the error of an accuracy comes from: which problems were asked, and which samples were drawn of them."""

    problems: float
    """Variance of the mean that more samples would leave."""
    samples: float
    """Variance of the mean that more samples would take away."""
    enough: int
    """Samples per problem at which theirs is a tenth of the problems' variance; more hardly narrow the interval."""


def variance_split(num_samples: int, num_correct: Sequence[int]) -> VarianceSplit:
    """Split the variance of the mean accuracy of n samples of each of P problems (Miller, arXiv:2411.00640).

    With c_i of n right, `samples` is the mean of c (n - c) / (n (n - 1)) over n P, and `problems` what is left of the
    variance of c / n, over P.

    Raises:
        ValueError: fewer than two samples or problems.
    """
    n, correct = num_samples, np.asarray(num_correct, dtype=float)
    if n < 2 or len(correct) < 2:
        raise ValueError(f"{n} samples of {len(correct)} problems; the variance of each needs two")
    within = float((correct * (n - correct)).mean()) / (n * (n - 1))
    between = max(0.0, float((correct / n).var(ddof=1)) - within / n)
    enough = math.ceil(10 * within / between) if between > 0 else 0
    return VarianceSplit(between / len(correct), within / (n * len(correct)), max(1, enough))


def control_variate(new: Sequence[float], old: Sequence[float], known: Sequence[float]) -> Estimate:
    """The mean of a new model that was asked a part of the problems, with an old model's values to sharpen it.

    `mean(new) - c (mean(old) - mean(known))` with c = cov(new, old) / var(old), found on the other half of the problems
    for each half, so that it stays unbiased. The variance shrinks by the squared correlation of the two, times the
    share of the problems that the new model was not asked.

    Args:
        new, old: both models' values of the problems that the new one was asked, in a random order.
        known: the old model's values of all problems.

    Raises:
        ValueError: fewer than four problems, or `new` and `old` of different lengths.
    """
    a, b, everything = (np.asarray(values, dtype=float) for values in (new, old, known))
    if len(a) != len(b) or len(a) < 4:
        raise ValueError(f"{len(a)} and {len(b)} values; a control variate needs four pairs")
    parity = np.arange(len(a)) % 2 == 0
    corrected, slopes = np.empty(len(a)), []
    for part in (parity, ~parity):
        spread = b[~part].var()
        slope = float(np.cov(a[~part], b[~part], bias=True)[0, 1] / spread) if spread > 0 else 0.0
        slopes.append(slope)
        corrected[part] = a[part] - slope * (b[part] - everything.mean())
    # The old model's mean over all problems is uncertain too, as one over a sample of the problems that there could be.
    variance = float(corrected.var(ddof=1)) / len(a) + float(np.mean(slopes)) ** 2 * clustered_variance(everything)
    half = _student(len(a)) * math.sqrt(variance)
    mean = float(corrected.mean())
    return Estimate(mean, mean - half, mean + half, len(a), math.sqrt(variance))


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
