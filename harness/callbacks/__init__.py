"""Where Lightning meets the loop of rollouts."""

from harness.callbacks.checkpoint import HFCheckpoint
from harness.callbacks.contamination import ContaminationCheck
from harness.callbacks.evaluation import Evaluation
from harness.callbacks.restart import Restart
from harness.callbacks.rollout import RolloutCallback

__all__ = ["ContaminationCheck", "Evaluation", "HFCheckpoint", "Restart", "RolloutCallback"]
