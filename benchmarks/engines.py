"""Tokens per second of both engines on the same prompts, side by side.

Usage: python benchmarks/engines.py [CHECKPOINT] [--prompts 64] [--samples 8] [--max-tokens 64] [--rounds 3]

Without a checkpoint, the built-in arithmetic model (random weights) is written to a temporary folder. The engines take
turns within each round, so that a change of the machine's load meets both; the best round of each is printed too.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

from harness.environment import prepare_environment

prepare_environment()

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from harness.arithmetic.model import build_model, build_tokenizer
from harness.engines import EngineConfig, generate, open_engine
from harness.models.checkpoints import load_tokenizer
from harness.protocols import Engine
from harness.types import GenerationRequest, SamplingConfig


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


def measure(engine: Engine, requests: list[GenerationRequest]) -> tuple[int, float]:
    start = time.perf_counter()
    tokens = sum(len(c.token_ids) for result in generate(engine, requests) for c in result.completions)
    return tokens, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.checkpoint is None:
            options.checkpoint = folder
            tokenizer = build_tokenizer()
            tokenizer.save_pretrained(folder)
            build_model(tokenizer).save_pretrained(folder)
        tokenizer = load_tokenizer(Path(options.checkpoint))
        engines = [open_engine(options.checkpoint, EngineConfig(kind=kind)) for kind in ("vllm", "transformers")]
        for samples in (options.samples, 1):
            requests = requests_for(tokenizer, options.prompts, samples, options.max_tokens)
            rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
            for _ in range(options.rounds):
                for engine in engines:
                    tokens, seconds = measure(engine, requests)
                    rates[engine.name].append(tokens / seconds)
            for name, values in rates.items():
                print(
                    f"{name:22} {options.prompts} prompts x {samples}: "
                    f"median {statistics.median(values):8.0f} tokens/s, best {max(values):8.0f}"
                )
        for engine in engines:
            engine.close()


if __name__ == "__main__":
    main()
