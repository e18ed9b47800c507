"""Tokens per second of both engines on the same prompts, side by side, and of vLLM without seeds (`seeds: none`).

Usage: python benchmarks/engines.py [CHECKPOINT] [--prompts 64] [--samples 8 1] [--max-tokens 64] [--rounds 3]
                                    [--engines vllm unseeded transformers] [--vocabulary 151936]

Without a checkpoint, the built-in arithmetic model (random weights) is written to a temporary folder; with
`--vocabulary` its matrices have so many rows, most without a token. The engines take turns within each round, so
that a change of the machine's load meets all. Tokens per second are by the clock, and per second of processor time.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

from harness.environment import prepare_environment

prepare_environment()

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from harness.arithmetic.model import build_model, build_tokenizer
from harness.engines import EngineConfig, generate, open_engine
from harness.models.checkpoints import load_tokenizer
from harness.protocols import Engine
from harness.types import GenerationRequest, SamplingConfig

CONFIGS = {
    "vllm": EngineConfig(kind="vllm"),
    "unseeded": EngineConfig(kind="vllm", seeds="none"),
    "transformers": EngineConfig(kind="transformers"),
}


def requests_for(tokenizer: object, prompts: int, samples: int, max_tokens: int) -> list[GenerationRequest]:
    """Prompts of 5 to 60 numbers; every sample has a seed of its own."""
    texts = [" + ".join(str((7 * i + k) % 50) for k in range(5 + i % 56)) + " ?\n" for i in range(prompts)]
    return [
        GenerationRequest(
            str(i),
            tuple(tokenizer(text)["input_ids"]),  # type: ignore[operator]
            SamplingConfig(n=samples, max_tokens=max_tokens, seed=samples * i),
        )
        for i, text in enumerate(texts)
    ]


def measure(engine: Engine, requests: list[GenerationRequest]) -> tuple[float, float]:
    """Tokens per second, and per second of processor time."""
    start, used = time.perf_counter(), time.process_time()
    tokens = sum(len(c.token_ids) for result in generate(engine, requests) for c in result.completions)
    return tokens / (time.perf_counter() - start), tokens / (time.process_time() - used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--max-num-seqs", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.checkpoint is None:
            options.checkpoint = folder
            tokenizer = build_tokenizer()
            tokenizer.save_pretrained(folder)
            model = build_model(tokenizer)
            if options.vocabulary is not None:
                model.resize_token_embeddings(options.vocabulary, mean_resizing=False)
            model.save_pretrained(folder)
        tokenizer = load_tokenizer(Path(options.checkpoint))
        engines = {
            name: open_engine(options.checkpoint, replace(CONFIGS[name], max_num_seqs=options.max_num_seqs))
            for name in options.engines
        }
        for samples in options.samples:
            requests = requests_for(tokenizer, options.prompts, samples, options.max_tokens)
            rates: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
            for _ in range(options.rounds):
                for name, engine in engines.items():
                    rates[name].append(measure(engine, requests))
            for name, values in rates.items():
                clock, processor = (statistics.median(rate) for rate in zip(*values, strict=True))
                print(
                    f"{name:12} {engines[name].name:22} {options.prompts} prompts x {samples}: "
                    f"{clock:8.0f} tokens/s, {processor:8.0f} per CPU second"
                )
        for engine in engines.values():
            engine.close()


if __name__ == "__main__":
    main()
