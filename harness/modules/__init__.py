"""LightningModules: tensors in, loss out."""

from harness.modules.dpo import DPOModule
from harness.modules.kto import KTOModule
from harness.modules.policy_gradient import PolicyGradientModule
from harness.modules.process import ProcessRewardModule
from harness.modules.reward import RewardModule
from harness.modules.sft import SFTModule

__all__ = ["DPOModule", "KTOModule", "PolicyGradientModule", "ProcessRewardModule", "RewardModule", "SFTModule"]
