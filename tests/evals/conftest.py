"""A tokenizer that writes any text, a small random model over it, and engines that know or garble the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.engines.completion import Decoder, check_request
from harness.types import GenerationRequest, GenerationResult, Problem

CONTEXT = 16384


def build_byte_tokenizer():
    """One token per byte; `<eos>` ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, "<bos>": 1} | {char: i + 2 for i, char in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<eos>",
        clean_up_tokenization_spaces=False,
        chat_template="{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] ",
    )


@pytest.fixture(scope="session")
def byte_tokenizer():
    return build_byte_tokenizer()


@pytest.fixture(scope="session")
def byte_model_dir(tmp_path_factory, byte_tokenizer) -> Path:
    """A checkpoint of a random two-layer model over bytes; do not write into it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(byte_tokenizer),
        hidden_size=64,  # heads of 32, the smallest that vLLM's attention takes on a CPU
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=48,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("models") / "bytes"
    model.save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


class ScriptedEngine:
    """An engine that answers each prompt with the text that a function of prompt and seed gives, as tokens.

    A text that ends with the mark of a step is one, any other ends the response.
    """

    name = "scripted 1"
    version = "scripted-weights"
    max_context = 10**6

    def __init__(self, tokenizer, answer: Callable[[tuple[int, ...], int], str]) -> None:
        self.tokenizer, self.answer = tokenizer, answer
        self.decoder = Decoder(tokenizer, frozenset([tokenizer.eos_token_id]))
        self.queue: list[GenerationRequest] = []
        self.num_samples = 0

    def submit(self, request: GenerationRequest) -> None:
        check_request(request, self.max_context, len(self.tokenizer), {queued.key for queued in self.queue})
        self.queue.append(request)

    def poll(self) -> list[GenerationResult]:
        if not self.queue:
            return []
        request = self.queue.pop(0)
        completions = []
        for j in range(request.sampling.n):
            text = self.answer(request.prompt_ids, request.sampling.seed + j)
            stop = next((mark for mark in request.sampling.step_stop if text.endswith(mark)), None)
            ids = [*self.tokenizer(text)["input_ids"], *([] if stop else [self.tokenizer.eos_token_id])]
            completions.append(self.decoder.completion(request, ids, -0.1 * len(ids), stop))
        self.num_samples += len(completions)
        return [GenerationResult(request.key, tuple(completions))]

    @property
    def num_pending(self) -> int:
        return len(self.queue)

    def close(self) -> None:
        self.queue.clear()


def oracle(tokenizer, texts: Mapping[tuple[int, ...], str]) -> ScriptedEngine:
    """Replays the text that belongs to a prompt."""
    return ScriptedEngine(tokenizer, lambda prompt, seed: texts[prompt])


@pytest.fixture
def data_dir() -> Path:
    """The folder of benchmark files; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("HARNESS_DATA_DIR") or Path(__file__).parents[3] / "shared/data")
    if not folder.is_dir():
        pytest.skip(f"no benchmark files at {folder}; set HARNESS_DATA_DIR")
    return folder


def sums(count: int) -> tuple[Problem, ...]:
    """Problems `0 + 1`, `1 + 1`, ... with their answers, of two levels."""
    return tuple(
        Problem(f"sum/{i}", f"{i} + 1", str(i + 1), solution=f"{i} + 1 = {i + 1}\n#### {i + 1}", level=str(i % 2))
        for i in range(count)
    )
