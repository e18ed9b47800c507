"""Memory of an evaluation with responses of 32,768 tokens, while more and more of them are finished.

    python benchmarks/long_responses.py --data_dir DATA --problems 4 8

Runs `harness eval --task aime2024 --preset reasoning --n 64` by a random model of one layer that never ends a response
by itself, and reads the resident memory of the command and its children twice a second. Printed for each number of
problems: the peak, and the most there was while each further batch of responses was drawn. What is in flight needs
memory; what is finished must not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOG = "samples.log.jsonl"


def build(folder: Path, context: int, window: int | None) -> None:
    """A random Mistral of one layer over bytes, whose end token has no chance."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    words = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=context,
        sliding_window=window,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = MistralForCausalLM(config)
    with torch.no_grad():  # the first number of every hidden state is positive, and the end token dislikes it
        layer = model.model.layers[0]
        model.model.embed_tokens.weight[:, 0] = 2.0
        layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[0] = 0.0
        model.lm_head.weight[0, 0] = -1000.0
    model.save_pretrained(folder)


def resident(root: int) -> int:
    """Resident memory of a process and all below it, in bytes."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except OSError:
            continue
    return total


def measure(command: list[str], output: Path, step: int) -> tuple[list[tuple[int, int]], float]:
    """By number of finished responses, in steps, the most memory that the command had; and its seconds."""
    peaks: dict[int, int] = {}
    started, read, lines = time.monotonic(), 0, 0
    with open(output.with_suffix(".txt"), "w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            log = output / LOG
            if log.is_file():
                with open(log, "rb") as file:
                    file.seek(read)
                    while block := file.read(1 << 20):
                        lines, read = lines + block.count(b"\n"), read + len(block)
            done = lines // step * step
            peaks[done] = max(peaks.get(done, 0), resident(process.pid))
            time.sleep(0.5)
    if process.returncode:
        sys.exit(output.with_suffix(".txt").read_text())
    return sorted(peaks.items()), time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="holds aime2024.jsonl")
    parser.add_argument("--problems", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--window", type=int, default=None, help="of the model's attention; default is all tokens")
    parser.add_argument("--max_num_seqs", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    model = folder / "model"
    build(model, options.tokens + 2048, options.window)
    for problems in options.problems:
        output = folder / f"{problems}"
        command = [sys.executable, "-m", "harness", "eval", "--task", "aime2024", "--model", str(model)]
        command += ["--preset", "reasoning", "--max_tokens", str(options.tokens), "--n", str(options.n)]
        command += ["--engine.seeds", "none"]  # faster than a generator for each response
        command += ["--limit", str(problems), "--data_dir", str(options.data_dir), "--output", str(output)]
        if options.max_num_seqs:
            command += ["--engine.max_num_seqs", str(options.max_num_seqs)]
        peaks, seconds = measure(command, output, options.n)
        drawn = problems * options.n * options.tokens
        print(f"{problems} problems x {options.n} samples x {options.tokens} tokens: {drawn / seconds:,.0f} tokens/s")
        print(f"  peak {max(peak for _, peak in peaks) / 2**20:,.0f} MiB")
        for done, peak in peaks:
            print(f"  {done:6d} finished: {peak / 2**20:8,.0f} MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
