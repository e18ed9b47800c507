"""Divergences from a reference as losses per token, and the coefficient of an entropy bonus.

Axes: N sampled tokens. For tokens drawn by the policy log pi_ref - log pi is all that is known of the
distributions, and every estimator is a function of it (J. Schulman, "Approximating KL divergence", 2020).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

KLName = Literal["none", "k1", "k2", "k3", "k3_ratio", "k3_k2"]
"""Estimators of KL(policy || reference); see `kl_loss`."""
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
        case "none":
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


def adapted(coefficient: float, entropy: float, target: float, step: float, largest: float = 1.0) -> float:
    """The next coefficient of an adaptive bonus: a step up while the entropy is at most the target, else one down.

    Skywork-OR1, arXiv:2505.22312; within [0, `largest`].
    """
    return min(max(coefficient + (step if entropy <= target else -step), 0.0), largest)
