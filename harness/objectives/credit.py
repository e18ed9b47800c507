"""Credits: from the rewards of all responses of an iteration to the advantage of each, as pure functions of arrays.

Axes: R responses, of all problems one after another; the responses to one problem are its group. A group counts with
all that was sampled for it, also the responses that nothing is learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from harness.errors import InputError

CreditName = Literal[
    "raft", "reinforce", "mean", "group_norm", "rloo", "batch_norm", "whiten", "maxrl", "opo", "gpg", "passk",
    "passk_top1", "psr", "nsr", "weighted", "rank", "partition",
]  # fmt: skip
"""Names of `CREDITS`."""


@dataclass(frozen=True)
class CreditConfig:
    """Constants of the credits."""

    credit_eps: float = 1e-4
    """Added to a standard deviation before it divides: 1e-4 in TRL, 1e-6 in verl."""
    pass_k: int = 4
    """k of `passk`."""
    positive_weight: float = 0.1
    """What a right response counts in `weighted`, where a wrong one counts -1."""
    rank_penalty: float = 0.25
    """Share of the reward that `rank` takes from the likeliest response of a group."""
    partition_temperature: float = 0.01
    """tau of `partition`."""


@dataclass(frozen=True)
class Samples:
    """What credits are functions of; every field is (R,)."""

    rewards: np.ndarray
    groups: np.ndarray
    """int, from 0: which problem a response answers."""
    lengths: np.ndarray
    """Sampled tokens."""
    logps: np.ndarray
    """Log-probability of the whole response under the policy that drew it."""
    threshold: float = 0.0
    """Responses with a reward above it (strictly) are right for `raft`."""

    @cached_property
    def sizes(self) -> np.ndarray:
        """Responses in the group of each."""
        return np.bincount(self.groups)[self.groups].astype(float)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over the group of each."""
        return np.bincount(self.groups, weights=values)[self.groups]

    @cached_property
    def means(self) -> np.ndarray:
        """Mean reward of the group of each."""
        return self.total(self.rewards) / self.sizes

    @cached_property
    def centred(self) -> np.ndarray:
        """Reward minus the mean of its group; exactly 0 where all rewards of a group are equal."""
        return np.where(self.spread, self.rewards - self.means, 0.0)

    @cached_property
    def spread(self) -> np.ndarray:
        """Whether the rewards of the group of each differ."""
        low = np.full(self.groups.max(initial=-1) + 1, np.inf)
        high = -low
        np.minimum.at(low, self.groups, self.rewards)
        np.maximum.at(high, self.groups, self.rewards)
        return (low < high)[self.groups]

    def deviations(self, rewards: np.ndarray) -> np.ndarray:
        """Standard deviation (n - 1) of the rewards within the group of each."""
        centred = rewards - self.total(rewards) / self.sizes
        return np.sqrt(self.total(centred**2) / np.maximum(self.sizes - 1, 1))

    def ranks(self, values: np.ndarray) -> np.ndarray:
        """Place of each in its group by value, 0 for the smallest; ties in the order of sampling."""
        order = np.lexsort((values, self.groups))
        starts = np.searchsorted(self.groups[order], self.groups)
        place = np.empty(len(values), dtype=np.int64)
        place[order] = np.arange(len(values))
        return place - starts


def raft(samples: Samples, config: CreditConfig) -> np.ndarray:
    """1 for a reward above the threshold, else 0: rejection sampling (RAFT, arXiv:2304.06767)."""
    return (samples.rewards > samples.threshold).astype(float)


def reinforce(samples: Samples, config: CreditConfig) -> np.ndarray:
    """The reward itself (Williams, 1992), no baseline."""
    return samples.rewards.astype(float)


def mean(samples: Samples, config: CreditConfig) -> np.ndarray:
    """Reward minus the group's mean (Dr. GRPO, arXiv:2503.20783)."""
    return samples.centred


def group_norm(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`mean` divided by the group's standard deviation (GRPO, arXiv:2402.03300, section 4.1.2)."""
    return samples.centred / (samples.deviations(samples.rewards) + config.credit_eps)


def rloo(samples: Samples, config: CreditConfig) -> np.ndarray:
    """Reward minus the mean of the group's other rewards (arXiv:2402.14740, eq. 6)."""
    return samples.centred * samples.sizes / (samples.sizes - 1)


def batch_norm(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`mean` divided by the standard deviation of all rewards of the iteration (arXiv:2508.08221; TRL's "batch")."""
    return samples.centred / (samples.rewards.std(ddof=1) + config.credit_eps)


def whiten(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`mean` whitened over all tokens of the iteration (REINFORCE++ with baseline, arXiv:2501.03262).

    The mean over tokens is taken off again, so groups of equal rewards get a credit that is not 0.
    """
    tokens = samples.lengths.sum()
    average = (samples.centred * samples.lengths).sum() / tokens
    variance = ((samples.centred - average) ** 2 * samples.lengths).sum() / (tokens - 1)
    return (samples.centred - average) / np.sqrt(variance + 1e-8)


def maxrl(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`mean` divided by the group's mean reward, 0 where that is 0 (MaxRL, arXiv:2602.02710).

    With n samples its expectation is the gradient of the first n terms of the log-likelihood of a right answer,
    log p = -sum_k (1 - p)^k / k; REINFORCE is the first of them.
    """
    means = samples.means
    return np.where(means > 0, samples.centred / np.where(means > 0, means, 1.0), 0.0)


def opo(samples: Samples, config: CreditConfig) -> np.ndarray:
    """Reward minus the group's mean weighted by length (arXiv:2505.23585), the baseline of least variance."""
    weighted = samples.total(samples.rewards * samples.lengths) / samples.total(samples.lengths)
    return np.where(samples.spread, samples.rewards - weighted, 0.0)


def gpg(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`mean` scaled by responses over responses whose reward is not 0, as verl computes it (arXiv:2504.02546)."""
    return samples.centred * len(samples.rewards) / max(np.count_nonzero(samples.rewards), 1)


def passk(samples: Samples, config: CreditConfig) -> np.ndarray:
    """A response's share in pass@k of its group, normalised over the group's subsets of k (arXiv:2508.10751).

    With k = 1 it is `group_norm` with the population's standard deviation.
    """
    found = np.empty(len(samples.rewards))
    right_of = samples.total((samples.rewards > 0).astype(float)).astype(int)
    for i, (right, n) in enumerate(zip(right_of, samples.sizes.astype(int), strict=True)):
        solved = 1 - _subsets(n - right, config.pass_k) / _subsets(n, config.pass_k)
        scale = math.sqrt(solved * (1 - solved)) + 1e-6
        if samples.rewards[i] > 0:
            found[i] = (1 - solved) / scale
        else:
            alone = _subsets(n - right - 1, config.pass_k - 1) / _subsets(n - 1, config.pass_k - 1)
            found[i] = (1 - solved - alone) / scale
    return found


def _subsets(n: int, k: int) -> int:
    return math.comb(n, k) if n >= k >= 0 else 0


def passk_top1(samples: Samples, config: CreditConfig) -> np.ndarray:
    """Best minus second-best reward over the standard deviation, for the group's best response alone.

    As verl's `grpo_passk` (arXiv:2503.19595): only groups with exactly one right response teach anything.
    """
    place = samples.ranks(samples.rewards)
    best, second = place == samples.sizes - 1, place == samples.sizes - 2
    gap = samples.total(np.where(best, samples.rewards, 0.0)) - samples.total(np.where(second, samples.rewards, 0.0))
    return np.where(best, gap, 0.0) / (samples.deviations(samples.rewards) + config.credit_eps)


def psr(samples: Samples, config: CreditConfig) -> np.ndarray:
    """1 for a right response, 0 for a wrong one (arXiv:2506.01347)."""
    return samples.rewards.astype(float)


def nsr(samples: Samples, config: CreditConfig) -> np.ndarray:
    """0 for a right response, -1 for a wrong one (arXiv:2506.01347)."""
    return samples.rewards - 1.0


def weighted(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`positive_weight` for a right response, -1 for a wrong one (W-REINFORCE, arXiv:2506.01347)."""
    return np.where(samples.rewards > 0, config.positive_weight * samples.rewards, samples.rewards - 1.0)


def rank(samples: Samples, config: CreditConfig) -> np.ndarray:
    """`group_norm` of rewards of which likely responses lose a part (arXiv:2506.02355).

    The i-th least likely of n responses, i from 0, keeps the share 1 - `rank_penalty` i / n of its reward.
    """
    place = samples.ranks(samples.logps)
    rewards = samples.rewards * (1 - config.rank_penalty * place / samples.sizes)
    return group_norm(replace(samples, rewards=rewards), config)


def partition(samples: Samples, config: CreditConfig) -> np.ndarray:
    """Reward minus tau log of the mean of exp(reward / tau) over the group's others (arXiv:2501.12599, section 2.3)."""
    found = np.empty(len(samples.rewards))
    for group in range(samples.groups.max(initial=-1) + 1):
        members = np.flatnonzero(samples.groups == group)
        scaled = samples.rewards[members] / config.partition_temperature
        for i, member in enumerate(members):
            others = np.delete(scaled, i)
            top = others.max()
            log_mean = top + math.log(np.exp(others - top).mean())
            found[member] = samples.rewards[member] - config.partition_temperature * log_mean
    return found


CREDITS: Mapping[str, Callable[[Samples, CreditConfig], np.ndarray]] = {
    "raft": raft, "reinforce": reinforce, "mean": mean, "group_norm": group_norm, "rloo": rloo,
    "batch_norm": batch_norm, "whiten": whiten, "maxrl": maxrl, "opo": opo, "gpg": gpg, "passk": passk,
    "passk_top1": passk_top1, "psr": psr, "nsr": nsr, "weighted": weighted, "rank": rank, "partition": partition,
}  # fmt: skip
"""Name -> advantages (R,)."""

BY_GROUP = frozenset(get_args(CreditName)) - {"raft", "reinforce", "psr", "nsr", "weighted"}
"""Credits that compare a response with others of its group, and so need two."""
VERDICTS_ONLY = frozenset({"passk", "psr", "nsr", "weighted"})
"""Credits that are defined for rewards 0 and 1."""
NOT_NEGATIVE = frozenset({"maxrl"})


def check_group_size(name: CreditName, smallest: int, config: CreditConfig = CreditConfig()) -> None:
    """Raise `InputError` if so few responses to a problem are not enough for the credit."""
    if name in BY_GROUP and smallest < 2:
        raise InputError(
            f"credit '{name}' compares the responses to a problem with one another, but a problem has {smallest}; "
            "sample at least 2 (sampling.n), or choose `reinforce`."
        )
    if name == "passk" and smallest < config.pass_k:
        raise InputError(
            f"credit 'passk' with pass_k {config.pass_k} needs as many responses to each problem, found {smallest}; "
            "sample more (sampling.n) or lower pass_k."
        )


def advantages(name: CreditName, samples: Samples, config: CreditConfig = CreditConfig()) -> np.ndarray:
    """The advantage of every response (R,).

    Raises:
        InputError: the rewards or the sizes of the groups are not what the credit needs.
    """
    rewards = samples.rewards
    if not np.isfinite(rewards).all():
        raise InputError(f"credit '{name}' needs finite rewards, found {rewards[~np.isfinite(rewards)][0]}.")
    if len(rewards):
        check_group_size(name, int(samples.sizes.min()), config)
    if name in VERDICTS_ONLY and len(other := rewards[(rewards != 0) & (rewards != 1)]):
        raise InputError(
            f"credit '{name}' is defined for rewards 0 and 1, found {other[0]:g}; use the outcome as reward, without a "
            "length penalty."
        )
    if name in NOT_NEGATIVE and (rewards < 0).any():
        raise InputError(f"credit '{name}' needs rewards that are not negative, found {rewards.min():g}.")
    return CREDITS[name](samples, config)


def overlong_penalty(lengths: np.ndarray, limit: int, buffer: int) -> np.ndarray:
    """What a long response loses of its reward (R,): DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13).

    0 up to `limit - buffer` tokens, falling linearly to -1 at `limit`, -1 beyond.
    """
    return np.clip((limit - buffer - lengths) / max(buffer, 1), -1.0, 0.0)
