"""Run by the tests as a script, once for each rank: fits several modules one after another.

Argument: a JSON object with the strategy (one, ddp, fsdp, hsdp, bf16) and the jobs, each {kind, model, data, out, stop,
resume}.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger

from harness.callbacks.checkpoint import HFCheckpoint
from harness.cli.training import end_parallel_process
from harness.datamodules import PolicyDataModule, PreferenceDataModule, SFTDataModule, base
from harness.models import token_stats
from harness.models.weights import named_weights
from harness.modules import DPOModule, PolicyGradientModule, RewardModule, SFTModule
from harness.modules.optimizer import OptimizerConfig
from harness.objectives import GRPO
from harness.strategies import FSDP2Strategy

# All that an iteration's rows and a step's tokens are reduced over ranks for: old and reference log-probabilities, an
# engine correction, a coefficient that follows the entropy, maxima.
OBJECTIVE = GRPO(
    correction="token_truncate", correction_high=1.02, kl="k3_ratio", kl_coefficient=0.1, entropy="adaptive",
    entropy_target=9.0,
)  # fmt: skip
MODULES = {
    "sft": SFTModule,
    "reward": RewardModule,
    "hybrid": functools.partial(RewardModule, likelihood="sum"),
    "dpo": DPOModule,
    "policy": functools.partial(PolicyGradientModule, objective=OBJECTIVE),
}
DEVICES = {"one": 1, "hsdp": 4}
"""Ranks of a strategy, where there are not two."""


class Gradients(L.Callback):
    """Keeps the full gradients of every optimizer step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        grads = {}
        for name, parameter in module.named_parameters():
            grad = parameter.grad
            grads[name] = (grad.full_tensor() if hasattr(grad, "full_tensor") else grad).clone()
        self.steps.append(grads)


def fit(strategy, kind, model, data, out, stop=False, resume=None):
    torch.manual_seed(0)
    devices = DEVICES.get(strategy, 2)
    options = {"hsdp": {"shard_size": 2}, "bf16": {"param_dtype": "bfloat16"}}
    kinds = {"one": "auto", "ddp": "ddp"}
    module = MODULES[kind](model, optimizer=OptimizerConfig(lr=1e-3, schedule="linear", total_steps=12))
    rows = {"group": "prompt"} if kind == "hybrid" else {}
    rows |= {"batch_size": 4 // devices, "max_length": 64}
    if kind == "policy":
        datamodule = PolicyDataModule([data], **rows)
    else:
        rows |= {"val_files": [data], "val_batch_size": 3}
        datamodule = (SFTDataModule if kind == "sft" else PreferenceDataModule)([data], **rows)
    gradients = Gradients()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=kinds.get(strategy) or FSDP2Strategy(**options.get(strategy, {})),
        accumulate_grad_batches=2,
        max_epochs=2,
        gradient_clip_val=1.0,
        max_steps=3 if stop else -1,
        callbacks=[gradients, HFCheckpoint(dirpath=Path(out) / "checkpoints", every_n_train_steps=2)],
        default_root_dir=out,
        logger=CSVLogger(Path(out) / "logs"),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule, ckpt_path=resume)
    weights = {name: tensor.clone() for name, tensor in named_weights(module.model)}
    if trainer.is_global_zero:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        torch.save({"steps": gradients.steps, "weights": weights, "metrics": metrics}, Path(out) / "result.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    request = json.loads(sys.argv[1])
    if request["strategy"] != "one":
        # Two ranks apply the head in tiles of 3 tokens and 20 words, one rank to all at once; and they map tokenised
        # rows.
        base.CACHED_BYTES = 0
        token_stats.TILE_ELEMENTS["cpu"], token_stats.TILE_TOKENS["cpu"] = 60, 3
    for job in request["jobs"]:
        fit(request["strategy"], **job)
    end_parallel_process()
