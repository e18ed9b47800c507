"""A proof that holds for synced engines, and fails for each way in which an engine can be stale."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.engines import StaleEngineError, VLLMEngine, verify_sync
from harness.engines.isolation import VLLM_GROUP
from harness.models.weights import fingerprint, named_weights
from harness.protocols import Engine
from tests.engines.conftest import build_model, prompt

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
    reload_raw(vllm_engine, list(model.named_parameters()))
    vllm_engine._engine.reset_prefix_cache()
    with pytest.raises(StaleEngineError, match="nats per token"):
        verify_sync(vllm_engine, model, PROMPTS, vllm_engine.version)
    vllm_engine.sync(named_weights(build_model(tied=True)), "original")
    verify_sync(vllm_engine, build_model(tied=True), PROMPTS, "original")
