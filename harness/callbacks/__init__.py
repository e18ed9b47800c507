"""Where Lightning meets the loop of rollouts."""

from __future__ import annotations

from typing import Any

from harness.callbacks.checkpoint import HFCheckpoint
from harness.callbacks.contamination import ContaminationCheck
from harness.callbacks.divergence import StopOnDivergence
from harness.callbacks.heartbeat import Heartbeat
from harness.callbacks.held_out_accuracy import HeldOutAccuracy
from harness.callbacks.lineage import WandbLineage
from harness.callbacks.restart import Restart
from harness.callbacks.rollout import RolloutCallback
from harness.moved import moved_attribute

__all__ = [
    "ContaminationCheck",
    "HFCheckpoint",
    "Heartbeat",
    "HeldOutAccuracy",
    "Restart",
    "RolloutCallback",
    "StopOnDivergence",
    "WandbLineage",
]


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
