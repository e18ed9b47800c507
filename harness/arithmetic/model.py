"""The tokenizer and the small model of the built-in task, both made from nothing."""

from __future__ import annotations

import math
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.arithmetic.code import CODE_WORDS
from harness.arithmetic.problems import MAX_VALUE

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
WORDS = [*map(str, range(MAX_VALUE + 1)), " + ", " - ", " * ", " ?", "\n", "#### "]
CONTEXT = 256
LOOK_BACK = (1, 2, 3, 4)
"""How many tokens back each head of the first layer looks at the start."""


def build_tokenizer(code: bool = False) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one token per number and sign, and decoding gives the text back exactly.

    The vocabulary holds `<pad>`, `<bos>` (put before every prompt), `<eos>`, the numbers 0 to 50 and six signs; with
    `code` also the words of programs (`harness.arithmetic.code`). A number above 50 has no token; it becomes `<pad>`,
    which no solution contains.
    """
    vocabulary = {word: index for index, word in enumerate([PAD, BOS, EOS, *WORDS, *(CODE_WORDS if code else ())])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    words = r" [+*=-] | \?|\n|# |<[a-z_]+>|print\(|\\boxed\{|\d+|." if code else r" [+*-] | \?|\n|#### |\d+|."
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(words), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(
    tokenizer: Any, seed: int = 0, hidden_size: int = 128, num_layers: int = 3, num_heads: int = 4
) -> LlamaForCausalLM:
    """A model of about 0.65 M parameters with random weights, prepared by `prepare_attention`.

    Llama with attention biases, which is Qwen2 but for one more (zero) bias on the attention output. It is not stored
    as Qwen2 because transformers 5.19 opens every tokenizer beside a Qwen2 config as Qwen's own byte-level one.
    """
    config = LlamaConfig(
        attention_bias=True,
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        intermediate_size=3 * hidden_size,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    prepare_attention(model, seed)
    return model


@torch.no_grad()
def prepare_attention(
    model: LlamaForCausalLM, seed: int, bias: float = 5.0, match: float = 1.0, copy: float = 0.7
) -> None:
    """Start the attention close to what trained models show, so that copying is learnt in seconds and not in hours.

    Each head copies its own random subspace of the residual stream (value-output products near a projection, of
    strength `copy`). The heads of the first layer look a fixed number of tokens back (through constant query and key
    biases under the rotary embedding, of strength `bias`); later heads look at tokens of equal content (query-key
    products near the identity on the slowly rotating dimensions, of strength `match`). In the spirit of "Mimetic
    Initialization of Self-Attention Layers" (Trockman and Kolter, arXiv:2305.09828).
    """
    config = model.config
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    half = width // 2
    frequencies = 10000.0 ** (-torch.arange(half) / half)
    slow = torch.arange(half)[frequencies < 0.1]
    slow = torch.cat([slow, slow + half])
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size, generator=generator))
    subspaces = basis.split(width)
    for depth, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        for head in range(heads):
            rows = slice(head * width, (head + 1) * width)
            attention.v_proj.weight[rows] += math.sqrt(copy) * subspaces[head]
            attention.o_proj.weight[:, rows] += math.sqrt(copy) * subspaces[head].T
            if depth == 0:
                back = LOOK_BACK[head % len(LOOK_BACK)] * frequencies
                attention.k_proj.weight[rows] *= 0.3
                attention.q_proj.weight[rows] *= 0.3
                attention.k_proj.bias[rows][:half] = bias
                attention.q_proj.bias[rows] = bias * torch.cat([torch.cos(back), -torch.sin(back)])
            else:
                matcher = torch.zeros(width, config.hidden_size)
                matcher[slow] = subspaces[head if depth > 1 else head % 2][: len(slow)]
                attention.q_proj.weight[rows] += match * matcher
                attention.k_proj.weight[rows] += match * matcher
