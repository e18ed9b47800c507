"""Thoughts: their budget, held by every engine and checked, and what of a response's end they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engines import EngineConfig, EngineError, open_engine
from harness.engines.completion import Decoder
from harness.errors import InputError
from harness.protocols import Engine
from harness.types import GenerationRequest, SamplingConfig
from tests.engines.conftest import CONFIG, build_model, build_tokenizer, drain, need_vllm, prompt, sample


def thinking_tokenizer():
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    return tokenizer


@pytest.fixture(scope="module")
def thinking_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, tokenizer, model = tmp_path_factory.mktemp("thinking"), thinking_tokenizer(), build_model(tied=True)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def thinker(request: pytest.FixtureRequest, thinking_checkpoint: Path) -> Iterator[Engine]:
    if request.param == "vllm":
        need_vllm()
        engine = open_engine(thinking_checkpoint, CONFIG)
    else:
        engine = open_engine(thinking_checkpoint, EngineConfig(kind="transformers", dtype="float32", max_num_seqs=8))
    yield engine
    engine.close()


def test_a_thought_ends_at_its_budget_whatever_the_batch_and_the_answer_goes_on(thinker: Engine):
    tokenizer = thinking_tokenizer()
    start, end = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    opened = (*prompt(5), start, *prompt(2))
    for budget in (2, 3, 9):
        thinker.submit(
            GenerationRequest(str(budget), opened, SamplingConfig(n=3, max_tokens=30, thinking_budget=budget))
        )
    thinker.submit(GenerationRequest("free", opened, SamplingConfig(n=3, max_tokens=30)))
    found = drain(thinker)
    for budget in (2, 3, 9):
        for completion in found[str(budget)]:
            if end not in completion.token_ids:  # ended by EOS before
                assert len(completion.token_ids) < budget
                continue
            # The two tokens behind the tag in the prompt are part of the thought.
            assert completion.token_ids.index(end) <= budget - 2
            assert len(completion.token_ids) > budget - 1
    # A seed draws the same tokens with a budget as without one, up to where it ends the thought.
    for free, held in zip(found["free"], found["9"], strict=True):
        cut = held.token_ids.index(end) if end in held.token_ids else len(held.token_ids)
        assert free.token_ids[:cut] == held.token_ids[:cut]


def test_a_budget_does_not_touch_what_does_not_think(thinker: Engine):
    plain = sample(thinker, prompt(7), max_tokens=12, temperature=0.0)
    assert sample(thinker, prompt(7), max_tokens=12, temperature=0.0, thinking_budget=1) == plain


def test_a_budget_needs_tags_that_are_tokens(engine: Engine):
    with pytest.raises(InputError, match="thinking_budget is 5, but the tokenizer has no tokens <think> and </think>"):
        engine.submit(GenerationRequest("a", prompt(4), SamplingConfig(thinking_budget=5)))
    assert not engine.num_pending


def test_an_engine_that_lets_a_thought_go_on_is_found_out():
    tokenizer = thinking_tokenizer()
    start, end = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    decoder = Decoder(tokenizer, frozenset([tokenizer.eos_token_id]))
    request = GenerationRequest("a", prompt(4), SamplingConfig(thinking_budget=3))
    decoder.completion(request, (start, 1, 2, 3, end, 4, 5, 6, 7), -1.0)
    with pytest.raises(EngineError, match="beyond the thinking_budget of 3 tokens"):
        decoder.completion(request, (start, 1, 2, 3, 4, end, 5), -1.0)
    behind = GenerationRequest("b", (start, 1, 2), SamplingConfig(thinking_budget=3))
    decoder.completion(behind, (3, end, 4, 5), -1.0)
    with pytest.raises(EngineError, match="beyond"):
        decoder.completion(behind, (3, 4, end, 5), -1.0)
