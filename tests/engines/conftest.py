"""Tiny random Qwen2 models with a character-level tokenizer, and one engine of each kind over the tied one."""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

from harness.environment import prepare_environment

prepare_environment()

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from harness.engines import EngineConfig, open_engine
from harness.protocols import Engine
from harness.types import Completion, GenerationRequest, SamplingConfig

CONTEXT = 320
CONFIG = EngineConfig(kind="vllm", dtype="float32", kv_cache_bytes=64 * 2**20)
NEWLINE, SPACE = "Ċ", "Ġ"  # how a byte-level vocabulary writes them
CHARACTERS = [NEWLINE, SPACE, *map(chr, range(33, 127))]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The characters of ASCII as bytes, a token of two newlines, one of a newline and a letter, and <eos>."""
    words = [*CHARACTERS, NEWLINE * 2, NEWLINE + "a", "<eos>"]
    tokenizer = Tokenizer(
        models.BPE({word: index for index, word in enumerate(words)}, [(NEWLINE, NEWLINE), (NEWLINE, "a")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")


def build_model(tied: bool, seed: int = 0) -> Qwen2ForCausalLM:
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).float().eval()


def save(model: Any, path: Path) -> Path:
    model.save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build_model(tied=True), tmp_path_factory.mktemp("tied"))


@pytest.fixture(scope="session")
def untied_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build_model(tied=False), tmp_path_factory.mktemp("untied"))


def need_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")


@pytest.fixture(scope="session")
def vllm_engine(checkpoint: Path) -> Iterator[Engine]:
    need_vllm()
    engine = open_engine(checkpoint, CONFIG)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def hf_engine(checkpoint: Path) -> Iterator[Engine]:
    engine = open_engine(checkpoint, EngineConfig(kind="transformers", dtype="float32", max_num_seqs=8))
    yield engine
    engine.close()


@pytest.fixture(params=["hf_engine", pytest.param("vllm_engine", marks=pytest.mark.vllm)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn; every test must leave it with the checkpoint's weights and nothing pending."""
    return request.getfixturevalue(request.param)


def drain(engine: Engine) -> dict[str, tuple[Completion, ...]]:
    """Poll until nothing is pending; completions by key."""
    results = {}
    while engine.num_pending:
        results |= {result.key: result.completions for result in engine.poll()}
    return results


def sample(engine: Engine, prompt: tuple[int, ...], **sampling: Any) -> tuple[Completion, ...]:
    engine.submit(GenerationRequest("only", prompt, SamplingConfig(**sampling)))
    return drain(engine)["only"]


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    """Random characters."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return tuple(torch.randint(0, len(CHARACTERS), (length,), generator=generator).tolist())


@torch.no_grad()
def reference_logps(model: Any, prompt_ids: tuple[int, ...], token_ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities at temperature 1 of each sampled token, from one forward pass of the model."""
    ids = torch.tensor([prompt_ids + token_ids])
    logits = model(ids).logits[0, len(prompt_ids) - 1 : -1]
    return logits.log_softmax(-1).gather(1, ids[0, len(prompt_ids) :, None])[:, 0]


@torch.no_grad()
def reference_greedy(model: Any, prompt_ids: tuple[int, ...], max_tokens: int, eos: int) -> tuple[int, ...]:
    """Greedy decoding by whole forward passes, without cache, padding or batch."""
    ids = list(prompt_ids)
    for _ in range(max_tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == eos:
            break
    return tuple(ids[len(prompt_ids) :])
