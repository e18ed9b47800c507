"""The balance score of B-STaR and the search for the sampling setting that maximises it (arXiv:2412.17256).

A query whose selection holds n rows, n' of them distinct and correct, scores `min(n' / n*, 1) * n' / n`; the balance
score of a setting (temperature, reward threshold) is the mean over queries. All settings of a grid are scored at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from harness.errors import InputError
from harness.metrics.monitors import describe_rewards
from harness.protocols import Decision, Probe
from harness.selection.ranked import Dedup, Pool, build_pool, caps, taken
from harness.streams import joined
from harness.types import Rollout, RolloutConfig, SamplingConfig

log = logging.getLogger(__name__)

EmptyQueries = Literal["zero", "drop"]
"""Whether a query with nothing selected counts as 0 in the mean (the paper) or is left out (the released code)."""


def balance_scores(num_correct: np.ndarray, num_selected: np.ndarray, n_star: float) -> np.ndarray:
    """`min(n' / n*, 1) * n' / n` elementwise, 0 where nothing is selected.

    Args:
        num_correct: n', distinct correct rows selected for a query.
        num_selected: n, rows selected for it; same shape.
        n_star: n*, distinct correct rows that are enough.
    """
    ratio = num_correct / np.maximum(num_selected, 1)
    return np.minimum(num_correct / n_star, 1.0) * ratio


@dataclass(frozen=True)
class ThresholdScores:
    """Balance scores of R thresholds on one pool of Q queries."""

    mean: np.ndarray
    """(R,) balance score."""
    per_query: np.ndarray
    """(R, Q) score of each query; NaN where it is left out of the mean."""
    cap: np.ndarray
    """(R,) responses per query that fill the target."""
    num_selected: np.ndarray
    """(R,) rows selected over all queries."""
    num_above: np.ndarray
    """(R,) responses above the threshold over all queries, more than are selected where the cap leaves some out."""


def score_thresholds(
    pool: Pool, thresholds: Sequence[float], *, target: int | None, n_star: float, empty: EmptyQueries = "zero"
) -> ThresholdScores:
    """Balance score of every reward threshold on one pool, vectorised over thresholds, queries and samples."""
    above = pool.num_above(np.asarray(thresholds, dtype=float))
    cap = caps(pool, above, target)
    selected = taken(pool.num_unique, above, cap)
    scores = balance_scores(taken(pool.num_correct, above, cap), selected, n_star)
    if empty == "drop":
        scores = np.where(selected > 0, scores, np.nan)
    counted = np.maximum((~np.isnan(scores)).sum(1), 1)
    return ThresholdScores(np.nansum(scores, axis=1) / counted, scores, cap, selected.sum(1), above.sum(1))


def released_code_thresholds() -> tuple[float, ...]:
    """-1 to 0.99 in 200 steps of 0.01, added up in floating point as the released code does (1.0 is never reached)."""
    values, value = [], -1.0
    while value <= 1.0:
        values.append(value)
        value += 0.01
    return tuple(values)


def fixed_temperatures_of_released_run() -> tuple[float, ...]:
    """The 7 of 15 temperatures that the released script can choose; it looks for the other 8 under wrong file names."""
    return tuple(round(0.55 + 0.1 * i, 2) for i in range(7))


@dataclass(frozen=True)
class FixedSampling:
    """The same setting in every iteration: Online RFT, STaR, ReST-EM, and the static control grid."""

    sampling: SamplingConfig
    reward_threshold: float = 0.0
    """Responses with a reward strictly above it are selected."""

    def decide(self, iteration: int, probe: Probe) -> Decision:
        return RolloutConfig(self.sampling, self.reward_threshold), {}

    def refine(self, decision: Decision, rollouts: Sequence[Rollout]) -> Decision:
        return decision


@dataclass(frozen=True)
class BalancedSampling:
    """B-STaR: before each iteration take the temperature and the reward threshold of the highest balance score.

    The defaults are the paper's. What the released code does otherwise is an option each, see `configs/recipes/bstar`.
    """

    sampling: SamplingConfig
    """All but the temperature; `n` is the number of samples per problem, for the probe as well."""
    temperatures: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
    thresholds: tuple[float, ...] | Literal["released_code"] = tuple(round(-1 + 0.1 * i, 1) for i in range(21))
    """Reward thresholds; "released_code" is -1 to 0.99 in 200 steps, as the released code counts them."""
    rows_per_problem: float | None = 67500 / 11500
    """Rows wanted per problem (N / M); the number of responses taken per problem is the smallest that fills it.
    None takes all responses above the threshold."""
    probe_rows_per_problem: float | None = None
    """The same for the probe problems; default as `rows_per_problem`. The released script wants 3,550 rows of 600."""
    n_star: float | None = None
    """Distinct correct responses that are enough; default `ceil(rows_per_problem)` (paper). The released code has 8."""
    dedup: Dedup = "before_cap"
    """The released code has `after_cap`."""
    empty: EmptyQueries = "zero"
    """Queries with nothing selected: "zero" counts them (paper), "drop" leaves them out (released code)."""
    with_gold: bool = False
    """Pool the solution written by a person with reward 1, of problems with a response left (released code)."""
    correct_above: float | None = None
    """Count as correct what has a reward above this, instead of what the grader accepts."""
    keep_cut: bool = False
    """Count responses that reached the token limit; set it as the selector has it."""
    keep_unanswered: bool = False
    """Count responses in which no answer was found; set it as the selector has it."""
    search_threshold_again: bool = False
    """Choose the threshold again on all training problems (released code); the temperature comes from the probe."""
    halving: bool = False
    """Probe in rounds that double the problems, and drop temperatures that certainly score lower than the best."""
    first_round: int = 25
    """Problems of the first round of `halving`."""
    confidence: float = 1.64
    """Standard errors of the paired difference beyond which `halving` drops a temperature."""

    def __post_init__(self) -> None:
        if self.rows_per_problem is None and self.n_star is None:
            raise InputError("BalancedSampling: give n_star, or rows_per_problem, from which it is derived.")
        if not self.temperatures or not self.thresholds:
            raise InputError("BalancedSampling: give at least one temperature and one threshold.")

    @property
    def levels(self) -> tuple[float, ...]:
        """The thresholds as numbers."""
        return released_code_thresholds() if isinstance(self.thresholds, str) else self.thresholds

    @property
    def enough(self) -> float:
        """n* as used."""
        return self.n_star if self.n_star is not None else math.ceil(self.rows_per_problem or 1)

    def scores(self, rollouts: Sequence[Rollout], probe: bool = True) -> ThresholdScores:
        """Balance scores of all thresholds on the rollouts of one temperature, of `probe` problems or of all."""
        pool = build_pool(
            rollouts,
            dedup=self.dedup,
            with_gold=self.with_gold,
            correct_above=self.correct_above,
            keep_cut=self.keep_cut,
            keep_unanswered=self.keep_unanswered,
            seed=self.sampling.seed,
        )
        wanted = self.probe_rows_per_problem if probe and self.probe_rows_per_problem else self.rows_per_problem
        target = None if wanted is None else round(wanted * len(rollouts))
        return score_thresholds(pool, self.levels, target=target, n_star=self.enough, empty=self.empty)

    def decide(self, iteration: int, probe: Probe) -> Decision:
        """Probe the temperatures, score the whole grid, and take its first maximum (the lowest temperature).

        Raises:
            InputError: no response is above any of the thresholds.
        """
        probed = self._probe(probe)
        grid = {t: self.scores(rollouts) for t, rollouts in probed.items()}
        self._check_thresholds(grid, joined(list(probed.values())))
        finalists = [t for t, rollouts in probed.items() if len(rollouts) == max(map(len, probed.values()))]
        best = max(finalists, key=lambda t: grid[t].mean.max())
        column = int(grid[best].mean.argmax())
        config = RolloutConfig(replace(self.sampling, temperature=best), self.levels[column])
        account = {
            "temperatures": list(self.temperatures),
            "thresholds": list(self.levels),
            "n_star": self.enough,
            "balance_scores": [[float(value) for value in grid[t].mean] for t in self.temperatures],
            "caps": [[int(value) for value in grid[t].cap] for t in self.temperatures],
            "num_probed": [len(probed[t]) for t in self.temperatures],
            "chosen": {"temperature": best, "threshold": config.reward_threshold},
            "balance_score": float(grid[best].mean[column]),
            "plateau": plateau({t: grid[t] for t in finalists}, self.levels, best, column),
        }
        return config, account

    def _check_thresholds(self, grid: Mapping[float, ThresholdScores], rollouts: Sequence[Rollout]) -> None:
        """Raise if the thresholds select nothing, warn if they all select the same."""
        numbers = np.array([scores.num_above for scores in grid.values()])
        span = f"thresholds {min(self.levels):g} to {max(self.levels):g}"
        if not numbers.any():
            raise InputError(
                f"none of the {span} is below the reward of a probe response ({describe_rewards(rollouts)}); give "
                "lower thresholds, sample more, or start from a better policy."
            )
        if len(self.levels) > 1 and (numbers == numbers[:, :1]).all():
            log.warning(
                "The %s select the same probe responses (%s): only the temperature is chosen.",
                span,
                describe_rewards(rollouts),
            )

    def _probe(self, probe: Probe) -> dict[float, Sequence[Rollout]]:
        """The probe rollouts of each temperature; temperatures that `halving` dropped have fewer."""
        found: dict[float, Sequence[Rollout]] = dict.fromkeys(self.temperatures, ())
        live = list(self.temperatures)
        start, stop = 0, min(self.first_round, probe.num_problems) if self.halving else probe.num_problems
        while True:
            for t in live:
                found[t] = joined([found[t], probe(replace(self.sampling, temperature=t), start, stop)])
            if stop >= probe.num_problems:
                return found
            live = self._survivors({t: self.scores(found[t]) for t in live})
            start, stop = stop, min(2 * stop, probe.num_problems)

    def _survivors(self, grid: Mapping[float, ThresholdScores]) -> list[float]:
        """Temperatures whose best score is not certainly below the leader's, by the paired difference per query."""
        rows = {t: np.nan_to_num(scores.per_query[scores.mean.argmax()]) for t, scores in grid.items()}
        leader = max(rows, key=lambda t: rows[t].mean())
        keep = []
        for t, row in rows.items():
            gap = rows[leader] - row
            margin = self.confidence * gap.std(ddof=1) / math.sqrt(len(gap)) if len(gap) > 1 else math.inf
            if gap.mean() <= margin:
                keep.append(t)
        return keep

    def refine(self, decision: Decision, rollouts: Sequence[Rollout]) -> Decision:
        config, account = decision
        if not self.search_threshold_again:
            return decision
        scores = self.scores(rollouts, probe=False)
        column = int(scores.mean.argmax())
        again = {"threshold": self.levels[column], "balance_score": float(scores.mean[column])}
        return replace(config, reward_threshold=self.levels[column]), {**account, "searched_again": again}


def plateau(
    grid: Mapping[float, ThresholdScores], thresholds: Sequence[float], best: float, column: int
) -> list[dict[str, Any]]:
    """The settings that cannot be told from the chosen one: their paired difference is within one standard error.

    Returns:
        one entry per temperature that has such settings, with the lowest and highest threshold and their number.
    """
    chosen = np.nan_to_num(grid[best].per_query[column])
    entries = []
    for t, scores in grid.items():
        gap = chosen[None, :] - np.nan_to_num(scores.per_query)
        error = gap.std(axis=1, ddof=1) / math.sqrt(gap.shape[1]) if gap.shape[1] > 1 else np.zeros(len(gap))
        level = [thresholds[i] for i in np.flatnonzero(gap.mean(axis=1) <= error)]
        if level:
            entries.append({"temperature": t, "lowest": min(level), "highest": max(level), "settings": len(level)})
    return entries
