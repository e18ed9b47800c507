"""A small loop of self-improvement on a real Trainer."""

from pathlib import Path

from lightning import Trainer
from lightning.pytorch import seed_everything

from harness.callbacks import HeldOutAccuracy, HFCheckpoint, RolloutCallback
from harness.datamodules import SFTDataModule
from harness.engines import EngineConfig
from harness.modules import SFTModule
from harness.modules.optimizer import OptimizerConfig
from harness.selection import FixedSampling, TopK
from harness.types import SamplingConfig

NUM_STEPS = 3
"""Optimizer steps in an iteration."""


def run(
    folder,
    data,
    *extra,
    max_epochs=2,
    max_steps=-1,
    scheduler=None,
    resume=False,
    tokenizer=None,
    logger=False,
    **options,
):
    """Two iterations of three steps on a random model that keeps whatever it samples."""
    seed_everything(0)
    # Threshold -1: rewards are 0 or 1, so all responses are kept, right or wrong.
    scheduler = scheduler or FixedSampling(SamplingConfig(n=2, max_tokens=8), -1.0)
    rollout = RolloutCallback(
        scheduler=scheduler,
        template="arithmetic",
        probe_problems=[str(data / "probe.jsonl")],
        **{
            "engine": EngineConfig(kind="transformers", dtype="float32"),
            "problems": [str(data / "train.jsonl")],
            "evaluation": HeldOutAccuracy([str(data / "test.jsonl")], max_tokens=8),
            "select": TopK(keep_cut=True, keep_unanswered=True),
            **options,
        },
    )
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=max_epochs,
        max_steps=max_steps,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*extra, HFCheckpoint(dirpath=Path(folder) / "checkpoints"), rollout],
    )
    module = SFTModule(str(data / "base"), attn_implementation="eager", optimizer=OptimizerConfig(lr=1e-3))
    datamodule = SFTDataModule(
        [], template="arithmetic", batch_size=2, max_length=64, batches_per_epoch=NUM_STEPS, tokenizer=tokenizer
    )
    last = Path(folder) / "checkpoints/last.ckpt"
    trainer.fit(module, datamodule, ckpt_path=last if resume else None)
    return trainer, module
