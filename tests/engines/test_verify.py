"""A proof that holds for synced engines, and fails for each way in which an engine can be stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines import EngineConfig, HFEngine, StaleEngineError, VLLMEngine, open_engine, verify_sync
from harness.engines.isolation import VLLM_GROUP
from harness.errors import InputError
from harness.models.fp8 import rounded_to_fp8
from harness.models.weights import fingerprint, model_version, named_weights
from harness.protocols import Engine
from tests.engines.conftest import CONFIG, build_model, build_tokenizer, need_vllm, prompt, save
from tests.families.zoo import build

PROMPTS = [prompt(5), prompt(9, seed=1), prompt(40)]


def shifted(scale: float = 0.05) -> Any:
    model = build_model(tied=True)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def synced_back(engine: Engine):
    yield engine
    engine.sync(named_weights(build_model(tied=True)), "original")


def test_a_synced_engine_is_proven_with_a_prompt_longer_than_a_cache_block(synced_back: Engine):
    model = shifted()
    version = fingerprint(named_weights(model))
    synced_back.sync(named_weights(model), version)
    proof = verify_sync(synced_back, model.train(), PROMPTS, version)
    assert proof.version == version
    assert proof.num_prompts == 4
    assert proof.longest_prompt == 160
    assert 4 <= proof.num_tokens <= 64
    assert proof.max_error < 1e-5
    assert model.training


def test_an_engine_of_another_version_is_stale(engine: Engine):
    with pytest.raises(StaleEngineError, match=r"holds weights '.*', expected are 'other'"):
        verify_sync(engine, build_model(tied=True), PROMPTS, "other")


def test_an_engine_that_kept_its_old_weights_is_stale(engine: Engine):
    with pytest.raises(StaleEngineError, match="nats per token"):
        verify_sync(engine, shifted(0.003), PROMPTS, engine.version)


def test_an_engine_that_did_not_move_with_the_model_is_stale_however_small_the_step(synced_back: Engine):
    """The new weights' log-probabilities are within the tolerance of the old ones'."""
    before = verify_sync(synced_back, build_model(tied=True), PROMPTS, synced_back.version)
    model = shifted(1e-5)
    synced_back.version = "new"
    verify_sync(synced_back, model, PROMPTS, "new")
    with pytest.raises(StaleEngineError, match=r"answers as it did .* have moved by 0 nats"):
        verify_sync(synced_back, model, PROMPTS, "new", before=before)
    synced_back.sync(named_weights(model), "new")
    assert verify_sync(synced_back, model, PROMPTS, "new", before=before).max_error < 1e-5


def test_weights_that_round_to_the_old_ones_need_not_move(synced_back: Engine):
    model = build_model(tied=True)
    before = verify_sync(synced_back, model, PROMPTS, synced_back.version)
    synced_back.version = "the same by another name"
    verify_sync(synced_back, model, PROMPTS, synced_back.version, before=before)


def test_the_tolerance_follows_the_number_formats_in_use(engine: Engine):
    model = build_model(tied=True)
    assert engine.dtype == "float32"  # what the checkpoint is stored in, or what was asked for
    assert verify_sync(engine, model, PROMPTS, engine.version).tolerance == 1e-3
    half = HFEngine.from_model(build_model(tied=True).bfloat16(), build_tokenizer(), version="half")
    assert half.dtype == "bfloat16"
    proof = verify_sync(half, model, PROMPTS, "half")
    assert proof.max_error < proof.tolerance
    assert 0.05 < proof.tolerance < 0.3
    with pytest.raises(StaleEngineError, match=r"accepted: 0\.\d"):
        verify_sync(half, shifted(0.1), PROMPTS, "half")


def test_a_checkpoint_in_float32_gets_the_tolerance_of_float32_under_dtype_auto(checkpoint: Path):
    opened = open_engine(checkpoint, EngineConfig(kind="transformers"))
    assert verify_sync(opened, build_model(tied=True), PROMPTS, opened.version).tolerance == 1e-3
    opened.close()


def test_a_model_that_gives_nan_is_no_proof(engine: Engine):
    model = build_model(tied=True)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(StaleEngineError, match="nan"):
        verify_sync(engine, model, PROMPTS, engine.version)


def reload_raw(engine: VLLMEngine, weights: list[tuple[str, torch.Tensor]]) -> None:
    """What vLLM alone does with new weights."""
    with VLLM_GROUP.entered():
        engine._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})


@pytest.mark.vllm
def test_values_of_earlier_weights_in_the_prefix_cache_are_found_out(vllm_engine: VLLMEngine):
    model = shifted()
    verify_sync(vllm_engine, build_model(tied=True), PROMPTS, vllm_engine.version)
    reload_raw(vllm_engine, list(named_weights(model)))
    with pytest.raises(StaleEngineError, match="prompt of 160 tokens"):
        verify_sync(vllm_engine, model, PROMPTS, vllm_engine.version)
    vllm_engine.sync(named_weights(build_model(tied=True)), "original")
    verify_sync(vllm_engine, build_model(tied=True), PROMPTS, "original")


@pytest.mark.vllm
def test_a_stale_tied_head_is_found_out(vllm_engine: VLLMEngine):
    model = shifted()
    reload_raw(vllm_engine, [pair for pair in named_weights(model) if pair[0] != "lm_head.weight"])
    vllm_engine._engine.reset_prefix_cache()
    with pytest.raises(StaleEngineError, match="nats per token"):
        verify_sync(vllm_engine, model, PROMPTS, vllm_engine.version)
    vllm_engine.sync(named_weights(build_model(tied=True)), "original")
    verify_sync(vllm_engine, build_model(tied=True), PROMPTS, "original")


@pytest.mark.vllm
def test_an_engine_in_eight_bits_is_proven_within_what_rounding_to_them_does(tmp_path: Path):
    need_vllm()
    model = build("llama")
    engine = open_engine(save(model, tmp_path), replace(CONFIG, dtype="fp8"))
    try:
        assert (engine.dtype, engine.name.endswith(" fp8")) == ("fp8", True)
        proof = verify_sync(engine, model, PROMPTS, model_version(model))
        assert 5e-3 < proof.max_error < proof.tolerance < 0.3
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        ids = torch.randint(0, 95, (4, 24), generator=torch.Generator().manual_seed(0))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        old, engine.version = engine.version, model_version(model)
        with pytest.raises(StaleEngineError, match="answers as it did"):
            verify_sync(engine, model, PROMPTS, engine.version, before=proof)
        engine.version = old
        engine.sync(named_weights(model), model_version(model))
        verify_sync(engine, model, PROMPTS, model_version(model), before=proof)
    finally:
        engine.close()


@pytest.mark.vllm
def test_the_eight_bits_are_vllms():
    need_vllm()
    from vllm.model_executor.layers.quantization.online.fp8 import _fp8_channel_scale, _fp8_quant_per_channel

    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    scale = _fp8_channel_scale(weight.abs().amax(-1, keepdim=True))
    expected = _fp8_quant_per_channel(weight, scale).float() * scale
    torch.testing.assert_close(rounded_to_fp8(weight), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.vllm
def test_eight_bits_are_refused_where_the_device_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    need_vllm()
    from vllm.platforms import current_platform

    from harness.engines.vllm import _check_fp8

    folder = save(build("mixtral"), tmp_path)
    with pytest.raises(InputError, match=r"dtype is fp8, which vLLM's CPU build lacks for experts; choose bfloat16\.$"):
        open_engine(folder, replace(CONFIG, dtype="fp8"))
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    monkeypatch.setattr(current_platform, "is_cuda", lambda: True)
    monkeypatch.setattr(current_platform, "get_device_name", lambda: "Tesla T4", raising=False)
    with pytest.raises(InputError, match=r"compute capability 8.9, more than that of Tesla T4"):
        _check_fp8(has_experts=False)
