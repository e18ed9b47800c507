"""Dropout is off where two passes are compared, on in supervised fine-tuning, and said to be so."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM, SeedOssConfig, SeedOssForCausalLM

from harness.models.dropout import dropout_rates, switch_off_dropout
from harness.models.weights import save_checkpoint
from harness.modules import DPOModule, RewardModule, SFTModule
from harness.modules.base import LoRAConfig
from harness.modules.reference import without_adapter

SIZE = {"vocab_size": 88, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "eos_token_id": 1}
IDS = torch.arange(2, 22)[None]


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**SIZE, bos_token_id=0))


@pytest.fixture
def checkpoint(tmp_path, tiny_tokenizer):
    save_checkpoint(gpt2(), tiny_tokenizer, tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        gpt2(),
        OPTForCausalLM(OPTConfig(**SIZE, ffn_dim=16, word_embed_proj_dim=16, dropout=0.1)),
        SeedOssForCausalLM(
            SeedOssConfig(
                **SIZE,
                num_key_value_heads=2,
                intermediate_size=16,
                attention_dropout=0.2,
                residual_dropout=0.1,
                head_dim=8,
            )
        ),
    ],
    ids=["modules", "attributes", "both"],
)
def test_switched_off_a_model_in_train_mode_computes_what_it_does_in_eval_mode(model):
    model.train()
    assert max(dropout_rates(model).values()) >= 0.1
    with torch.no_grad():
        assert not torch.equal(model(IDS).logits, model(IDS).logits)
        switch_off_dropout(model)
        assert dropout_rates(model) == {}
        torch.testing.assert_close(model.train()(IDS).logits, model.eval()(IDS).logits)


def test_it_is_on_in_supervised_fine_tuning_alone_which_says_so(checkpoint, caplog):
    with caplog.at_level(logging.INFO):
        module = SFTModule(checkpoint)
        module.configure_model()
    assert dropout_rates(module.model) == {"drop": 0.1, "attn_dropout": 0.1, "resid_dropout": 0.1, "dropout": 0.1}
    assert "training with dropout" in caplog.text
    for made in (SFTModule(checkpoint, dropout=False), DPOModule(checkpoint), RewardModule(checkpoint)):
        made.configure_model()
        assert dropout_rates(made.model) == {}
    asked = DPOModule(checkpoint, dropout=True)
    asked.configure_model()
    assert dropout_rates(asked.model)


def test_the_reference_without_its_adapter_never_drops_out(checkpoint):
    module = DPOModule(checkpoint, dropout=True, lora=LoRAConfig(rank=2, dropout=0.5))
    module.configure_model()
    module.model.train()
    with torch.no_grad():
        with without_adapter(module.model) as model:
            assert torch.equal(model(IDS).logits, model(IDS).logits)
        assert module.model.training
        assert not torch.equal(module.model(IDS).logits, module.model(IDS).logits)


def test_the_saved_configuration_keeps_its_rates(checkpoint, tmp_path, tiny_tokenizer):
    module = DPOModule(checkpoint)
    module.configure_model()
    save_checkpoint(module.model, tiny_tokenizer, tmp_path / "again")
    assert GPT2LMHeadModel.from_pretrained(tmp_path / "again").config.resid_pdrop == 0.1
