"""What policy gradients learn from rollouts: choices that combine freely, and published methods as rows of them."""

from harness.objectives.objective import (
    CISPO,
    DAPO,
    DPPO,
    GMPO,
    GRPO,
    GSPO,
    NSR,
    OPO,
    PRESETS,
    REINFORCE,
    RFT,
    RLOO,
    SAPO,
    VESPO,
    DrGRPO,
    Kimi,
    MaxRL,
    Objective,
    PassK,
    RAFTPlusPlus,
    ReinforcePlusPlus,
    ReinforceRej,
    WeightedReinforce,
)

__all__ = [
    "CISPO", "DAPO", "DPPO", "GMPO", "GRPO", "GSPO", "NSR", "OPO", "PRESETS", "REINFORCE", "RFT", "RLOO", "SAPO",
    "VESPO", "DrGRPO", "Kimi", "MaxRL", "Objective", "PassK", "RAFTPlusPlus", "ReinforcePlusPlus", "ReinforceRej",
    "WeightedReinforce",
]  # fmt: skip
