"""A small model with a chat template that has learnt to think before it answers, for measurements of evaluations.

    python benchmarks/thinking_model.py --data DATA/math_train.jsonl.gz --output runs/thinking
    python benchmarks/eval_overhead.py --model runs/thinking/sft/hf --task math500,aime2024,aime2025,amc23,gsm8k \\
      --n 2 --limit 100 --max_tokens 256

The first command builds a Llama of two layers and a vocabulary from the worked solutions in DATA, and fine-tunes it by
`harness fit` to write `<think>`, the solution, `</think>` and the boxed answer. It learns the form, not mathematics.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from harness.problems import read_problems
from harness.store import write_rows
from harness.types import Problem

CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def build(problems: list[Problem], folder: Path) -> None:
    """A random Llama of 0.7 M parameters, with byte-level pairs learnt from the problems."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([problem.question + problem.solution for problem in problems], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in ("<think>", "</think>")])
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="JSONL of `problem`, `solution` and `answer`")
    parser.add_argument("--output", type=Path, default=Path("runs/thinking"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--characters", type=int, default=600, help="of the longest solution that is taken")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()

    read = read_problems(str(options.data), need_answer=False)
    problems = [problem for problem in read if 0 < len(problem.solution) <= options.characters][: options.rows]
    build(problems, options.output / "base")
    rows = []
    for problem in problems:
        thought = f"<think>\n{problem.solution}\n</think>\n\n\\boxed{{{problem.answer}}}"
        rows.append(
            {"messages": [{"role": "user", "content": problem.question}, {"role": "assistant", "content": thought}]}
        )
    write_rows(options.output / "sft.jsonl", rows)
    steps = options.epochs * -(-len(problems) // 16)
    recipe = {
        "run_dir": str(options.output / "sft"),
        "seed_everything": 0,
        "model": {
            "class_path": "harness.modules.SFTModule",
            "init_args": {
                "checkpoint": str(options.output / "base"),
                "optimizer": {"lr": 3e-3, "schedule": "cosine", "warmup_ratio": 0.05, "total_steps": steps},
            },
        },
        "data": {
            "class_path": "harness.datamodules.SFTDataModule",
            "init_args": {
                "train_files": [str(options.output / "sft.jsonl")],
                "template": "chat",
                "batch_size": 16,
                "max_length": 1024,
                "long_prompts": "drop",
            },
        },
        "trainer": {
            "accelerator": "auto",
            "devices": 1,
            "max_epochs": options.epochs,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 20,
            "num_sanity_val_steps": 0,
            "callbacks": [{"class_path": "harness.callbacks.HFCheckpoint"}],
        },
    }
    path = options.output / "sft.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return subprocess.run([sys.executable, "-m", "harness", "fit", "--config", str(path)]).returncode


if __name__ == "__main__":
    sys.exit(main())
