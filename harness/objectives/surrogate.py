"""Ratios, trust regions and engine corrections of policy gradients, as pure functions of tensors.

Axes: B rows (responses), N sampled tokens of all rows, row after row. Log-probabilities are of the sampled tokens, in
nats. Losses are per token (N,), unreduced and to be minimised; what is one number per row stands at each of its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.models.losses import sum_by_row
from harness.objectives.penalties import kl_loss

RatioName = Literal["none", "token", "sequence", "sequence_token"]
"""Which ratio of policy to old policy a loss is made of: none (the log-probability instead), each token's, the
geometric mean over the row's tokens (GSPO), or that mean's value with each token's own gradient (GSPO-token)."""
TrustRegionName = Literal["none", "clip", "dual_clip", "two_sided", "cispo", "sapo", "gmpo", "vespo", "dppo", "pmd"]
"""Names of `TRUST_REGIONS`."""
CorrectionName = Literal[
    "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_mask", "k3_mask"
]
"""How a difference between engine and trainer is corrected; see `engine_weights`."""


@dataclass(frozen=True)
class SurrogateConfig:
    """Constants of ratios, trust regions and engine corrections."""

    ratio: RatioName = "none"
    trust_region: TrustRegionName = "none"
    clip_low: float = 0.2
    """`clip`, `dual_clip`, `two_sided`: the ratio counts down to 1 - clip_low; `gmpo`: the log-ratio down to it."""
    clip_high: float = 0.2
    """The same upwards, 1 + clip_high."""
    dual_clip: float = 3.0
    """`dual_clip`: where the advantage is negative the loss grows no further than the ratio's value here."""
    ratio_min: float = 0.0
    """`cispo`: the detached ratio is clamped to [ratio_min, ratio_max]."""
    ratio_max: float = 5.0
    """`cispo`, and `two_sided`, where no ratio counts beyond it."""
    sapo_positive: float = 1.0
    """`sapo`: temperature of the gate where the advantage is positive."""
    sapo_negative: float = 1.05
    """`sapo`: temperature of the gate elsewhere."""
    vespo_positive: tuple[float, float] = (2.0, 3.0)
    """`vespo`: (k, lambda) of the weight where the advantage is not negative."""
    vespo_negative: tuple[float, float] = (3.0, 2.0)
    dppo_threshold: float = 0.2
    """`dppo`: difference of probabilities to the engine beyond which a token is left out."""
    dppo_pull: float = 1e-3
    """`dppo`: weight of the squared log-ratio to the engine."""
    pmd_temperature: float = 0.01
    """`pmd`: strength of the pull to the old policy."""
    off_policy_limit: float | None = None
    """Rows with a negative advantage whose mean log-ratio engine to policy is above it are left out (DeepSeek-V3.2,
    arXiv:2512.02556); None leaves out none."""
    correction: CorrectionName = "none"
    correction_low: float | None = None
    """Smallest importance weight of the engine correction; None is no bound."""
    correction_high: float | None = 2.0
    """Largest one."""


LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to this before they are exponentiated, as in verl and OpenRLHF."""


@dataclass(frozen=True)
class PolicyTokens:
    """What surrogates are functions of."""

    policy: Tensor
    """(N,) log-probabilities under the policy in training, with their graph."""
    advantages: Tensor
    """(B,)"""
    rows: Tensor
    """(N,) row of each token."""
    old: Tensor | None = None
    """(N,) under the trainer's weights when the rollouts were drawn."""
    engine: Tensor | None = None
    """(N,) as the engine reported them."""
    token_advantages: Tensor | None = None
    """(N,) what each token's advantage differs from its row's by, None for nothing; see `penalties.kl_to_go`."""

    @property
    def num_rows(self) -> int:
        return len(self.advantages)

    @property
    def advantage(self) -> Tensor:
        """(N,) each token's."""
        row = self.advantages[self.rows]
        return row if self.token_advantages is None else row + self.token_advantages

    @property
    def log_ratio(self) -> Tensor:
        """(N,) policy to old policy."""
        return self.policy - _given(self.old, "old")

    def row_sum(self, values: Tensor) -> Tensor:
        """(N,) -> (B,)"""
        return sum_by_row(values, self.rows, self.num_rows)

    def row_mean(self, values: Tensor) -> Tensor:
        """(N,) -> (B,); 0 for a row without tokens."""
        return self.row_sum(values) / self.row_sum(torch.ones_like(values)).clamp(min=1)


def _given(values: Tensor | None, name: str) -> Tensor:
    if values is None:
        raise ValueError(f"this objective needs `{name}` log-probabilities")
    return values


def ratios(tokens: PolicyTokens, name: RatioName) -> Tensor:
    """The ratio that each token's loss is made of (N,); for "none" it is 1 with the log-probability's gradient."""
    match name:
        case "none":
            return (tokens.policy - tokens.policy.detach()).exp()
        case "token":
            return _exp(tokens.log_ratio)
        case "sequence":
            return _exp(tokens.row_mean(tokens.log_ratio))[tokens.rows]
        case "sequence_token":
            level = tokens.row_mean(tokens.log_ratio.detach())[tokens.rows]
            return _exp(tokens.policy - tokens.policy.detach() + level)


def _exp(values: Tensor) -> Tensor:
    return values.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def unbounded(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """-ratio x advantage, or -log-probability x advantage without a ratio (REINFORCE)."""
    if config.ratio == "none":
        return -(tokens.policy * tokens.advantage)
    return -ratios(tokens, config.ratio) * tokens.advantage


def clip(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """PPO (arXiv:1707.06347, eq. 7) with two bounds (DAPO, arXiv:2503.14476, eq. 10)."""
    ratio, advantage = ratios(tokens, config.ratio), tokens.advantage
    bounded = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    return -torch.min(ratio * advantage, bounded * advantage)


def dual_clip(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """`clip` whose loss at negative advantages is bounded too (arXiv:1912.09729, eq. 5)."""
    loss, advantage = clip(tokens, config), tokens.advantage
    return torch.where(advantage < 0, torch.min(-config.dual_clip * advantage, loss), loss)


def two_sided(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """`clip` in whose first term no ratio counts beyond `ratio_max` (INTELLECT-2, arXiv:2505.07291)."""
    ratio, advantage = ratios(tokens, config.ratio), tokens.advantage
    bounded = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    return -torch.min(ratio.clamp(max=config.ratio_max) * advantage, bounded * advantage)


def cispo(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Log-probabilities weighted by clamped, detached ratios (MiniMax-M1, arXiv:2506.13585, eq. 4)."""
    weight = ratios(tokens, config.ratio).detach().clamp(config.ratio_min, config.ratio_max)
    return -weight * tokens.advantage * tokens.policy


def sapo(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """A smooth gate in place of the clip (arXiv:2511.20347)."""
    advantage = tokens.advantage
    tau = _choose(advantage > 0, config.sapo_positive, config.sapo_negative, advantage)
    return -torch.sigmoid(tau * (ratios(tokens, config.ratio) - 1)) * 4 / tau * advantage


def _choose(condition: Tensor, yes: float, no: float, like: Tensor) -> Tensor:
    """One of two numbers by a condition, in the dtype of `like`."""
    return torch.where(condition, like.new_tensor(yes), like.new_tensor(no))


def gmpo(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Geometric mean of the row's clipped ratios (GMPO, arXiv:2507.20673)."""
    sign = tokens.advantage.sign()
    log_ratio = tokens.log_ratio
    bounded = torch.min(sign * log_ratio, sign * log_ratio.clamp(-config.clip_low, config.clip_high)) * sign
    return (-tokens.advantages * _exp(tokens.row_mean(bounded)))[tokens.rows]


def vespo(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Log-probabilities weighted by w^k exp(lambda - lambda w), w the row's whole ratio (arXiv:2602.10693).

    Where an engine correction is set, w holds the row's product of engine weights, which do not multiply the loss then.
    """
    log_ratio = tokens.row_sum(tokens.log_ratio.detach().clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
    floor = math.log(1e-8)
    if config.correction != "none":
        log_ratio = log_ratio + tokens.row_sum(engine_weights(tokens, config).log().clamp(floor, LOG_RATIO_LIMIT))
    log_w = log_ratio.clamp(floor, LOG_RATIO_LIMIT)
    positive = tokens.advantages >= 0
    (k, lam), (k_negative, lam_negative) = config.vespo_positive, config.vespo_negative
    power, rate = _choose(positive, k, k_negative, log_w), _choose(positive, lam, lam_negative, log_w)
    weight = (rate + power * log_w - rate * log_w.exp()).exp()
    return -(weight * tokens.advantages)[tokens.rows] * tokens.policy


def dppo(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Ratios to the engine, without tokens whose probability moved too far (arXiv:2602.04879; prime-rl's default)."""
    engine, advantage = _given(tokens.engine, "engine"), tokens.advantage
    moved = (tokens.policy.exp() - engine.exp()).detach()
    dropped = ((advantage > 0) & (moved > config.dppo_threshold)) | ((advantage < 0) & (moved < -config.dppo_threshold))
    log_ratio = tokens.policy - engine
    return -_exp(log_ratio) * advantage * ~dropped + config.dppo_pull * log_ratio**2


def pmd(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Squared distance of the row's log-ratio to advantage / tau (Kimi k1.5, arXiv:2501.12599, eq. 3), by length."""
    tau = config.pmd_temperature
    distance = tokens.advantages / tau - tokens.row_sum(tokens.log_ratio)
    lengths = tokens.row_sum(torch.ones_like(tokens.policy)).clamp(min=1)
    return (tau / 2 * distance**2 / lengths)[tokens.rows]


TRUST_REGIONS: Mapping[str, Callable[[PolicyTokens, SurrogateConfig], Tensor]] = {
    "none": unbounded, "clip": clip, "dual_clip": dual_clip, "two_sided": two_sided, "cispo": cispo, "sapo": sapo,
    "gmpo": gmpo, "vespo": vespo, "dppo": dppo, "pmd": pmd,
}  # fmt: skip
"""Name -> loss per token (N,)."""


def engine_weights(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Importance weights (N,), detached, of the old policy against what the engine computed.

    `token_truncate` clamps each token's v = old / engine; `token_mask` makes it 0 outside the bounds (IcePop,
    arXiv:2510.18855); `sequence_*` do so with the product over the row; `geometric_mask` keeps rows whose geometric
    mean of v is within the bounds, `k3_mask` those whose mean of v - log v - 1 is at most `correction_high`.
    """
    if config.correction == "none":
        return torch.ones_like(tokens.policy.detach())
    log_v = (_given(tokens.old, "old") - _given(tokens.engine, "engine")).detach()
    low, high = config.correction_low, config.correction_high
    match config.correction:
        case "token_truncate":
            return _exp(log_v).clamp(low, high)
        case "token_mask":
            return _masked(_exp(log_v), low, high)
        case "sequence_truncate":
            return _exp(tokens.row_sum(log_v)).clamp(low, high)[tokens.rows]
        case "sequence_mask":
            return _masked(_exp(tokens.row_sum(log_v)), low, high)[tokens.rows]
        case "geometric_mask":
            mean = _exp(tokens.row_mean(log_v))
            return (_masked(mean, low, high) != 0).to(log_v.dtype)[tokens.rows]
        case "k3_mask":
            distance = tokens.row_mean(_exp(log_v) - log_v - 1)
            return (distance <= (float("inf") if high is None else high)).to(log_v.dtype)[tokens.rows]


def _masked(values: Tensor, low: float | None, high: float | None) -> Tensor:
    outside = torch.zeros_like(values, dtype=torch.bool)
    if low is not None:
        outside |= values < low
    if high is not None:
        outside |= values > high
    return values.masked_fill(outside, 0.0)


def on_policy_rows(tokens: PolicyTokens, limit: float) -> Tensor:
    """1 for the tokens of rows to keep (N,), 0 for those of wrong rows that the policy has moved away from."""
    before = tokens.engine if tokens.engine is not None else _given(tokens.old, "old")
    distance = tokens.row_mean((before - tokens.policy.detach()).nan_to_num(nan=0.0))
    return ((tokens.advantages >= 0) | (distance <= limit)).to(tokens.policy.dtype)[tokens.rows]


def kept_gradient(tokens: PolicyTokens, config: SurrogateConfig) -> dict[str, float]:
    """What a trust region leaves of the gradient of tokens that a policy has moved away from.

    Returns:
        `ratio_max` and `kl_old` (k3 estimate of KL(old || policy), mean over tokens); `kept_share`, the share of the
        tokens with an advantage that have a gradient; `gradient_share`, the sum of the gradients' sizes over that of
        the advantages', which it is where the ratio is 1.
    """
    policy = tokens.policy.detach().requires_grad_(True)
    loss = surrogate_loss(replace(tokens, policy=policy), config).sum()
    (slope,) = torch.autograd.grad(loss, policy)
    advantage, log_ratio = tokens.advantage.abs(), tokens.log_ratio.detach()
    taught = advantage > 0
    return {
        "ratio_max": log_ratio.max().exp().item(),
        "kl_old": kl_loss(-log_ratio, torch.zeros_like(log_ratio), "k3").mean().item(),
        "kept_share": (slope[taught] != 0).float().mean().item(),
        "gradient_share": (slope.abs().sum() / advantage.sum()).item(),
    }


def surrogate_loss(tokens: PolicyTokens, config: SurrogateConfig) -> Tensor:
    """Loss per token (N,): the trust region's, without rows that are off policy, times the engine's weights."""
    loss = TRUST_REGIONS[config.trust_region](tokens, config)
    if config.off_policy_limit is not None:
        loss = loss * on_policy_rows(tokens, config.off_policy_limit)
    if config.correction != "none" and config.trust_region != "vespo":
        loss = loss * engine_weights(tokens, config)
    return loss
