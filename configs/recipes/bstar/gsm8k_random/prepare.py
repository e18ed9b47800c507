"""A random model and a few hundred real GSM8K problems: the loop on real data, with nothing learnt to build on.

    python configs/recipes/bstar/gsm8k_random/prepare.py TRAIN.jsonl.gz [--output runs/gsm8k_random/data]

TRAIN holds GSM8K's training problems (`problem` or `question`, `answer`, `solution`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.problems import read_problems
from harness.store import write_rows

SPLITS = {"train": 300, "probe": 40, "test": 60}


def train_tokenizer(texts: list[str], vocabulary: int = 2000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of these texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", model_max_length=1024
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/gsm8k_random/data"))
    options = parser.parse_args()
    problems = read_problems(options.train)
    start = 0
    for name, count in SPLITS.items():
        write_rows(options.output / f"{name}.jsonl", problems[start : start + count])
        start += count
    tokenizer = train_tokenizer([f"{problem.question}\n{problem.solution}" for problem in problems])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=384,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(options.output / "base")
    tokenizer.save_pretrained(options.output / "base")
    print(f"{options.output}: {SPLITS}, a random model with {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
