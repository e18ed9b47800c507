"""The scored responses of many problems as arrays, ranked by reward: what balance scores and selections are made of."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.types import Response, Rollout, ScoredResponse

Dedup = Literal["before_cap", "after_cap"]
"""Whether equal texts are dropped before the best k of a problem are taken, or after, when copies use up places."""

GOLD_REWARD = 1.0
"""Reward that the released B-STaR code gives to the solution written by a person."""

MAX_CAP = 64
"""Largest number of responses per problem that is considered."""


@dataclass(frozen=True)
class Pool:
    """Q problems with up to S ranked responses each; places past the last response hold reward -inf."""

    ranked: tuple[array[int], ...]
    """The responses of each problem, best first, copies included where they use up places, by their numbers for
    `response_of`."""
    rewards: np.ndarray
    """(Q, S) float, descending in each row."""
    num_unique: np.ndarray
    """(Q, S + 1) int: distinct texts among the first s responses."""
    num_correct: np.ndarray
    """(Q, S + 1) int: distinct correct texts among the first s responses."""

    @property
    def num_problems(self) -> int:
        return len(self.ranked)

    def num_above(self, thresholds: np.ndarray) -> np.ndarray:
        """(len(thresholds), Q) int: responses of each problem with a reward strictly above each threshold."""
        width = self.rewards.shape[1]
        if not self.rewards.size:
            return np.zeros((len(thresholds), self.num_problems), dtype=np.int64)
        order = np.argsort(thresholds, kind="stable")
        # How many sorted thresholds lie below each reward; a histogram of that, summed from the top, counts the rewards
        # above each threshold without comparing every pair.
        below = np.searchsorted(thresholds[order], self.rewards.ravel(), side="left").reshape(-1, width)
        flat = below + (len(thresholds) + 1) * np.arange(self.num_problems)[:, None]
        counts = np.bincount(flat.ravel(), minlength=self.num_problems * (len(thresholds) + 1))
        tails = counts.reshape(self.num_problems, -1)[:, ::-1].cumsum(1)[:, ::-1]
        above = np.empty((len(thresholds), self.num_problems), dtype=np.int64)
        above[order] = tails[:, 1:].T
        return above


def build_pool(
    rollouts: Iterable[Rollout],
    *,
    dedup: Dedup = "before_cap",
    with_gold: bool = False,
    correct_above: float | None = None,
    keep_cut: bool = False,
    keep_unanswered: bool = False,
    seed: int = 0,
) -> Pool:
    """Rank the responses of each rollout by reward; ties are broken at random from `seed`.

    Args:
        rollouts: scored; gone through once.
        dedup: see `Dedup`.
        with_gold: add the worked solution of each problem that has a response left to it, with reward `GOLD_REWARD`
            and counted as correct (released B-STaR code; the paper uses self-generated responses only).
        correct_above: count a response as correct if its reward is above this, instead of by the grader's verdict.
        keep_cut: keep responses that reached the token limit.
        keep_unanswered: keep responses in which no answer was found.
        seed: of the order among equal rewards.
    """
    ranked: list[array[int]] = []
    columns: list[tuple[array[float], bytes, bytes]] = []
    for index, rollout in enumerate(rollouts):
        numbers = [
            number
            for number, row in enumerate(rollout.responses)
            if (keep_cut or row.response.finish_reason != "length") and (keep_unanswered or row.answer is not None)
        ]
        if with_gold and numbers and rollout.problem.solution:
            numbers.append(len(rollout.responses))
        pool = [response_of(rollout, number) for number in numbers]
        tie_break = np.random.default_rng([seed, index]).permutation(len(pool))
        order = sorted(range(len(pool)), key=lambda i: (-pool[i].reward, tie_break[i]))
        seen: set[str] = set()
        new = [not (pool[i].response.text in seen or seen.add(pool[i].response.text)) for i in order]  # type: ignore[func-returns-value]
        if dedup == "before_cap":
            order = [i for i, first in zip(order, new, strict=True) if first]
            new = [True] * len(order)
        best = [pool[i] for i in order]
        right = [s.correct if correct_above is None else s.reward > correct_above for s in best]
        ranked.append(array("i", [numbers[i] for i in order]))
        columns.append((array("d", [scored.reward for scored in best]), bytes(new), bytes(map(bool, right))))
    width = max(map(len, ranked), default=0)
    rewards = np.full((len(ranked), width), -np.inf)
    unique = np.zeros((len(ranked), width + 1), dtype=np.int64)
    correct = np.zeros((len(ranked), width + 1), dtype=np.int64)
    for row, (values, firsts, rights) in enumerate(columns):
        rewards[row, : len(values)] = values
        unique[row, 1 : len(values) + 1] = list(firsts)
        correct[row, 1 : len(values) + 1] = np.logical_and(list(firsts), list(rights))
    return Pool(tuple(ranked), rewards, unique.cumsum(1), correct.cumsum(1))


def response_of(rollout: Rollout, number: int) -> ScoredResponse:
    """A response by its number, or, by the next one, the worked solution of the problem as a response."""
    if number < len(rollout.responses):
        return rollout.responses[number]
    gold = Response((rollout.problem.solution,), "stop")
    return ScoredResponse(gold, rollout.problem.answer, True, GOLD_REWARD)


def caps(pool: Pool, above: np.ndarray, target: int | None, max_cap: int = MAX_CAP) -> np.ndarray:
    """The smallest number of responses per problem with which the pool reaches the target size.

    Args:
        pool: Q problems.
        above: (R, Q) responses above each of R thresholds, from `Pool.num_above`.
        target: distinct rows wanted over all problems (N in the paper); None takes `max_cap`.
        max_cap: taken where the target is out of reach.

    Returns:
        (R,) int between 1 and `max_cap`.
    """
    if target is None:
        return np.full(len(above), max_cap)
    low, high = np.ones(len(above), dtype=np.int64), np.full(len(above), max_cap)
    while (low < high).any():  # the number of rows grows with the cap, so bisection finds the smallest that is enough
        middle = (low + high) // 2
        enough = taken(pool.num_unique, above, middle).sum(1) >= target
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return high


def taken(counts: np.ndarray, above: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """Read a pool's cumulative counts at `min(above, cap)`.

    Args:
        counts: (Q, S + 1) `num_unique` or `num_correct` of a pool.
        above: (R, Q) responses above each of R thresholds.
        cap: (R,) responses per problem.

    Returns:
        (R, Q) int.
    """
    return counts[np.arange(counts.shape[0]), np.minimum(above, cap[:, None])]
