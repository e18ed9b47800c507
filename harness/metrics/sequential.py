"""Looking at a paired comparison while it runs, with the error of a single look at its end.

Two ways. *Group-sequential*: a fixed number of looks at equal shares of the problems, each with a bound that is wide
enough for all of them together (Pocock, Biometrika 64, 1977; O'Brien and Fleming, Biometrics 35, 1979); the estimate
is adjusted for having stopped (median-unbiased, in the stage-wise order of Tsiatis, Rosner and Mehta, Biometrics 40,
1984). *E-process*: a bet against "no difference" that may be looked at after every problem (Ville's inequality; Waudby-
Smith and Ramdas, arXiv:2010.09686); it needs no plan and finds less.

The problems must come in an order that has nothing to do with the answers (`random_order`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from harness.metrics.intervals import CONFIDENCE, Estimate, mcnemar, normal_quantile
from harness.store import stable_hash

Boundary = Literal["obrien_fleming", "pocock"]
LEVEL = 1 - CONFIDENCE
_NODES = 65
"""Points of the grid on which the density of the score is followed from look to look."""


def random_order(ids: Sequence[str], seed: int = 0) -> list[str]:
    """The ids in an order that depends on the seed and on each id alone, so that a part of it is its beginning."""
    return sorted(ids, key=lambda each: (stable_hash("order", seed, each), each))


@cache
def bounds(looks: int, boundary: Boundary = "obrien_fleming", level: float = LEVEL) -> tuple[float, ...]:
    """The bound on |z| at each of `looks` looks at equal shares of the data, for a two-sided test at `level`.

    Pocock's are all the same; O'Brien and Fleming's are C sqrt(K / k) at look k, hard to cross early.
    """
    if looks < 1:
        raise ValueError(f"{looks} looks; there must be at least one")
    shape = np.ones(looks) if boundary == "pocock" else np.sqrt(looks / np.arange(1, looks + 1))
    low, high = normal_quantile(1 - level / 2) * 0.99, normal_quantile(1 - level / 2) * 3
    for _ in range(40):
        middle = (low + high) / 2
        crossed = sum(map(sum, crossing(tuple(middle * shape), 0.0)))
        low, high = (middle, high) if crossed > level else (low, middle)
    return tuple((high * shape).tolist())


def crossing(limits: Sequence[float], drift: float, reach: float | None = None) -> list[tuple[float, float]]:
    """The chance to cross first at each look, (upwards, downwards), with limits on |z| at equal shares of the data.

    Args:
        limits: the bounds on |z|.
        drift: expected z at the last look of a plan of `len(limits)` looks; 0 is no difference.
        reach: at the last look the chances are of z >= `reach` and of z < `reach` instead.
    """
    looks = len(limits)
    found: list[tuple[float, float]] = []
    # Scores s = z sqrt(k) have independent increments of variance 1 and mean `step`.
    step = drift / math.sqrt(looks)
    points, weights = np.zeros(1), np.ones(1)
    for k, limit in enumerate(limits, 1):
        edge = limit * math.sqrt(k)
        above = edge if reach is None or k < looks else reach * math.sqrt(k)
        below = -edge if reach is None or k < looks else above
        found.append(
            (
                float(weights @ _tail(above - points - step)),
                float(weights @ _tail(points + step - below)),
            )
        )
        grid, share = (part * edge for part in _legendre())
        density = np.exp(-0.5 * (grid[:, None] - points[None, :] - step) ** 2) / math.sqrt(2 * math.pi)
        points, weights = grid, share * (density @ weights)
    return found


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on [-1, 1]; numpy finds them anew at every call."""
    return np.polynomial.legendre.leggauss(_NODES)


def _tail(x: np.ndarray) -> np.ndarray:
    """P(Z > x) of a standard normal Z."""
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in x])


@dataclass(frozen=True)
class SequentialTest:
    """What a comparison says after the looks that were taken."""

    boundary: Boundary
    looks: int
    """Looks of the plan."""
    taken: int
    """Looks up to the first that crossed its bound, or as many as the data allow."""
    problems: int
    """Problems that the last look taken is of."""
    z: float
    bound: float
    """Of |z| at the last look taken."""
    significant: bool
    difference: Estimate
    """Second minus first: the plain mean at the last look taken, with the interval of the fixed design."""
    adjusted: Estimate | None
    """Median-unbiased, with an interval that knows of the looks; None before the plan has come to its end."""
    p_value: float | None
    """In the stage-wise order; None before the plan has come to its end."""

    @property
    def ended(self) -> bool:
        return self.significant or self.taken == self.looks


def group_sequential(
    differences: Sequence[float],
    planned: int,
    looks: int = 5,
    boundary: Boundary = "obrien_fleming",
) -> SequentialTest | None:
    """Look at the paired differences known so far, at each k-th part of the planned number; stop at the first crossing.

    Args:
        differences: second minus first of each problem, in a random order; a beginning of all that are planned.
        planned: problems of the whole comparison.

    Returns:
        None before the first look.

    Raises:
        ValueError: there are more differences than planned, or fewer planned than looks.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) > planned or planned < looks:
        raise ValueError(f"{len(values)} problems and {looks} looks do not fit a plan of {planned} problems")
    limits = bounds(looks, boundary)
    found = None
    for k in range(1, looks + 1):
        count = planned * k // looks
        if count > len(values):
            break
        seen = values[:count]
        z, crossed = _look(seen, limits[k - 1])
        found = _outcome(seen, limits, boundary, k, z, crossed)
        if crossed:
            break
    return found


def _look(values: np.ndarray, bound: float) -> tuple[float, bool]:
    """z of the mean, and whether it crosses the bound.

    For answers of 0 and 1 McNemar's exact tail decides, at the bound's level: by the score alone 5 looks at 500
    problems reject 5 to 6 % of the time where there is no difference.
    """
    if np.isin(values, (-1.0, 0.0, 1.0)).all():
        wins, losses = int((values > 0).sum()), int((values < 0).sum())
        z = (wins - losses) / math.sqrt(wins + losses) if wins + losses else 0.0
        return z, mcnemar(wins, losses) <= math.erfc(bound / math.sqrt(2))
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    z = float(values.mean()) / (deviation / math.sqrt(len(values))) if deviation else 0.0
    return z, abs(z) >= bound


def _outcome(
    values: np.ndarray, limits: Sequence[float], boundary: Boundary, k: int, z: float, crossed: bool
) -> SequentialTest:
    looks, count = len(limits), len(values)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    half = normal_quantile((1 + CONFIDENCE) / 2) * error
    adjusted = p_value = None
    if (crossed or k == looks) and error > 0:
        # Of this look's error: the mean whose drift to look k is `drift`.
        observed = mean / error
        taken = limits[:k]

        def more(drift: float) -> float:
            """The chance of an outcome at least as far up, in the stage-wise order."""
            chances = crossing(taken, drift, reach=observed)
            if crossed and observed < 0:
                return 1 - sum(down for _, down in chances)
            return sum(up for up, _ in chances)

        value, low, high = (_solve(more, share, observed) * error for share in (0.5, LEVEL / 2, 1 - LEVEL / 2))
        adjusted = Estimate(value, low, high, count)
        p_value = min(1.0, 2 * min(more(0.0), 1 - more(0.0)))
    return SequentialTest(
        boundary,
        looks,
        k,
        count,
        z,
        limits[k - 1],
        crossed,
        Estimate(mean, mean - half, mean + half, count),
        adjusted,
        p_value,
    )


def _solve(increasing: Callable[[float], float], target: float, near: float) -> float:
    low, high = near - 10, near + 10
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class EProcess:
    """A bet against "no difference", after each problem."""

    evidence: float
    """The capital of the bet; 1 / level or more, at any time, rejects "no difference" at that level."""
    largest: float
    """The most that it ever was; what counts."""
    stopped: int | None
    """Problems after which it first reached 1 / level; None if it did not."""
    problems: int

    @property
    def significant(self) -> bool:
        return self.stopped is not None

    @property
    def p_value(self) -> float:
        """Valid at any time, however often it was looked at."""
        return min(1.0, 1 / self.largest)


MOST_AT_STAKE = 0.75


def e_process(differences: Sequence[float], level: float = LEVEL) -> EProcess:
    """Bet on either sign of the differences, each between -1 and 1, with stakes that only the past decides.

    The capital is the mean of prod(1 + l_i d_i) and prod(1 - l'_i d_i), with l_i the ratio of the mean to the second
    moment of the differences before i, between 0 and 0.75; one difference of 0 and second moment 0.25 comes before all.
    """
    up = down = 1.0
    total, squares, largest, stopped = 0.0, 0.25, 1.0, None
    count = 0
    for count, difference in enumerate(map(float, differences), 1):
        if not -1 <= difference <= 1:
            raise ValueError(f"a difference of {difference} is not between -1 and 1")
        stake = min(max(total / squares, -MOST_AT_STAKE), MOST_AT_STAKE)
        up *= 1 + max(stake, 0.0) * difference
        down *= 1 - max(-stake, 0.0) * difference
        total += difference
        squares += difference * difference
        evidence = (up + down) / 2
        largest = max(largest, evidence)
        if stopped is None and evidence >= 1 / level:
            stopped = count
    return EProcess((up + down) / 2, largest, stopped, count)


def confidence_sequence(values: Sequence[float], half_width: float, level: float = LEVEL) -> Estimate:
    """The mean of values between 0 and 1 with an interval that holds whenever one stops, for any reason (betting).

    A candidate mean m is left out once a bet against it, Π (1 ± l_i (x_i - m)), has won 2 / level times its stake: at
    all times together that happens to the true mean with a chance of at most `level` (Waudby-Smith and Ramdas,
    arXiv:2010.09686, section 4). The stakes l_i = h / (v_i + h^2), with v_i the variance of the values before i, gain
    most against means that are h away, so the interval is about `2 h` wide after `2 log(2 / level) (v + h^2) / h^2`
    values: 1.9 times as many as an interval needs whose number of values was fixed before.

    Args:
        values: one of each problem, in a random order.
        half_width: h, which the stakes are tuned to; the interval holds whatever it is.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    x = np.asarray(values, dtype=float)
    if len(x) == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError("a confidence sequence is of values between 0 and 1")
    # Of the values before each, with one of 1/2 and of variance 1/4 before all.
    count = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (count + 1)
    squares = 0.25 + np.cumsum((x - means) ** 2)
    before = np.concatenate([[0.25], squares[:-1] / count[1:]])
    stakes = half_width / (before + half_width**2)

    def above(m: float) -> float:
        """What the bet that the mean is above m has won, as a logarithm; falls with m."""
        return float(np.log1p(np.minimum(stakes, MOST_AT_STAKE / max(m, 1e-12)) * (x - m)).sum())

    def below(m: float) -> float:
        return float(np.log1p(np.minimum(stakes, MOST_AT_STAKE / max(1 - m, 1e-12)) * (m - x)).sum())

    mean, enough = float(x.mean()), math.log(2 / level)
    low = 0.0 if above(0.0) < enough else _edge(above, enough, 0.0, mean)
    high = 1.0 if below(1.0) < enough else _edge(below, enough, 1.0, mean)
    return Estimate(mean, low, high, len(x), float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else None)


def _edge(won: Callable[[float], float], enough: float, outside: float, inside: float) -> float:
    """Where, from outside towards inside, a bet has won less than enough for the first time."""
    for _ in range(50):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if won(middle) >= enough else (outside, middle)
    return outside


def values_needed(values: Sequence[float], half_width: float, level: float = LEVEL) -> int:
    """About how many values a confidence sequence needs to be so narrow, by the variance of those known."""
    variance = float(np.var(values)) if len(values) else 0.25
    return math.ceil(2 * math.log(2 / level) * (variance + half_width**2) / half_width**2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being one of many, by Holm's rule (Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = most
    return adjusted


def e_bh(evidence: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses are rejected with a false discovery rate of `level`, however the e-values depend on each other.

    The k largest, for the largest k with the k-th at least m / (level k) (Wang and Ramdas, arXiv:2009.02824).
    """
    ranked = sorted(evidence, reverse=True)
    k = max((i for i, value in enumerate(ranked, 1) if value >= len(ranked) / (level * i)), default=0)
    return [k > 0 and value >= ranked[k - 1] for value in evidence]
