"""A method as a row of choices, and the published methods as rows of that table.

Every method differs from the next in two or three of the choices. Where TRL or verl have another default under the same
name, docs/policy_gradient.md says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.errors import InputError
from harness.objectives.aggregation import AggregationName
from harness.objectives.credit import CreditConfig, CreditName
from harness.objectives.penalties import EntropyName, KLName
from harness.objectives.surrogate import RatioName, SurrogateConfig, TrustRegionName

KeepName = Literal["all", "mixed", "solved", "positive"]
"""Which responses become rows: all, those of problems whose rewards differ (dynamic sampling, arXiv:2503.14476), those
of problems with a reward above the threshold, or those with an advantage above 0."""
DenominatorName = Literal["all", "trained"]
"""Whether rows with an advantage of 0 count in the denominator (TRL, verl), or only those that are learnt from (as in
supervised fine-tuning)."""
OldName = Literal["recomputed", "engine", "current"]
"""Where the old policy's log-probabilities come from: a pass over the rows with the weights that the iteration starts
from, the engine's own, or the policy's at the moment, whose ratio is 1: exact where an iteration is one optimizer
step."""


@dataclass(frozen=True)
class Objective(CreditConfig, SurrogateConfig):
    """What is learnt from the rollouts of an iteration; the defaults are plain REINFORCE."""

    credit: CreditName = "reinforce"
    """How rewards become advantages; all responses sampled for a problem count."""
    binary_reward: bool = False
    """Learn from whether a reward is above the threshold, 1 or 0, instead of from its value."""
    keep: KeepName = "all"
    """Which responses become rows."""
    drop_copies: bool = False
    """Take equal responses to a problem once, as rejection sampling does. They carry the policy's probability, so
    every other credit must keep them."""
    refill: int = 0
    """Sample further problems of the iteration, at most so many times as many, until as many problems as
    `problems_per_iteration` have rewards that differ (DAPO has 10); 0 does not."""
    mask_truncated: bool = False
    """Learn nothing from responses that reached the token limit (they still count in the credit)."""
    overlong_limit: int = 0
    """Tokens from which a response loses 1 of its reward, and `overlong_buffer` before that the loss begins; 0 is
    off."""
    overlong_buffer: int = 0
    old_logps: OldName = "recomputed"
    """Where the old policy's log-probabilities come from."""
    aggregation: AggregationName = "token"
    """How the losses of tokens become one number."""
    denominator: DenominatorName = "all"
    """Which rows it is averaged over."""
    constant_length: int = 0
    """Divisor of the aggregation "constant", the longest response that may be sampled."""
    kl: KLName = "none"
    """Estimator of the divergence from the model that training started from, added to the loss of each token, or, as
    `k1_reward`, taken off its reward, in units of the advantage."""
    kl_coefficient: float = 0.0
    entropy: EntropyName = "none"
    """Whether the policy's entropy is rewarded at each token: always, or while it is at most `entropy_target`."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy; where it is adaptive, the first one."""
    entropy_target: float = 0.2
    entropy_step: float = 0.005
    replay_iterations: int = 0
    """Rows of so many earlier iterations are trained on again, with ratios to the policy that drew them."""

    def __post_init__(self) -> None:
        for broken, sentence in self._mistakes():
            if broken:
                raise InputError(f"objective: {sentence}")

    def _mistakes(self) -> list[tuple[bool, str]]:
        by_row = self.trust_region in ("gmpo", "vespo", "pmd")
        ratio_made = self.trust_region in ("clip", "dual_clip", "two_sided", "cispo", "sapo")
        return [
            (
                ratio_made and self.ratio == "none",
                f"trust_region '{self.trust_region}' bounds a ratio, but ratio is 'none'; set it to token or sequence.",
            ),
            (
                self.drop_copies and self.credit != "raft",
                f"drop_copies changes what credit '{self.credit}' estimates; it goes with credit raft only.",
            ),
            (
                self.aggregation == "constant" and self.constant_length < 1,
                "aggregation 'constant' needs constant_length, the longest response that may be sampled.",
            ),
            ((self.kl == "none") != (self.kl_coefficient == 0), "kl and kl_coefficient go together; set both or none."),
            (
                self.kl == "k1",
                "kl 'k1' in the loss has no expected gradient; take k1_reward, k2, or k3_ratio as TRL does.",
            ),
            (
                self.kl == "k1_reward"
                and (self.ratio == "sequence" or by_row or self.old_logps == "current"),
                "kl 'k1_reward' gives each token a reward of its own, known before the first step; with ratio "
                "'sequence', trust regions of whole rows (gmpo, vespo, pmd) and old_logps: current take k2.",
            ),
            (
                self.kl == "k3_ratio" and self.ratio == "none",
                "kl 'k3_ratio' needs a ratio; set ratio: token, or take k2.",
            ),
            (
                self.entropy == "bonus" and self.entropy_coefficient == 0,
                "entropy 'bonus' needs an entropy_coefficient.",
            ),
            (
                self.replay_iterations > 0 and (not self.needs_old or self.old_logps == "current"),
                "replay_iterations needs the ratio to the policy that drew the rows; set ratio: token or sequence and "
                "old_logps: recomputed or engine.",
            ),
            (
                self.correction != "none" and self.old_logps != "recomputed",
                f"correction '{self.correction}' compares the trainer with the engine and needs old_logps: recomputed.",
            ),
            (self.overlong_buffer > self.overlong_limit, "overlong_buffer is larger than overlong_limit."),
            (self.refill > 0 and self.keep != "mixed", "refill replaces what keep: mixed leaves out; set both."),
        ]  # fmt: skip

    @property
    def needs_old(self) -> bool:
        """Whether the loss reads log-probabilities of the old policy."""
        penalised = self.kl == "k1_reward" or self.correction != "none"
        return penalised or self.ratio != "none" or self.trust_region in ("gmpo", "vespo", "pmd")

    @property
    def needs_engine(self) -> bool:
        """Whether the loss reads the engine's log-probabilities of every token."""
        old = self.needs_old and self.old_logps == "engine"
        return old or self.correction != "none" or self.trust_region == "dppo" or self.off_policy_limit is not None

    @property
    def on_policy(self) -> bool:
        """Whether the loss assumes samples of the policy itself, so that a shaped distribution would be wrong."""
        return self.credit != "raft" or self.needs_old or self.needs_engine or self.kl != "none"


@dataclass(frozen=True)
class RFT(Objective):
    """Rejection sampling fine-tuning: the mean over the tokens of right responses, as `SFTModule` learns them."""

    credit: CreditName = "raft"
    keep: KeepName = "positive"
    drop_copies: bool = True
    denominator: DenominatorName = "trained"


@dataclass(frozen=True)
class RAFTPlusPlus(Objective):
    """Right responses only, with PPO's clip (RAFT++, arXiv:2504.11343)."""

    credit: CreditName = "raft"
    keep: KeepName = "positive"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class REINFORCE(Objective):
    """The reward as advantage, with PPO's clip (arXiv:2504.11343)."""

    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class ReinforceRej(REINFORCE):
    """REINFORCE without problems whose responses are all right or all wrong (arXiv:2504.11343)."""

    keep: KeepName = "mixed"


@dataclass(frozen=True)
class RLOO(Objective):
    """Every response against the mean of the others (arXiv:2402.14740), with PPO's clip."""

    credit: CreditName = "rloo"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class GRPO(Objective):
    """Rewards normalised within the group, rows averaged (arXiv:2402.03300); the paper adds kl k3 x .04."""

    credit: CreditName = "group_norm"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"
    aggregation: AggregationName = "sequence"


@dataclass(frozen=True)
class DrGRPO(Objective):
    """GRPO without its divisions by the deviation and by the length (arXiv:2503.20783).

    `constant_length` must be given, the longest response that may be sampled.
    """

    credit: CreditName = "mean"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"
    aggregation: AggregationName = "constant"


@dataclass(frozen=True)
class DAPO(Objective):
    """Higher upper bound, token mean, problems that teach nothing replaced (arXiv:2503.14476).

    Its soft overlong punishment is `overlong_limit` and `overlong_buffer` (20480 and 4096 in the paper).
    """

    credit: CreditName = "group_norm"
    keep: KeepName = "mixed"
    refill: int = 10
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"
    clip_high: float = 0.28


@dataclass(frozen=True)
class GSPO(GRPO):
    """GRPO whose ratio is the geometric mean over a response (arXiv:2507.18071)."""

    ratio: RatioName = "sequence"
    clip_low: float = 3e-4
    clip_high: float = 4e-4


@dataclass(frozen=True)
class CISPO(Objective):
    """Clamped, detached ratios (MiniMax-M1, arXiv:2506.13585) in the setting of ScaleRL (arXiv:2510.13786)."""

    credit: CreditName = "batch_norm"
    keep: KeepName = "mixed"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "cispo"
    aggregation: AggregationName = "problem"


@dataclass(frozen=True)
class ReinforcePlusPlus(Objective):
    """Rewards centred in the group and whitened over all tokens (REINFORCE++ with baseline, arXiv:2501.03262)."""

    credit: CreditName = "whiten"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class MaxRL(Objective):
    """Rewards over the group's mean: towards maximum likelihood of a right answer (arXiv:2602.02710)."""

    credit: CreditName = "maxrl"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class NSR(Objective):
    """Wrong responses only (arXiv:2506.01347)."""

    credit: CreditName = "nsr"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class WeightedReinforce(Objective):
    """Right responses count a tenth of wrong ones (W-REINFORCE, arXiv:2506.01347)."""

    credit: CreditName = "weighted"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class PassK(Objective):
    """Pass@k as the reward of a group (arXiv:2508.10751)."""

    credit: CreditName = "passk"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "clip"


@dataclass(frozen=True)
class OPO(Objective):
    """The baseline of least variance, on policy (arXiv:2505.23585)."""

    credit: CreditName = "opo"


@dataclass(frozen=True)
class SAPO(GRPO):
    """GRPO with a smooth gate in place of the clip (arXiv:2511.20347)."""

    trust_region: TrustRegionName = "sapo"


@dataclass(frozen=True)
class GMPO(GRPO):
    """GRPO with the geometric mean of clipped ratios (arXiv:2507.20673)."""

    ratio: RatioName = "token"
    trust_region: TrustRegionName = "gmpo"
    clip_low: float = 0.4
    clip_high: float = 0.4


@dataclass(frozen=True)
class VESPO(Objective):
    """Responses weighted by a smooth function of their whole ratio (arXiv:2602.10693)."""

    credit: CreditName = "group_norm"
    ratio: RatioName = "token"
    trust_region: TrustRegionName = "vespo"


@dataclass(frozen=True)
class DPPO(Objective):
    """Ratios to the engine, tokens left out by difference of probability (arXiv:2602.04879; prime-rl's default)."""

    credit: CreditName = "mean"
    trust_region: TrustRegionName = "dppo"


@dataclass(frozen=True)
class Kimi(Objective):
    """Policy mirror descent (Kimi k1.5, arXiv:2501.12599): bears many steps on one iteration's rollouts."""

    credit: CreditName = "mean"
    trust_region: TrustRegionName = "pmd"
    aggregation: AggregationName = "sequence"


PRESETS: tuple[type[Objective], ...] = (
    RFT, RAFTPlusPlus, REINFORCE, ReinforceRej, RLOO, GRPO, DrGRPO, DAPO, GSPO, CISPO, ReinforcePlusPlus, MaxRL, NSR,
    WeightedReinforce, PassK, OPO, SAPO, GMPO, VESPO, DPPO, Kimi,
)  # fmt: skip
"""The published methods, by class."""
