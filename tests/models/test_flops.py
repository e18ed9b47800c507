"""The operations that training needs are those that torch counts."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from harness.models.flops import attended_pairs, peak_flops, training_flops

T = 96


def build(**options):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=160, attn_implementation="eager", **options,
        )
    )  # fmt: skip


@pytest.mark.parametrize("options", [{"tie_word_embeddings": True}, {"tie_word_embeddings": False}, {"head_dim": 32}])
def test_they_are_what_torch_counts_of_a_whole_step(options):
    model = build(**options)
    token, pair = training_flops(model)
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(T)[None]).logits.sum().backward()
    # Torch's eager attention computes all T x T pairs, those of tokens with later ones too.
    assert counter.get_total_flops() == pytest.approx(token * T + pair * T * T, rel=0.01)


def test_frozen_weights_need_no_gradient_and_experts_are_not_guessed():
    model = build()
    whole = training_flops(model)[0]
    frozen = model.model.layers[0].mlp.up_proj.weight.requires_grad_(False).numel()
    assert training_flops(model)[0] == whole - 2 * frozen
    model.config.num_local_experts = 4
    assert training_flops(model) is None
    assert peak_flops(torch.device("cpu")) is None


def test_reward_models_and_low_rank_updates_have_theirs():
    config = build().config
    scorer = LlamaForSequenceClassification(config)
    inner = sum(p.numel() for p in scorer.parameters()) - scorer.get_input_embeddings().weight.numel()
    assert training_flops(scorer)[0] == 6 * inner
    adapted = get_peft_model(build(), LoraConfig(r=2, target_modules="all-linear"))
    assert 4 < training_flops(adapted)[0] / (training_flops(build())[0] / 6) < 5


def test_pairs_are_those_of_each_sequence_alone():
    is_token = torch.tensor([[True] * 3, [True, True, False]])
    assert attended_pairs({"is_token": is_token}) == 6 + 3
    assert attended_pairs({"is_token": is_token, "lengths": torch.tensor([4, 1])}) == 10 + 1
    packed = {"is_token": torch.tensor([[True] * 5 + [False]]), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}
    assert attended_pairs(packed) == 6 + 3
