"""Measured peak memory of real training on this machine's CPU, beside what `harness plan` says of it.

Usage: python benchmarks/memory.py [--rows 4] [--length 256] [--steps 3] [llama gpt2 qwen3] [--kinds sft dpo reward]

Each run is a process of its own, which trains a random model of 40 to 60 M parameters with Lightning in float32. Memory
is the growth of the process's peak from before its trainer is built and after a first run of a tiny model, which loads
all code; all rows are of one length, and nothing is shared. Tensors get mappings of their own (MALLOC_MMAP_THRESHOLD_),
as the holes of the C library's heap are no part of a plan.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

from harness.environment import prepare_environment

prepare_environment()

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from resident import begin_peak, memory
from training import SIZES, build_checkpoint

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"vocab_size": 32000, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
                              "num_key_value_heads": 4, "intermediate_size": 1376}),
    "gpt2": ("GPT2Config", {"vocab_size": 50257, "n_embd": 512, "n_layer": 10, "n_head": 8}),
    "qwen3": ("Qwen3Config", {"vocab_size": 65536, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
                              "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 1024,
                              "tie_word_embeddings": True}),
}  # fmt: skip
"""Three families: grouped heads and an output matrix of its own; GPT-2; normed heads and a large, tied vocabulary."""
SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
KINDS = ("sft", "dpo", "reward")


def build(folder: Path, name: str) -> None:
    """A random model of the family, with a tokenizer of single characters."""
    import torch
    import transformers

    build_checkpoint(folder, SIZES["small"])
    kind, sizes = MODELS[name]
    config = getattr(transformers, kind)(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def write_rows(path: Path, kind: str, number: int, length: int) -> None:
    """Rows of random digits, each side `length` tokens with BOS and EOS; the sides of a pair differ from the start."""
    rng = random.Random(0)

    def text(size: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(size))

    def row() -> dict[str, str]:
        if kind == "sft":
            return {"prompt": "=", "completion": text(length - 3)}
        return {"prompt": "=", "chosen": text(length - 3), "rejected": text(length - 3)}

    path.write_text("".join(json.dumps(row()) + "\n" for _ in range(number)))


def module_of(kind: str, model: Path) -> Any:
    from harness.modules import DPOModule, RewardModule, SFTModule

    if kind == "dpo":
        return DPOModule(str(model), share_prefix=False, reference="frozen")
    return SFTModule(str(model)) if kind == "sft" else RewardModule(str(model), share_prefix=False)


def child(kind: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Train, and print what the process grew by."""
    import lightning as L
    import torch
    import transformers  # noqa: F401 - imported before memory is measured

    from harness.datamodules import PreferenceDataModule, SFTDataModule

    torch.set_num_threads(1)

    def train(model: Path, batch_size: int) -> None:
        data = (SFTDataModule if kind == "sft" else PreferenceDataModule)(
            [str(folder / f"{kind}.jsonl")], batch_size=batch_size, max_length=arguments.length
        )
        L.Trainer(
            accelerator="cpu", max_steps=arguments.steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(module_of(kind, model), data)  # fmt: skip

    train(folder / "tiny", 1)
    gc.collect()
    begin_peak()
    before = memory("VmRSS")
    train(folder / "model", arguments.rows)
    print(json.dumps({"bytes": int(2**20 * (memory("VmHWM") - before))}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="llama, gpt2, qwen3")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), help="sft, dpo, reward")
    parser.add_argument("--rows", type=int, default=4, help="sequences, or pairs, of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]), arguments)
        return
    from harness.modules.footprint import footprint

    print(f"{'model':8} {'kind':8} {'planned':>9} {'measured':>9} {'planned / measured':>19}")
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            build(folder / "model", name)
            build_checkpoint(folder / "tiny", SIZES["small"])
            for kind in arguments.kinds:
                write_rows(folder / f"{kind}.jsonl", kind, arguments.rows * arguments.steps, arguments.length)
                print(f"{name:8} {kind:8} " + compare(kind, folder, arguments, footprint), flush=True)


def compare(kind: str, folder: Path, arguments: argparse.Namespace, footprint: Any) -> str:
    found = footprint(module_of(kind, folder / "model"), arguments.rows, arguments.length)
    planned = found.resting + found.step
    numbers = [f"--{name}={getattr(arguments, name)}" for name in ("rows", "length", "steps")]
    command = [sys.executable, __file__, "--child", kind, str(folder), *numbers]
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(command, env={**os.environ, **SETTINGS, "PYTHONPATH": root}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr[-2000:]}")
    measured = json.loads(done.stdout.strip().splitlines()[-1])["bytes"]
    return f"{planned / 2**20:5.0f} MiB {measured / 2**20:5.0f} MiB {planned / measured:19.2f}"


if __name__ == "__main__":
    main()
