"""Exact expectations over the subsets of K out of n samples of one problem.

Every estimator is the mean of a statistic over all C(n, K) subsets, computed without enumerating them, so it has the
least variance that n samples allow and does not drift with n. Ties, in votes or in rewards, count as broken by a fair
draw. Generating functions are evaluated with the terms of a binomial distribution of success probability K/n instead of
bare binomial coefficients: all terms are positive and of moderate size, so nothing overflows or cancels.

Notation: n samples of a problem, c of them correct, K drawn, S wanted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction
from functools import cache

import numpy as np

MAX_SUBSETS = 2000
"""Subsets over which weighted votes are averaged; fewer samples than that many subsets are enumerated."""


def pass_at_k(num_samples: np.ndarray | int, num_correct: np.ndarray | int, k: int) -> np.ndarray:
    """`1 - C(n-c, K) / C(n, K)`: the chance that K of n samples hold a correct one (Chen et al., arXiv:2107.03374).

    Args:
        num_samples, num_correct: n and c, arrays of one shape (one entry per problem).

    Raises:
        ValueError: K is not between 1 and n.
    """
    n, c = np.broadcast_arrays(np.asarray(num_samples), np.asarray(num_correct))
    check_k(int(n.min(initial=k)), k)
    wrong = np.ones(n.shape)
    for i in range(k):
        wrong *= np.maximum(n - c - i, 0) / (n - i)
    return 1 - wrong


def g_pass_at_k(num_samples: int, num_correct: int, k: int, tau: float) -> float:
    """The chance that at least the share tau of K of n samples is correct, one at least (G-Pass@k, arXiv:2412.13147).

    tau towards 0 is pass@k, tau = 1 is the chance that all K are.
    """
    check_k(num_samples, k)
    wanted = max(1, math.ceil(Fraction(str(tau)) * k))  # 0.07 * 100 > 7 in floats
    return float(_at_least(num_samples, num_correct, k)[wanted])


def mean_g_pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """mG-Pass@k, twice the mean of G-Pass@k over tau from one half to one (arXiv:2412.13147, section 3.2).

    `2 / K sum_{i = ceil(K / 2) + 1}^{K} P(at least i of K are correct)`.
    """
    check_k(num_samples, k)
    return float(2 / k * _at_least(num_samples, num_correct, k)[-(-k // 2) + 1 :].sum())


def _at_least(n: int, c: int, k: int) -> np.ndarray:
    """(K + 1,) the chance that at least i of K samples drawn from n with c correct ones are correct, for each i."""
    exactly = [math.comb(c, i) * math.comb(n - c, k - i) / math.comb(n, k) for i in range(k + 1)]
    return np.minimum(1.0, np.cumsum(exactly[::-1])[::-1])


def pass_at_k_s(num_samples: int, copies: Sequence[int], k: int, s: int) -> float:
    """The chance that K of n samples hold at least S distinct correct ones (Pass@K-S, arXiv:2412.17256, section 2.3).

    Args:
        copies: for each distinct correct response, how many of the n samples it is.
    """
    check_k(num_samples, k)
    table = np.zeros((min(s, k + 1), k + 1))  # (distinct correct ones drawn, below S; samples drawn)
    table[0] = terms(num_samples - sum(copies), k, num_samples)
    for size in copies:
        some = terms(size, k, num_samples).copy()
        none, some[0] = some[0], 0.0
        grown = none * table
        grown[1:] += _times(table[:-1], some)
        table = grown
    return 1 - min(1.0, float(table[:, k].sum() / total(num_samples, k)))


def maj_at_k(copies: Sequence[int], correct: Sequence[bool], k: int, num_silent: int = 0) -> float:
    """The chance that the most frequent answer among K of n samples is correct.

    Args:
        copies: for each class of equivalent answers, how many samples give it.
        correct: whether that class is right; several may be.
        num_silent: samples without an answer, which are drawn but do not vote.
    """
    n = sum(copies) + num_silent
    check_k(n, k)
    shares = [
        _chance_to_win(size, [*copies[:i], *copies[i + 1 :]], num_silent, k, n)
        for i, (size, right) in enumerate(zip(copies, correct, strict=True))
        if right
    ]
    return min(1.0, sum(shares))


def _chance_to_win(size: int, others: Sequence[int], num_silent: int, k: int, n: int) -> float:
    """Expected share of the win of a class with `size` samples against the other classes.

    With v votes and t rivals of v votes the share is 1 / (1 + t), the integral of y^t over [0, 1], so a rival counts
    with all terms below v votes and y times the term of v; the integral is a Gauss-Legendre sum, exact for these
    degrees.
    """
    rows, nodes, weights = [], [], []
    for votes in range(1, min(size, k) + 1):
        degree = min(len(others), k // votes - 1)
        x, w = _legendre(degree // 2 + 1)
        rows += [votes] * len(x)
        nodes += list(x)
        weights += list(w)
    votes_of, y = np.array(rows), np.array(nodes)[:, None]
    own = terms(size, k, n)
    table = np.zeros((len(rows), k + 1))
    table[np.arange(len(rows)), votes_of] = own[votes_of]
    columns = np.arange(k + 1)
    for rival in others:
        factor = np.where(columns < votes_of[:, None], terms(rival, k, n), 0.0)
        factor += np.where(columns == votes_of[:, None], y * terms(rival, k, n), 0.0)
        table = _times(table, factor, most=min(rival, k))
    table = _times(table, np.broadcast_to(terms(num_silent, k, n), table.shape), most=min(num_silent, k))
    return float(np.dot(weights, table[:, k]) / total(n, k))


def weighted_maj_at_k(
    classes: Sequence[int], correct: Sequence[bool], weights: Sequence[float], k: int, seed: int = 0
) -> float:
    """The chance that the answer with the largest sum of weights among K of n samples is correct.

    No closed form is known for real weights: all subsets are averaged where they are at most `MAX_SUBSETS`, else so
    many random ones of a fixed seed.

    Args:
        classes: (n,) class of each sample's answer; -1 for none, which does not vote.
        correct: (n,) whether the sample is right.
        weights: (n,) weights of the votes, such as rewards; a sum of zero or less can win if no other is larger.
    """
    labels, right, values = np.asarray(classes), np.asarray(correct, dtype=bool), np.asarray(weights, dtype=float)
    n = len(labels)
    check_k(n, k)
    subsets = _subsets(n, k, seed)
    num_classes = int(labels.max(initial=-1)) + 1
    if num_classes == 0:
        return 0.0
    sums = np.full((len(subsets), num_classes + 1), 0.0)
    present = np.zeros((len(subsets), num_classes + 1), dtype=bool)
    rows = np.arange(len(subsets))[:, None]
    np.add.at(sums, (rows, labels[subsets]), values[subsets])
    present[rows, labels[subsets]] = True
    sums, present = sums[:, :-1], present[:, :-1]  # the last column collects class -1
    best = np.where(present, sums, -np.inf).max(1, keepdims=True)
    return _share_of_wins(present & (sums >= best - 1e-12), labels, right)


def top_maj_at_k(
    classes: Sequence[int], correct: Sequence[bool], rewards: Sequence[float], k: int, top: int = 4, seed: int = 0
) -> float:
    """The chance that the most frequent answer among the `top` best-rewarded of K of n samples is correct.

    The vote of rStar-Math's released code (`eval_maj.py`, which takes 4). All subsets are averaged where they are at
    most `MAX_SUBSETS`, else so many random ones of a fixed seed. Equal rewards are ranked by lot; where that takes
    repetitions, there are `MAX_SUBSETS` in all.

    Args:
        classes: (n,) class of each sample's answer; -1 for none, which is neither ranked nor votes.
        correct: (n,) whether the sample is right.
        rewards: (n,) by which samples are ranked.
    """
    labels, right, values = np.asarray(classes), np.asarray(correct, dtype=bool), np.asarray(rewards, dtype=float)
    n = len(labels)
    check_k(n, k)
    num_classes = int(labels.max(initial=-1)) + 1
    if num_classes == 0:
        return 0.0
    subsets = _subsets(n, k, seed)
    answered = values[labels >= 0]
    if len(np.unique(answered)) < len(answered):
        subsets = np.repeat(subsets, -(-MAX_SUBSETS // len(subsets)), axis=0)
    lots = np.random.default_rng([seed, n, k, top]).random(subsets.shape)
    ranked = np.lexsort((lots, np.where(labels >= 0, -values, np.inf)[subsets]))
    voters = labels[np.take_along_axis(subsets, ranked[:, :top], axis=1)]
    votes = (voters[:, :, None] == np.arange(num_classes)).sum(1)
    return _share_of_wins((votes > 0) & (votes == votes.max(1, keepdims=True)), labels, right)


def _share_of_wins(winners: np.ndarray, labels: np.ndarray, right: np.ndarray) -> float:
    """Mean over draws of the share of right classes among the winners, (draws, classes) bool; 0 without any."""
    right_class = np.zeros(winners.shape[1], dtype=bool)
    right_class[labels[right & (labels >= 0)]] = True
    votes = winners.sum(1)
    return float(np.where(votes > 0, (winners & right_class).sum(1) / np.maximum(votes, 1), 0.0).mean())


def _subsets(n: int, k: int, seed: int) -> np.ndarray:
    import itertools

    if math.comb(n, k) <= MAX_SUBSETS:
        return np.array(list(itertools.combinations(range(n), k)))
    rng = np.random.default_rng([seed, n, k])
    return rng.random((MAX_SUBSETS, n)).argpartition(k - 1, axis=1)[:, :k]


def reward_at_k_s(correct: Sequence[bool], rewards: Sequence[float], k: int, s: int = 1) -> float:
    """The chance that the S best-rewarded of K of n samples are all correct (Reward@K-S, arXiv:2412.17256).

    S = 1 is best-of-K. Copies of one response count as often as they were drawn; `distinct_reward_at_k_s` merges them.
    """
    if s == 1:
        return _best_of(correct, rewards, k)
    return _ranked(correct, rewards, [1] * len(correct), k, s)


def _best_of(correct: Sequence[bool], rewards: Sequence[float], k: int) -> float:
    """S = 1: the chance that the best draw comes from a group of equal rewards, times the share that is right there."""
    n = len(correct)
    check_k(n, k)
    sizes, right = Counter(map(float, rewards)), Counter(float(r) for c, r in zip(correct, rewards, strict=True) if c)

    def none_above(num_others: int) -> float:
        return math.prod(max(num_others - i, 0) / (n - i) for i in range(k))

    left, chance = n, 0.0
    for reward in sorted(sizes, reverse=True):
        size = sizes[reward]
        if right[reward]:
            chance += right[reward] / size * (none_above(left) - none_above(left - size))
        left -= size
    return min(1.0, chance)


def distinct_reward_at_k_s(
    correct: Sequence[bool], rewards: Sequence[float], texts: Sequence[Hashable], k: int, s: int = 1
) -> float:
    """`reward_at_k_s` after equal responses among the K drawn were merged; never above `pass_at_k_s`.

    Raises:
        ValueError: equal responses differ in reward or in verdict.
    """
    seen: dict[Hashable, tuple[bool, float]] = {}
    for text, right, reward in zip(texts, correct, rewards, strict=True):
        if seen.setdefault(text, (right, reward)) != (right, reward):
            raise ValueError("equal responses differ in reward or in verdict")
    counts = Counter(texts)
    groups = [(*seen[text], counts[text]) for text in counts]
    return _ranked([g[0] for g in groups], [g[1] for g in groups], [g[2] for g in groups], k, s)


def _ranked(correct: Sequence[bool], rewards: Sequence[float], sizes: Sequence[int], k: int, s: int) -> float:
    """The chance that the S best of the distinct responses drawn are all correct.

    Responses are gone through from the best reward to the worst. `above` holds, by the number of correct responses
    drawn so far (below S) and the number of samples drawn, the weight of having drawn no wrong one. Among equal
    rewards the order is that of independent uniform numbers u: given u of one response, each other stands above it
    with probability u, so the integral over u is again a Gauss-Legendre sum.
    """
    n = sum(sizes)
    check_k(n, k)
    if not 1 <= s <= k:
        raise ValueError(f"S = {s} must be between 1 and K = {k}")
    above = np.zeros((s, k + 1))
    above[0, 0] = 1.0
    left, chance = n, 0.0
    for reward in sorted(set(map(float, rewards)), reverse=True):
        tied = Counter(
            (bool(c), size) for c, r, size in zip(correct, rewards, sizes, strict=True) if float(r) == reward
        )
        left -= sum(size * count for (_, size), count in tied.items())
        below = terms(left, k, n)
        for kind, count in tied.items():
            if kind[0]:
                rest = tied - Counter([kind])
                chance += count * _is_last_of_s(above, kind[1], rest, below, k, n)
        for (right, size), count in tied.items():
            for _ in range(count):
                above = _passed(above, right, size, 1.0, k, n)
    return min(1.0, chance / total(n, k))


def _is_last_of_s(
    above: np.ndarray, size: int, tied: Counter[tuple[bool, int]], below: np.ndarray, k: int, n: int
) -> float:
    """Weight of a correct response being the S-th best drawn, with those above it all correct."""
    some = terms(size, k, n).copy()
    some[0] = 0.0
    value = 0.0
    for u, weight in zip(*_legendre(tied.total() // 2 + 1), strict=True):
        table = above
        for (right, other), count in tied.items():
            for _ in range(count):
                table = _passed(table, right, other, u, k, n)
        value += weight * float(_times(_times(table[-1:], some), below)[0, k])
    return value


def _passed(table: np.ndarray, right: bool, size: int, u: float, k: int, n: int) -> np.ndarray:
    """Draw from a response that stands above with probability u and, else, below, where it may be drawn freely."""
    every = terms(size, k, n)
    some = every.copy()
    some[0] = 0.0
    grown = u * every[0] * table
    if u < 1:
        grown = grown + (1 - u) * _times(table, every)
    if right:
        grown[1:] += u * _times(table[:-1], some)
    return grown


def gv_gap(correct: Sequence[bool], kept: Sequence[bool]) -> float:
    """Accuracy of the samples a verifier keeps minus accuracy of all; 0 if it keeps none (arXiv:2412.02674).

    This is the generation-verification gap of one problem for weights `1[kept]`.
    """
    right, keep = np.asarray(correct, dtype=float), np.asarray(kept, dtype=bool)
    return float(right[keep].mean() - right.mean()) if keep.any() else 0.0


def relative_gv_gap(correct: Sequence[bool], kept: Sequence[bool]) -> float | None:
    """`gv_gap` as a share of what was to be gained, `1 - accuracy`; None where every sample is right."""
    accuracy = float(np.mean(np.asarray(correct, dtype=float)))
    return None if accuracy == 1 else gv_gap(correct, kept) / (1 - accuracy)


def check_k(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} must be between 1 and the {n} samples of a problem")


@cache
def terms(size: int, k: int, n: int) -> np.ndarray:
    """`C(size, j) p^j (1-p)^(size-j)` for j = 0..K, with p = K / n."""
    if k == n:  # everything is drawn
        row = np.zeros(k + 1)
        row[size] = 1.0
    else:
        p = k / n
        row = np.zeros(k + 1)
        for j in range(min(size, k) + 1):
            row[j] = math.exp(
                math.lgamma(size + 1)
                - math.lgamma(j + 1)
                - math.lgamma(size - j + 1)
                + j * math.log(p)
                + (size - j) * math.log1p(-p)
            )
    row.flags.writeable = False
    return row


def total(n: int, k: int) -> float:
    """The weight of all subsets of size K under `terms`."""
    return float(terms(n, k, n)[k])


@cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return (x + 1) / 2, w / 2


def _times(table: np.ndarray, factor: np.ndarray, most: int | None = None) -> np.ndarray:
    """Row-wise product of polynomials, cut off at the table's degree; `factor` is one row or one row each."""
    product = np.zeros_like(table)
    width = table.shape[1]
    top = width - 1 if most is None else most
    for j in range(top + 1):
        coefficient = factor[..., j : j + 1]
        if np.any(coefficient):
            product[:, j:] += coefficient * table[:, : width - j]
    return product
