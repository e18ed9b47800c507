"""Ends every rank of a training run with one sentence once one of them is gone."""

from __future__ import annotations

import uuid
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from harness.ranks import Ranks


class Heartbeat(Callback):
    """Watches over the ranks of a run (`harness.ranks`); `harness fit` adds it by itself.

    Without it the others would wait in the next collective operation for its time-out, or for ever.
    """

    def __init__(self) -> None:
        self.ranks = Ranks()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        token = trainer.strategy.broadcast(uuid.uuid4().hex)
        store = torch.distributed.distributed_c10d._get_default_store()
        self.ranks = Ranks(
            trainer.global_rank, trainer.world_size, torch.distributed.PrefixStore(f"harness/{token}", store)
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.ranks.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.ranks.fail(exception)


def ranks_of(trainer: Any) -> Ranks:
    """The ranks of a run that has been set up.

    Raises:
        ValueError: several ranks without a `Heartbeat` before the callback that asks.
    """
    found = [callback for callback in trainer.callbacks if isinstance(callback, Heartbeat)]
    if not found and trainer.world_size > 1:
        raise ValueError("a Trainer of several ranks needs the callback harness.callbacks.Heartbeat, named first")
    return found[0].ranks if found else Ranks()
