"""Fixtures that many tests share: a small tokenizer and small random models, made here."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


def build_tiny_tokenizer():
    """Character-level, with BOS before every prompt; padding is EOS, as with many base models."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<bos>", "<eos>", *"\n 0123456789+-*/=?#.:;,()<>|_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")


def build_tiny_model(seed: int = 0, tied: bool = True):
    """Two layers, 32 wide, random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    # Not Qwen2: transformers opens any tokenizer beside a Qwen2 config as Qwen's own.
    config = LlamaConfig(
        vocab_size=88,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return build_tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory, tiny_tokenizer) -> Path:
    """A checkpoint directory of a random causal language model; do not write into it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny_model().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
