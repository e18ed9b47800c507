"""One small random model of each family that people use: two layers of width 128, as vLLM's CPU kernels allow it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.engines.conftest import build_tokenizer

CONTEXT = 320
COMMON = {
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.05,
    "bos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
LATENT = {  # multi-head latent attention, whose CPU kernel takes one size of cache alone
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "topk_group": 1,
}
ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@dataclass(frozen=True)
class Family:
    """How its small model is made, and what vLLM's CPU build cannot do with it."""

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    not_in_vllm: str = ""
    """Why the engine's tests leave the family out."""
    quick: bool = False
    """Whether the default suite takes it; the others are behind the marker `families`."""


FAMILIES: dict[str, Family] = {
    "llama": Family("llama"),
    "llama, tied, scaled rope": Family(
        "llama",
        {"tie_word_embeddings": True, "rope_parameters": {**ROPE, "original_max_position_embeddings": 64}},
        quick=True,
    ),
    "mistral": Family("mistral", {"sliding_window": 64}),
    "qwen2": Family("qwen2", {"tie_word_embeddings": True}),
    "qwen3": Family("qwen3", {"head_dim": 32}),
    "phi": Family("phi"),
    "phi3": Family("phi3"),
    "gemma": Family("gemma", {"head_dim": 32}),
    "gemma2": Family("gemma2", {"head_dim": 32, "sliding_window": 64, "query_pre_attn_scalar": 32}, quick=True),
    "gemma3": Family("gemma3_text", {"head_dim": 32, "sliding_window": 64, "query_pre_attn_scalar": 32}),
    "gpt2": Family("gpt2", {"n_inner": 160}),
    "gpt_neox": Family("gpt_neox", {"num_key_value_heads": 4}),
    "stablelm": Family("stablelm"),
    "exaone4": Family("exaone4", {"sliding_window": 64, "sliding_window_pattern": 2}),
    "glm4": Family("glm4", {"head_dim": 32}),
    "olmo2": Family("olmo2", quick=True),
    "smollm3": Family("smollm3"),
    "granite": Family("granite"),
    "cohere": Family("cohere"),
    "cohere2": Family("cohere2", {"head_dim": 32, "sliding_window": 64}, quick=True),
    "starcoder2": Family("starcoder2", {"sliding_window": None}),
    "falcon": Family("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 512}),
    "bloom": Family("bloom"),
    "opt": Family("opt", {"ffn_dim": 160, "word_embed_proj_dim": 128}),
    "nemotron": Family("nemotron"),
    "ernie4_5": Family("ernie4_5", {"head_dim": 32}),
    "hunyuan": Family("hunyuan_v1_dense", {"head_dim": 32}),
    "seed_oss": Family("seed_oss", {"head_dim": 32}),
    "mixtral": Family("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}, quick=True),
    "qwen2_moe": Family("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3_moe": Family("qwen3_moe", {**EXPERTS, "head_dim": 32}),
    "olmoe": Family("olmoe", EXPERTS),
    "granitemoe": Family("granitemoe", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gpt_oss": Family(
        "gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32, "sliding_window": 64}, quick=True
    ),
    "deepseek_v2": Family(
        "deepseek_v2",
        {
            **LATENT, "q_lora_rank": None, "qk_nope_head_dim": 32, "v_head_dim": 32, "n_group": 1,
            "topk_method": "greedy",
        },
        not_in_vllm="its latent attention on a CPU is 0.08 nats off transformers' even with the checkpoint as loaded",
    ),
    "deepseek_v3": Family(
        "deepseek_v3",
        {
            **LATENT, "q_lora_rank": 32, "qk_nope_head_dim": 128, "v_head_dim": 128, "n_group": 2,
            "topk_method": "noaux_tc",
        },
        not_in_vllm="its latent attention on a CPU is 0.04 nats off transformers' even with the checkpoint as loaded",
    ),
    "falcon_h1": Family(
        "falcon_h1",
        {
            "head_dim": 32, "mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_n_groups": 1,
            "mamba_d_state": 16,
        },
        not_in_vllm="state-space layers need prompts split over steps, which a CPU cannot do with seeds",
    ),
}  # fmt: skip


def build(name: str, seed: int = 0) -> Any:
    """The family's model in float32, in eval mode."""
    tokenizer = build_tokenizer()
    eos = tokenizer.eos_token_id
    words = {"vocab_size": len(tokenizer), "eos_token_id": eos, "pad_token_id": eos}
    config = AutoConfig.for_model(FAMILIES[name].model_type, **{**COMMON, **words, **FAMILIES[name].config})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).float().eval()


def families(*, in_vllm: bool) -> list[Any]:
    """The families' names as parameters of a test, of those that vLLM runs alone or of all."""
    return [
        pytest.param(name, marks=() if family.quick else pytest.mark.families)
        for name, family in FAMILIES.items()
        if not (in_vllm and family.not_in_vllm)
    ]
