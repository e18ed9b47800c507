"""Divergences from a reference as losses per token, and the coefficient of an entropy bonus.

Axes: N sampled tokens. For tokens drawn by the policy log pi_ref - log pi is all that is known of the
distributions, and every estimator is a function of it (J. Schulman, "Approximating KL divergence", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

KLName = Literal["none", "k1", "k2", "k3", "k3_ratio", "k3_k2", "k1_reward"]
"""Estimators of KL(policy || reference) in the loss (see `kl_loss`), or in the reward of each token (`kl_to_go`)."""
EntropyName = Literal["none", "bonus", "adaptive"]


def kl_loss(policy: Tensor, reference: Tensor, name: KLName, ratio: Tensor | None = None) -> Tensor:
    """Estimated KL(policy || reference) of each token (N,), with a gradient.

    `k1` is log pi - log ref, whose expected gradient on the policy's own samples is 0: right in a reward, useless in a
    loss. `k2` is half its square, and its gradient is that of the KL. `k3` is exp(-k1) + k1 - 1, never negative and of
    less variance, with a gradient that is that of the reversed KL. `k3_ratio` is k3 times the ratio to the old policy,
    which makes it unbiased for samples of the old policy. `k3_k2` has the value of k3 and the gradient of k2.
    """
    k1 = policy - reference
    k2 = k1**2 / 2
    k3 = (-k1).exp() + k1 - 1
    match name:
        case "none" | "k1_reward":
            return policy.new_zeros(policy.shape)
        case "k1":
            return k1
        case "k2":
            return k2
        case "k3":
            return k3
        case "k3_ratio":
            if ratio is None:
                raise ValueError("k3_ratio needs a ratio")
            return k3 * ratio
        case "k3_k2":
            return k2 - k2.detach() + k3.detach()


def kl_to_go(
    old: Sequence[np.ndarray], reference: Sequence[np.ndarray], groups: np.ndarray, coefficient: float
) -> list[np.ndarray]:
    """What a divergence in the reward adds to the advantage of each token, row after row.

    Each token costs `coefficient` times k1 = log old - log ref, and answers for its own and all later costs of its row
    (a policy gradient with a reward per token: what came before is not its doing). From that the mean over the group's
    other rows at the same place is taken, a row that has ended counting 0. So the first token of a row gets what
    leave-one-out makes of the penalised rewards.

    Args:
        old: log-probabilities of each row's tokens under the policy that drew them.
        reference: the same under the reference.
        groups: (rows,) int from 0, rows that are compared with one another; one that is alone keeps its costs.
    """
    costs = [np.cumsum((lo - lr)[::-1].astype(float))[::-1] for lo, lr in zip(old, reference, strict=True)]
    sizes = np.bincount(groups)
    totals = [np.zeros(0)] * len(sizes)
    for group, cost in zip(groups, costs, strict=True):
        width = max(len(totals[group]), len(cost))
        totals[group] = np.pad(totals[group], (0, width - len(totals[group]))) + np.pad(cost, (0, width - len(cost)))
    return [
        -coefficient * (cost - (totals[group][: len(cost)] - cost) / max(sizes[group] - 1, 1))
        for group, cost in zip(groups, costs, strict=True)
    ]


def adapted(coefficient: float, entropy: float, target: float, step: float, largest: float = 1.0) -> float:
    """The next coefficient of an adaptive bonus: a step up while the entropy is at most the target, else one down.

    Skywork-OR1, arXiv:2505.22312; within [0, `largest`].
    """
    return min(max(coefficient + (step if entropy <= target else -step), 0.0), largest)
