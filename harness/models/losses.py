"""Losses of supervised fine-tuning, preference learning and reward modelling as pure functions of tensors.

Axes: B rows (or pairs) in a batch, T tokens, V words of the vocabulary, N supervised tokens of the whole batch.
`logps` are summed over the tokens of a response, in nats. Every loss is returned per token, row or pair, unreduced:
the caller divides by the denominator of its whole optimizer step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import InputError, first_line

IGNORED = -100
"""Label of a position without loss."""


def supervised_positions(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the model must predict, and what.

    Args:
        labels: (B, T), the token at each position or `IGNORED`; not shifted.

    Returns:
        positions (N,): indices into the B*T flattened tokens whose logits predict the targets;
        targets (N,): token ids; rows (N,): the row of each target.
    """
    length = labels.shape[1]
    rows, columns = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return rows * length + columns, labels[rows, columns + 1], rows


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target, in float32 whatever the logits' dtype.

    Args:
        logits: (N, V) logits at the positions that predict the targets.
        targets: (N,) token ids.

    Returns:
        (N,) log-probabilities.
    """
    return -F.cross_entropy(logits.float(), targets, reduction="none")


def token_entropies(logits: Tensor) -> Tensor:
    """Entropy in nats of the distribution over the vocabulary, (N, V) -> (N,), in float32."""
    logps = logits.float().log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)


def sum_by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Sum the values (N,) that belong to each of the rows (N,) -> (num_rows,)."""
    return torch.zeros(num_rows, dtype=values.dtype, device=values.device).index_add(0, rows, values)


def sequence_logps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Summed log-probability of each row's supervised tokens.

    Args:
        logits: (B, T, V).
        labels: (B, T), not shifted.

    Returns:
        logps (B,) and the number of supervised tokens (B,).
    """
    positions, targets, rows = supervised_positions(labels)
    values = token_logps(logits.flatten(0, 1)[positions], targets)
    num_rows = labels.shape[0]
    return sum_by_row(values, rows, num_rows), sum_by_row(torch.ones_like(values), rows, num_rows)


def sft_loss(logps: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted negative log-likelihood, as a sum and its denominator.

    Args:
        logps: (N,) log-probabilities of the supervised tokens.
        weights: (N,) weight of each token's row.

    Returns:
        The sum over tokens, and the sum of weights; their quotient is the loss per token.
    """
    return -(logps * weights).sum(), weights.sum()


@dataclass(frozen=True)
class PairLogps:
    """What the losses of preference learning are functions of; every field is (B,)."""

    chosen: Tensor
    """Policy's summed log-probability of the chosen response."""
    rejected: Tensor
    reference_chosen: Tensor
    """Reference's summed log-probability of the chosen response; zeros without a reference."""
    reference_rejected: Tensor
    num_chosen: Tensor
    """Number of tokens of the chosen response."""
    num_rejected: Tensor

    @property
    def chosen_ratio(self) -> Tensor:
        """log pi(chosen) - log ref(chosen)."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        return self.rejected - self.reference_rejected

    @property
    def delta(self) -> Tensor:
        """Difference of the log-ratios, the implicit reward margin divided by beta."""
        return self.chosen_ratio - self.rejected_ratio


@dataclass(frozen=True)
class PreferenceLossConfig:
    """Constants of the preference losses."""

    beta: float = 0.1
    """Strength of the pull towards the reference; the larger, the closer the policy stays."""
    label_smoothing: float = 0.0
    """Assumed share of pairs whose sides are swapped, below 0.5; read by `sigmoid` (conservative DPO) and `robust`."""
    simpo_gamma: float = 0.5
    """Target reward margin of `simpo`."""
    dpop_lambda: float = 50.0
    """Weight of the penalty of `dpop` on a falling likelihood of the chosen response."""


def sigmoid_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """DPO (arXiv:2305.18290, eq. 7); with label smoothing, conservative DPO (cDPO note by E. Mitchell, eq. 3)."""
    logit, noise = config.beta * pairs.delta, config.label_smoothing
    return -(1 - noise) * F.logsigmoid(logit) - noise * F.logsigmoid(-logit)


def robust_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """Robust DPO (arXiv:2403.00409, eq. 9): unbiased under a share `label_smoothing` of swapped labels."""
    logit, noise = config.beta * pairs.delta, config.label_smoothing
    return (-(1 - noise) * F.logsigmoid(logit) + noise * F.logsigmoid(-logit)) / (1 - 2 * noise)


def ipo_sum_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """IPO (arXiv:2310.12036, eq. 17) on summed log-probabilities, as the paper writes it."""
    return (pairs.delta - 1 / (2 * config.beta)) ** 2


def ipo_mean_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """IPO on log-probabilities averaged over each response's tokens, as TRL computes it on the authors' advice."""
    return (_normalised_delta(pairs) - 1 / (2 * config.beta)) ** 2


def hinge_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """Hinge on the implicit reward margin (SLiC, arXiv:2305.10425, in the form of RSO, arXiv:2309.06657)."""
    return F.relu(1 - config.beta * pairs.delta)


def sigmoid_norm_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """DPO on log-ratios averaged over each response's tokens (Tulu 3, arXiv:2411.15124, eq. 6); wants a larger beta."""
    return -F.logsigmoid(config.beta * _normalised_delta(pairs))


def simpo_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """SimPO (arXiv:2405.14734, eq. 6): average log-probabilities, a target margin, no reference."""
    difference = pairs.chosen / pairs.num_chosen - pairs.rejected / pairs.num_rejected
    return -F.logsigmoid(config.beta * difference - config.simpo_gamma)


def kto_pair_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """KTO (arXiv:2402.01306) on pairs: each side is compared with the mean log-ratio of the other side in the batch.

    As in the paper no gradient flows through those means; TRL's former `kto_pair` let it.
    """
    chosen_kl = pairs.chosen_ratio.detach().mean().clamp(min=0)
    rejected_kl = pairs.rejected_ratio.detach().mean().clamp(min=0)
    chosen = 1 - torch.sigmoid(config.beta * (pairs.chosen_ratio - rejected_kl))
    rejected = 1 - torch.sigmoid(config.beta * (chosen_kl - pairs.rejected_ratio))
    return (chosen + rejected) / 2


def dpop_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """DPO-Positive (Smaug, arXiv:2402.13228, eq. 3): penalises a chosen response that has become less likely."""
    penalty = config.dpop_lambda * F.relu(-pairs.chosen_ratio)
    return -F.logsigmoid(config.beta * (pairs.delta - penalty))


def chosen_nll_loss(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """Negative log-likelihood per token of the chosen response (Iterative RPO, arXiv:2404.19733, eq. 2)."""
    return -pairs.chosen / pairs.num_chosen


def _normalised_delta(pairs: PairLogps) -> Tensor:
    return pairs.chosen_ratio / pairs.num_chosen - pairs.rejected_ratio / pairs.num_rejected


def kto_loss(
    log_ratios: Tensor,
    desirable: Tensor,
    reference_point: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO (arXiv:2402.01306, eqs. 7 and 8) of single responses that are good or bad.

    Args:
        log_ratios: (B,) log pi - log ref of each response.
        desirable: (B,) bool, whether it is good.
        reference_point: z_0, an estimate of KL(pi || ref), at least 0, through which no gradient flows.
        beta: how fast the value saturates; the larger, the closer the policy stays to the reference.
        desirable_weight: lambda_D.
        undesirable_weight: lambda_U.

    Returns:
        (B,) lambda - value.
    """
    gain = torch.where(desirable, log_ratios - reference_point, reference_point - log_ratios)
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * (1 - torch.sigmoid(beta * gain))


PreferenceLoss = Callable[[PairLogps, PreferenceLossConfig], Tensor]
"""Loss (B,) of the pairs. One that never reads the reference says so by an attribute `needs_reference = False`."""

PREFERENCE_LOSSES: Mapping[str, PreferenceLoss] = {
    "sigmoid": sigmoid_loss,
    "robust": robust_loss,
    "ipo_sum": ipo_sum_loss,
    "ipo_mean": ipo_mean_loss,
    "hinge": hinge_loss,
    "sigmoid_norm": sigmoid_norm_loss,
    "simpo": simpo_loss,
    "kto_pair": kto_pair_loss,
    "dpop": dpop_loss,
    "nll": chosen_nll_loss,
}
"""Name -> loss (B,) of the pairs; several may be summed with weights."""

REFERENCE_FREE = frozenset({simpo_loss, chosen_nll_loss})
"""The project's losses that never read the reference's log-probabilities."""


def find_loss(name: str) -> PreferenceLoss:
    """A loss by its name in `PREFERENCE_LOSSES`, or by the path of a function, such as `mylab.losses.exo_loss`.

    Raises:
        InputError: there is no such loss, or it is no function.
    """
    if name in PREFERENCE_LOSSES:
        return PREFERENCE_LOSSES[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        known = f"known: {', '.join(PREFERENCE_LOSSES)}, or the path of a function, such as mylab.losses.own_loss."
        raise InputError(f"unknown preference loss '{name}'; {known}")
    try:
        loss = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"preference loss '{name}' cannot be imported ({first_line(error)}).") from error
    if not callable(loss):
        raise InputError(f"preference loss '{name}' is no function but {loss!r}.")
    return loss


def needs_reference(loss: PreferenceLoss) -> bool:
    """Whether a loss reads the reference's log-probabilities."""
    return loss not in REFERENCE_FREE and getattr(loss, "needs_reference", True)


def preference_loss(pairs: PairLogps, losses: Mapping[str, float], config: PreferenceLossConfig) -> Tensor:
    """Weighted sum of named losses for each pair -> (B,)."""
    return torch.stack([weight * find_loss(name)(pairs, config) for name, weight in losses.items()]).sum(0)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, margin: float = 0.0, centring: float = 0.0) -> Tensor:
    """Negative log-likelihood that the chosen response is preferred (Bradley and Terry, 1952).

    Args:
        chosen: (B,) rewards of the chosen responses.
        rejected: (B,) rewards of the rejected responses.
        margin: reward difference demanded (Llama 2, arXiv:2307.09288, eq. 2).
        centring: weight of (chosen + rejected)^2, which keeps rewards around zero (arXiv:2312.09244, section 2).

    Returns:
        (B,) losses.
    """
    return -F.logsigmoid(chosen - rejected - margin) + centring * (chosen + rejected) ** 2


def step_loss(values: Tensor, labels: Tensor, squared: bool = False) -> Tensor:
    """Binary cross-entropy of step values (N,), as logits, against labels (N,) in [0, 1] -> (N,).

    `squared` takes the squared error of sigmoid(value) instead.
    """
    if squared:
        return (torch.sigmoid(values.float()) - labels.float()) ** 2
    return F.binary_cross_entropy_with_logits(values.float(), labels.float(), reduction="none")
