"""Where a device's memory goes, at the start of a fit on CUDA, and what an engine may take beside the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from harness.engines.config import EngineConfig
from harness.engines.memory import weight_bytes
from harness.errors import InputError
from harness.ledger import Run, describe
from harness.models.checkpoints import stored_dtype, weights_directory
from harness.models.weights import DTYPES
from harness.modules.footprint import count_parameters
from harness.modules.optimizer import moment_bytes
from harness.rewards.model import RewardModel
from harness.strategies import FSDP2Strategy


class MemoryLedger(Callback):
    """Prints the ledger of `harness plan` at the start of a fit on CUDA, for the device at hand."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = trainer.strategy.root_device
        if device.type != "cuda" or not trainer.is_global_zero:
            return
        memory = torch.cuda.get_device_properties(device).total_memory
        try:
            run = run_of(trainer)
            rank_zero_info(f"{run.title}\n{describe(run.phases(memory), memory)}")
        except InputError as error:
            rank_zero_info(f"no ledger of the memory: {error}")


def run_of(trainer: Any) -> Run:
    """What a plan needs to know of a fit that is set up."""
    module, data = trainer.lightning_module, trainer.datamodule
    sampler = next((callback for callback in trainer.callbacks if hasattr(callback, "engine_config")), None)
    rewards = list(reward_models(getattr(sampler, "reward", None)))
    return Run(
        module=module,
        batch_size=data.batch_size,
        length=data.max_length,
        batches=data.batches_per_epoch,
        accumulate=trainer.accumulate_grad_batches,
        precision=str(trainer.precision),
        devices=trainer.num_devices,
        nodes=trainer.num_nodes,
        sharded=isinstance(trainer.strategy, FSDP2Strategy),
        shard_size=getattr(trainer.strategy, "shard_size", None),
        engine=getattr(sampler, "engine_config", None),
        reward=(rewards[0].checkpoint, rewards[0].dtype) if rewards else None,
    )


def reward_models(reward: object) -> Iterator[RewardModel]:
    """The reward models that a reward is made of."""
    if isinstance(reward, RewardModel):
        yield reward
    elif type(reward).__module__.startswith("harness."):
        for part in vars(reward).values():
            yield from reward_models(part)


def held_beside(module: Any, config: EngineConfig, reward: object) -> tuple[int, int]:
    """What this rank's device must hold beside an engine's cache, in bytes.

    Of the trainer that is what it holds between two steps, optimizer included, whether or not that exists already; and
    where the engine keeps its memory while training, all of a step.

    Returns:
        bytes of the trainer and the reward models; bytes of the engine's weights.
    """
    weights = list(module.model.parameters())
    trained = [_local(weight) for weight in weights if weight.requires_grad]
    held = sum(map(_local_bytes, weights))
    held += sum(moment_bytes(module.optimizer_config.name, weight) for weight in trained)
    held += sum(
        _local_bytes(weight) for other in getattr(module, "_reference_model", ()) for weight in other.parameters()
    )
    if not config.enable_sleep:
        held += sum(map(_local_bytes, trained)) + run_of(module.trainer).footprint.activations
    for model in reward_models(reward):
        held += count_parameters(model.checkpoint, scores=True) * DTYPES[model.dtype].itemsize
    kind = stored_dtype(Path(weights_directory(module.checkpoint))) if config.dtype == "auto" else config.dtype
    size = sum(weight.numel() for weight in weights) * weight_bytes(kind)
    return held, size // config.tensor_parallel_size


def _local(weight: Any) -> Tensor:
    return weight.to_local() if hasattr(weight, "to_local") else weight


def _local_bytes(weight: Tensor) -> int:
    local = _local(weight)
    return local.numel() * local.element_size()
