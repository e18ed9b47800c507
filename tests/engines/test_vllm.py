"""What is particular to vLLM in the training process: replaced weights, several engines, side effects."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.commands.add_tokens import add_tokens
from harness.engines import EngineError, VLLMEngine, generate, open_engine
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import load_causal_lm, named_weights
from harness.prompts.templates import PromptTemplate
from harness.protocols import Engine
from harness.rollouts.dispatcher import Dispatcher
from harness.types import GenerationRequest, SamplingConfig
from tests.engines.conftest import (
    CONFIG,
    build_model,
    build_tokenizer,
    prompt,
    reference_greedy,
    reference_logps,
    sample,
    save,
)

pytestmark = pytest.mark.vllm

LENGTHS = (10, 130, 260)
"""Within one block of the prefix cache, and over one and two full blocks of 128 tokens."""


def greedy(engine: Engine) -> dict[int, Any]:
    sampling = SamplingConfig(temperature=0.0, max_tokens=10)
    requests = [GenerationRequest(str(n), prompt(n), sampling) for n in LENGTHS]
    return {int(result.key): result.completions[0] for result in generate(engine, requests)}


def assert_samples_from(engine: Engine, model: Any) -> None:
    for length, found in greedy(engine).items():
        assert found.token_ids == reference_greedy(model, prompt(length), 10, build_tokenizer().eos_token_id)
        expected = float(reference_logps(model, prompt(length), found.token_ids).sum())
        assert found.logp == pytest.approx(expected, abs=1e-4)


def perturbed(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def test_an_adapter_is_sampled_from_without_being_merged_on_disk(
    vllm_engine: VLLMEngine, checkpoint: Path, tmp_path: Path
):
    from peft import LoraConfig, get_peft_model

    adapted: Any = get_peft_model(load_causal_lm(checkpoint), LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    adapted.peft_config["default"].base_model_name_or_path = str(checkpoint)
    adapted.save_pretrained(tmp_path)  # as PEFT writes it, without a tokenizer
    assert load_tokenizer(tmp_path).vocab_size == build_tokenizer().vocab_size
    engine = open_engine(tmp_path, CONFIG)
    try:
        assert_samples_from(engine, load_causal_lm(tmp_path).eval())
        assert greedy(engine) != greedy(vllm_engine)
    finally:
        engine.close()


@pytest.fixture
def synced_back(vllm_engine: VLLMEngine):
    yield vllm_engine
    vllm_engine.sync(named_weights(build_model(tied=True)), "original")


def test_after_a_sync_long_and_short_prompts_see_the_new_weights(synced_back: VLLMEngine):
    engine = synced_back
    before = greedy(engine)  # fills the prefix cache with values of the old weights
    for round_ in (1, 2):
        model = perturbed(build_model(tied=True), round_)
        engine.sync(named_weights(model), f"round {round_}")
        assert engine.version == f"round {round_}"
        assert_samples_from(engine, model)
    assert {n: c.token_ids for n, c in greedy(engine).items()} != {n: c.token_ids for n, c in before.items()}


def test_a_tied_head_follows_the_embeddings_even_if_the_sync_leaves_it_out(synced_back: VLLMEngine):
    model = perturbed(build_model(tied=True), 3)
    weights = [(name, tensor) for name, tensor in model.named_parameters()]
    assert "lm_head.weight" not in dict(weights)
    synced_back.sync(weights, "without head")
    assert_samples_from(synced_back, model)


def test_an_untied_engine_open_beside_the_tied_one_takes_its_own_weights(
    vllm_engine: VLLMEngine, untied_checkpoint: Path
):
    second = open_engine(untied_checkpoint, CONFIG)
    model = perturbed(build_model(tied=False), 4)
    second.sync(named_weights(model), "new")
    assert_samples_from(second, model)
    assert_samples_from(vllm_engine, build_model(tied=True))
    second.close()
    second.close()  # harmless
    with pytest.raises(EngineError, match="the engine is closed"):
        sample(second, prompt(3))
    assert_samples_from(vllm_engine, build_model(tied=True))
    third = open_engine(untied_checkpoint, CONFIG)
    assert_samples_from(third, build_model(tied=False))
    third.close()


def test_a_model_of_experts_opens_beside_a_dense_one(vllm_engine: VLLMEngine, tmp_path: Path):
    from transformers import MixtralConfig, MixtralForCausalLM

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=None, hidden_size=128,
        intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, num_local_experts=4,
        max_position_embeddings=320,
    ))  # fmt: skip
    for _ in range(2):  # the second finds the group of experts that the first has made
        engine = open_engine(save(model, tmp_path), CONFIG)
        assert_samples_from(engine, model)
        engine.close()
    assert_samples_from(vllm_engine, build_model(tied=True))


def test_tokens_added_by_the_command_are_sampled_and_synced(
    vllm_engine: VLLMEngine, untied_checkpoint: Path, tmp_path: Path
):
    tokens = ["<code>", "<end_of_step>"]
    add_tokens(str(untied_checkpoint), tokens, tmp_path / "more")
    engine, model = open_engine(tmp_path / "more", CONFIG), load_causal_lm(tmp_path / "more").eval()
    first, marker = load_tokenizer(tmp_path / "more").convert_tokens_to_ids(tokens)
    assert model.get_output_embeddings().weight.shape[0] == marker + 1 > len(build_tokenizer())
    assert_samples_from(engine, model)
    model = perturbed(model, 5)
    with torch.no_grad():  # after this prompt the marker is the likeliest token
        state = model.model(torch.tensor([prompt(LENGTHS[0])])).last_hidden_state[0, -1]
        model.get_output_embeddings().weight[marker] = 30 * state / state.norm()
    engine.sync(named_weights(model), "new")
    assert_samples_from(engine, model)
    [found] = sample(engine, prompt(LENGTHS[0]), temperature=0.0, max_tokens=3)
    assert (found.token_ids[0], found.text[: len(tokens[1])]) == (marker, tokens[1])
    given = (*prompt(9), first)  # an added token in the prompt
    [found] = sample(engine, given, temperature=0.0, max_tokens=3)
    assert found.token_ids == reference_greedy(model, given, 3, build_tokenizer().eos_token_id)
    engine.close()
    assert_samples_from(vllm_engine, build_model(tied=True))


def test_a_failed_sync_poisons_the_engine_but_no_other(vllm_engine: VLLMEngine, untied_checkpoint: Path):
    engine = open_engine(untied_checkpoint, CONFIG, version="old")
    name = "model.layers.0.mlp.up_proj.weight"
    weights = dict(build_model(tied=False).state_dict())
    weights[name] = weights[name][:, 1:]
    with pytest.raises(EngineError, match=r"up_proj.weight' has shape \(96, 63\), the model's is \(96, 64\)"):
        engine.sync(weights.items(), "new")
    assert engine.version == "old"
    for call in (
        lambda: engine.submit(GenerationRequest("after", prompt(3), SamplingConfig())),
        engine.poll,
        engine.sleep,
        engine.wake,
        lambda: engine.sync(named_weights(build_model(tied=False)), "good"),
    ):
        with pytest.raises(EngineError, match="the last weight sync failed"):
            call()
    engine.close()
    assert_samples_from(vllm_engine, build_model(tied=True))


def test_weights_that_raise_while_they_are_read_poison_the_engine_too(untied_checkpoint: Path):
    engine = open_engine(untied_checkpoint, CONFIG)

    def torn():
        yield from list(build_model(tied=False).state_dict().items())[:3]
        raise OSError("link down")

    with pytest.raises(OSError, match="link down"):
        engine.sync(torn(), "new")
    with pytest.raises(EngineError, match="The sync failed with: link down"):
        engine.poll()
    engine.close()


def test_a_sleep_gives_all_up_and_a_sync_brings_weights_then_cache(
    vllm_engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
):
    """The calls that matter on CUDA, bound to the signatures of the installed vLLM; on a CPU sleeping does nothing."""
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    inner, calls = vllm_engine._engine, []

    def watch(name: str, runs: bool) -> None:
        signature, real = inspect.signature(getattr(LLMEngine, name)), getattr(inner, name)

        def call(*args: Any, **options: Any) -> Any:
            signature.bind(inner, *args, **options)
            if args == ("reload_weights",):
                inspect.signature(GPUModelRunner.reload_weights).bind(None, **options["kwargs"])
            calls.append((name, *args, *(options.values() if not runs else ())))
            return real(*args, **options) if runs else None

        monkeypatch.setattr(inner, name, call)

    for name, runs in (("sleep", False), ("wake_up", False), ("collective_rpc", True), ("reset_prefix_cache", True)):
        watch(name, runs)
    monkeypatch.setattr(inner.vllm_config.model_config, "enable_sleep_mode", True)
    version = vllm_engine.version
    vllm_engine.sleep()
    assert vllm_engine.version == ""
    with pytest.raises(EngineError, match="holds no weights; sync it first"):
        sample(vllm_engine, prompt(3))
    vllm_engine.wake()
    vllm_engine.wake()
    vllm_engine.sync(named_weights(build_model(tied=True)), version)
    wanted = [
        ("sleep", 2),
        ("wake_up", ["weights"]),
        ("collective_rpc", "reload_weights"),
        ("reset_prefix_cache",),
        ("wake_up", ["kv_cache"]),
    ]
    assert [call for call in calls if call[1:] != ("apply_model",)] == wanted
    assert_samples_from(vllm_engine, build_model(tied=True))


def test_the_engine_is_opened_on_the_trainers_device(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    from vllm.engine.arg_utils import EngineArgs

    class Seen(Exception):
        pass

    def stop(arguments: Any) -> None:
        raise Seen(arguments.device_ids)

    monkeypatch.setattr(EngineArgs, "create_engine_config", stop)
    for device, ids in ((3, [3]), (None, None)):
        with pytest.raises(Seen) as found:
            VLLMEngine(checkpoint, replace(CONFIG, device=device))
        assert found.value.args == (ids,)


def test_seeded_prompts_may_exceed_the_tokens_of_one_step(vllm_engine: VLLMEngine):
    requests = [GenerationRequest(str(i), prompt(310, i), SamplingConfig(n=2, seed=i, max_tokens=3)) for i in range(40)]
    assert len(list(generate(vllm_engine, requests))) == 40


def test_without_seeds_samples_differ_from_call_to_call_and_provenance_says_so(vllm_engine: VLLMEngine):
    dispatcher = Dispatcher(vllm_engine, build_tokenizer(), PromptTemplate("test", user="{question}"))
    seeded = dispatcher.provenance().key
    vllm_engine.seeds = "none"
    try:
        state = torch.get_rng_state()
        first, second = (sample(vllm_engine, prompt(5), n=8, seed=1, max_tokens=8) for _ in range(2))
        assert dispatcher.provenance().key != seeded
    finally:
        vllm_engine.seeds = "request"
    assert len({each.token_ids for each in (*first, *second)}) > 12
    assert torch.equal(torch.get_rng_state(), state)
    greedy = [sample(vllm_engine, prompt(5), temperature=0.0, max_tokens=8) for _ in range(2)]
    assert greedy[0] == greedy[1]


def test_open_and_close_leave_environment_threads_and_process_groups_as_they_were(untied_checkpoint: Path):
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    before = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    state = torch.get_rng_state()
    engine = open_engine(untied_checkpoint, CONFIG)
    sample(engine, prompt(20), max_tokens=4)
    assert torch.set_num_threads is set_num_threads
    assert torch.get_num_threads() == threads
    assert not torch.distributed.is_initialized()
    engine.close()
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads
    assert {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")} == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.distributed.is_initialized()


def test_compiled_functions_of_the_trainer_keep_working(vllm_engine: VLLMEngine):
    calls = []

    def count(graph: Any, inputs: Any) -> Any:
        calls.append(1)
        return graph.forward

    function = torch.compile(lambda x: x * 2 + 1, backend=count)
    sample(vllm_engine, prompt(5), max_tokens=2)
    assert function(torch.ones(2)).tolist() == [3.0, 3.0]
    assert calls == [1]
