"""Estimators of `harness.metrics.estimators` for many problems at once: what an iteration of thousands can afford.

Axes: Q problems, n responses to each. The expectations are over all subsets of K responses, exactly; equal rewards
count as ordered by a fair draw.
"""

from __future__ import annotations

import math

import numpy as np

from harness.metrics.estimators import check_k, terms, total


def pass_at_k_s(copies: np.ndarray, n: int, k: int, s: int) -> np.ndarray:
    """The chance that K of n responses hold at least S distinct correct ones (arXiv:2412.17256, section 2.3).

    Args:
        copies: (Q, m) int, for each distinct correct response how many of the n responses it is, the largest number
            first and 0 where a problem has fewer.

    Returns:
        (Q,)
    """
    check_k(n, k)
    weights = np.stack([terms(size, k, n) for size in range(n + 1)])
    below = np.zeros((len(copies), min(s, k + 1), k + 1))  # (distinct correct ones drawn, below S; responses drawn)
    below[:, 0] = weights[n - copies.sum(1)]
    for sizes in copies.T:
        some = weights[sizes]
        grown = some[:, 0, None, None] * below
        for j in range(1, min(int(sizes.max(initial=0)), k) + 1):
            grown[:, 1:, j:] += some[:, j, None, None] * below[:, :-1, : k + 1 - j]
        below = grown
    return 1 - np.minimum(1.0, below[:, :, k].sum(1) / total(n, k))


def reward_at_k_s(correct: np.ndarray, rewards: np.ndarray, k: int, s: int = 1) -> np.ndarray:
    """The chance that the S best-rewarded of K of n responses are all correct (arXiv:2412.17256).

    With b correct responses ranked before the i-th, `sum over correct i of C(b, S-1) C(n-i, K-S) / C(n, K)`. Within a
    block of m equal rewards with c correct, the p-th is correct with probability c / m, and of the p - 1 before it a
    hypergeometric number h is, whose factorial moments `E C(h, j) = C(p-1, j) C(c-1, j) / C(m-1, j)` make the mean
    over all orders of the block exact.

    Args:
        correct: (Q, n) bool.
        rewards: (Q, n) float.

    Returns:
        (Q,)
    """
    n = correct.shape[1]
    check_k(n, k)
    if not 1 <= s <= k:
        raise ValueError(f"S = {s} must be between 1 and K = {k}")
    order = np.argsort(-rewards, axis=1, kind="stable")
    value, right = np.take_along_axis(rewards, order, 1), np.take_along_axis(correct, order, 1)
    rank = np.arange(n)
    starts = np.ones_like(right)
    starts[:, 1:] = value[:, 1:] != value[:, :-1]
    first = np.maximum.accumulate(np.where(starts, rank, 0), axis=1)  # of the block
    ends = np.ones_like(right)
    ends[:, :-1] = starts[:, 1:]
    last = np.minimum.accumulate(np.where(ends, rank, n)[:, ::-1], axis=1)[:, ::-1]
    before = np.zeros((len(right), n + 1), dtype=np.int64)
    before[:, 1:] = right.cumsum(1)
    b = np.take_along_axis(before, first, 1)
    size, c = last - first + 1, np.take_along_axis(before, last + 1, 1) - b
    choose = _binomials(n)
    ways = np.zeros(right.shape)
    for j in range(s):
        moment = choose[rank - first, j] * choose[np.maximum(c - 1, 0), j] / np.maximum(choose[size - 1, j], 1)
        ways += choose[b, s - 1 - j] * moment
    return (c / size * ways * choose[n - 1 - rank, k - s]).sum(1) / choose[n, k]


def _binomials(n: int) -> np.ndarray:
    """(n + 1, n + 1) binomial coefficients, 0 above the diagonal; doubles hold them up to n = 1,000."""
    return np.array([[float(math.comb(row, column)) for column in range(n + 1)] for row in range(n + 1)])


def gv_gap(correct: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generation-verification gap of each problem, absolute and relative (arXiv:2412.02674).

    Args:
        correct: (Q, n) bool.
        kept: (Q, n) bool, the responses that the verifier lets pass.

    Returns:
        accuracy of the kept responses minus that of all, 0 where none is kept; and the same over `1 - accuracy`, NaN
        where all are correct. Both (Q,).
    """
    accuracy = correct.mean(1)
    number = kept.sum(1)
    gap = np.where(number > 0, (correct & kept).sum(1) / np.maximum(number, 1) - accuracy, 0.0)
    return gap, np.where(accuracy < 1, gap / np.where(accuracy < 1, 1 - accuracy, 1), np.nan)
