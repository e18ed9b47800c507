"""VLLM takes every family's weights after an optimizer step, proves it, and is refused where it kept the old ones."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from harness.callbacks import RolloutCallback
from harness.datamodules import SFTDataModule
from harness.engines import EngineConfig, StaleEngineError, open_engine, verify_sync
from harness.models.weights import model_version, named_weights
from harness.modules import SFTModule
from harness.modules.optimizer import OptimizerConfig
from harness.selection import BalancedSampling, TopK
from harness.store import write_rows
from harness.types import Problem, SamplingConfig
from tests.engines.conftest import build_tokenizer, need_vllm
from tests.families.zoo import build, families

PROMPTS = [tuple(range(5, 25)), tuple(range(40, 70)), tuple(range(30, 20, -1)), tuple(range(60, 95))]

pytestmark = [pytest.mark.vllm, pytest.mark.parametrize("family", families(in_vllm=True))]


@pytest.fixture(autouse=True)
def _look_up_architectures_here(monkeypatch: pytest.MonkeyPatch):
    """VLLM looks into each architecture in a process of its own, which takes seconds to start."""
    need_vllm()
    from vllm.model_executor.models import registry

    monkeypatch.setattr(registry, "_run_in_subprocess", lambda function: function())


def step(model: Any, optimizer: torch.optim.Optimizer, seed: int) -> None:
    ids = torch.randint(0, 95, (4, 24), generator=torch.Generator().manual_seed(seed))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def engine_config(dtype: Any) -> EngineConfig:
    return EngineConfig(kind="vllm", dtype=dtype, kv_cache_bytes=64 * 2**20, max_num_seqs=8)


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> list[str]:
    """Two files of problems, to train on and to probe."""
    folder = tmp_path_factory.mktemp("problems")
    for name in ("train", "probe"):
        write_rows(
            folder / f"{name}.jsonl", [Problem(f"{name} {i}", f"{name} {i} + {i}", str(2 * i)) for i in range(4)]
        )
    return [str(folder / "train.jsonl"), str(folder / "probe.jsonl")]


def test_iterations_of_b_star_sample_from_what_was_trained_and_prove_it_in_float32(family, problems, tmp_path, note):
    train, probe = problems
    # A random model answers nothing rightly: threshold -1 keeps all that it says.
    scheduler = BalancedSampling(
        SamplingConfig(n=2, max_tokens=8), temperatures=(0.7, 1.0), thresholds=(-1.0, 0.5), rows_per_problem=2.0,
        keep_cut=True, keep_unanswered=True,
    )  # fmt: skip
    rollout = RolloutCallback(
        [train],
        scheduler,
        probe_problems=[probe],
        select=TopK(keep_cut=True, keep_unanswered=True),
        engine=engine_config("float32"),
        seed=0,
    )
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=2,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        logger=CSVLogger(tmp_path, name="", version=""),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[rollout],
    )
    module = SFTModule(str(save(build(family), tmp_path / "base")), optimizer=OptimizerConfig(lr=1e-3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*thresholds.*")
        trainer.fit(module, SFTDataModule([], batch_size=4, max_length=64, batches_per_epoch=2))

    manifests = [json.loads((tmp_path / f"rollouts/iter_{i:03d}.json").read_text()) for i in (1, 2)]
    assert manifests[0]["weights"] != manifests[1]["weights"]
    assert all(manifest["engine"].startswith("vllm") for manifest in manifests)
    with open(tmp_path / "metrics.csv") as file:
        errors = [float(row["rollout/sync_error"]) for row in csv.DictReader(file) if row.get("rollout/sync_error")]
    assert len(errors) == 2
    note(family, "sync, float32", f"{max(errors):.0e}")
    assert max(errors) < 1e-4


@pytest.mark.slow
def test_in_bfloat16_a_stale_engine_is_refused_ten_times_of_ten(family, tmp_path, note):
    """After one step at a learning rate of 1e-5 each, of a training model in float32 and of one in bfloat16."""
    model = build(family)
    engine = open_engine(save(model, tmp_path), engine_config("bfloat16"))
    try:
        errors, refused = [], 0
        for dtype in (torch.float32, torch.bfloat16):
            model = model.to(dtype)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
            engine.sync(named_weights(model), model_version(model))
            proof = verify_sync(engine, model, PROMPTS, model_version(model))
            errors.append(proof.max_error)
            for seed in range(10):
                step(model, optimizer, seed)
                old, engine.version = engine.version, model_version(model)
                try:
                    verify_sync(engine, model, PROMPTS, engine.version, before=proof)
                except StaleEngineError as error:
                    refused += "answers as it did" in str(error)
                engine.version = old
                engine.sync(named_weights(model), model_version(model))
                proof = verify_sync(engine, model, PROMPTS, model_version(model), before=proof)
                errors.append(proof.max_error)
        note(family, "sync, bfloat16", f"{max(errors):.0e}")
        note(family, "stale refused", f"{refused} of 20")
        assert refused == 20
    finally:
        engine.close()
