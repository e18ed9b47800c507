"""Stops a run that diverges before its next checkpoint replaces a good one."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from harness.errors import InputError


class StopOnDivergence(Callback):
    """Ends the run with a sentence when a logged number leaves its bounds.

    Numbers are looked at when they are logged, every `trainer.log_every_n_steps` steps, so before the checkpoint of the
    iteration is written: `--ckpt_path last` goes on from the iteration before. NaN is out of every bound.

    Args:
        most: name -> largest value, such as `{train/kl_old: 1.0, train/ratio_max: 1000}`.
        least: name -> smallest value, such as `{train/entropy: 0.02}`.
        patience: a number may be out of bounds so many times in a row before the run ends.
    """

    def __init__(
        self, most: dict[str, float] | None = None, least: dict[str, float] | None = None, patience: int = 2
    ) -> None:
        self.most, self.least, self.patience = most or {}, least or {}, patience
        if not self.most and not self.least:
            raise InputError("StopOnDivergence has no bounds; give `most` or `least`, such as {train/kl_old: 1.0}.")
        self._misses: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"misses": self._misses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._misses = state_dict["misses"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        logged = trainer.global_step > 0 and trainer.global_step % every == 0
        if not logged or not batch["ends_step"]:
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        unknown = (self.most.keys() | self.least.keys()) - found.keys()
        if unknown:
            raise InputError(
                f"StopOnDivergence watches {sorted(unknown)}, which this run does not log; it logs "
                f"{', '.join(sorted(found))}."
            )
        beyond = {name: f"above {most:g}" for name, most in self.most.items() if not found[name] <= most}
        beyond |= {name: f"below {least:g}" for name, least in self.least.items() if not found[name] >= least}
        self._misses = {name: self._misses.get(name, 0) + 1 for name in beyond}
        for name, how in beyond.items():
            if self._misses[name] > self.patience:
                raise InputError(
                    f"step {trainer.global_step}: {name} is {found[name]:.4g}, {how}, {self._misses[name]} times in a "
                    "row, so the run was stopped before its next checkpoint; go on from the last good one with "
                    "--ckpt_path last and fewer steps an iteration or a trust region, or (for another learning rate, "
                    "which a checkpoint keeps) in a new run from its model in `hf`."
                )
