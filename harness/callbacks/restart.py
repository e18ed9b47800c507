"""What an iteration starts from: the weights and the optimizer state of the one before, or fresh ones."""

from __future__ import annotations

from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from harness.errors import InputError
from harness.models.checkpoints import check_checkpoint, weights_directory
from harness.models.shards import fill


class Restart(Callback):
    """At the start of every epoch reset the weights, the optimizer's state, or both.

    Rollouts are drawn before, by the policy as it was: STaR and ReST-EM sample from the newest policy, in the first
    iteration from the module's checkpoint, and retrain from the base model; Iterative RFT keeps the weights and takes a
    fresh optimizer. Without this callback both are inherited (Online RFT, B-STaR). A schedule per iteration is
    `optimizer.cycle_steps`. A run that resumes within an epoch goes on with the weights and the state it had.

    Args:
        weights: "previous", or the directory or hub id of the model that every iteration starts from, the first too.
        optimizer: "fresh" forgets the optimizer's moments, "inherit" keeps them.
    """

    def __init__(self, weights: str = "previous", optimizer: Literal["fresh", "inherit"] = "fresh") -> None:
        self.weights = weights if weights == "previous" else check_checkpoint(weights)
        self.optimizer = optimizer

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning calls this after the epoch's loader is built, which draws the rollouts, and not when a run resumes
        # within an epoch.
        module: Any = pl_module
        if self.weights != "previous":
            missing = fill(module.model, weights_directory(self.weights))
            if missing:
                raise InputError(f"{self.weights}: lacks weights of {type(module.model).__name__} ({missing[0]}, ...).")
        if self.optimizer == "fresh":
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
        rank_zero_info(
            f"epoch {trainer.current_epoch + 1} starts from {self.weights} weights, {self.optimizer} optimizer"
        )
