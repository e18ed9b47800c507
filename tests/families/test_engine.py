"""vLLM takes every family's weights after an optimizer step, proves it, and is refused where it kept the old ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines import EngineConfig, StaleEngineError, open_engine, verify_sync
from harness.models.weights import model_version, named_weights
from tests.engines.conftest import build_tokenizer, need_vllm
from tests.families.zoo import FAMILIES, build

PROMPTS = [tuple(range(5, 25)), tuple(range(40, 70)), tuple(range(30, 20, -1)), tuple(range(60, 95))]

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.parametrize(
        "family",
        [
            pytest.param(name, marks=() if family.quick else pytest.mark.families)
            for name, family in FAMILIES.items()
            if not family.not_in_vllm
        ],
    ),
]


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


def opened(model: Any, folder: Path, dtype: str) -> Any:
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return open_engine(folder, EngineConfig(kind="vllm", dtype=dtype, kv_cache_bytes=64 * 2**20, max_num_seqs=8))


def test_a_sync_after_a_step_is_proven_in_float32(family, tmp_path, note):
    model = build(family)
    engine = opened(model, tmp_path, "float32")
    try:
        assert engine.version == model_version(model)
        step(model, torch.optim.AdamW(model.parameters(), lr=1e-3), seed=0)
        with pytest.raises(StaleEngineError):
            verify_sync(engine, model, PROMPTS, engine.version)
        engine.sync(named_weights(model), model_version(model))
        error = verify_sync(engine, model, PROMPTS, model_version(model)).max_error
        note(family, "sync, float32", f"{error:.0e}")
        assert error < 1e-4
    finally:
        engine.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_in_bfloat16_a_stale_engine_is_refused_ten_times_of_ten(family, dtype, tmp_path, note):
    """After one step at a learning rate of 1e-5 each; `dtype` is the training model's."""
    model = build(family)
    engine = opened(model, tmp_path, "bfloat16")
    try:
        model = model.to(dtype)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        engine.sync(named_weights(model), model_version(model))
        proof = verify_sync(engine, model, PROMPTS, model_version(model))
        errors, refused = [proof.max_error], 0
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
        note(family, "stale refused", f"{refused} of 10")
        assert refused == 10
    finally:
        engine.close()
