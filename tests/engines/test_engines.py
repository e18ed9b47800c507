"""What every engine promises, checked on transformers and on real vLLM alike."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from harness.datamodules import PolicyDataModule
from harness.engines import EngineConfig, EngineError, generate, open_engine
from harness.errors import InputError
from harness.models.losses import IGNORED
from harness.models.weights import load_causal_lm, save_checkpoint
from harness.objectives import RFT
from harness.protocols import Engine
from harness.store import write_rows
from harness.types import GenerationRequest, PolicyExample, SamplingConfig
from tests.engines.conftest import (
    CHARACTERS,
    CONTEXT,
    build_model,
    build_tokenizer,
    drain,
    need_vllm,
    prompt,
    reference_greedy,
    reference_logps,
    sample,
    save,
)

EOS = build_tokenizer().eos_token_id
LENGTHS = (1, 5, 127, 128, 129, 200, 300)
"""vLLM's cache blocks hold 128 tokens on a CPU."""


def test_both_engines_fulfil_the_protocol(engine: Engine):
    assert isinstance(engine, Engine)
    assert engine.max_context == CONTEXT


def test_greedy_samples_and_logps_equal_forward_passes_of_the_model(engine: Engine):
    model = build_model(tied=True)
    sampling = SamplingConfig(temperature=0.0, max_tokens=12)
    results = {
        r.key: r.completions[0]
        for r in generate(engine, [GenerationRequest(str(n), prompt(n), sampling) for n in LENGTHS])
    }
    for length in LENGTHS:
        found = results[str(length)]
        assert found.token_ids == reference_greedy(model, prompt(length), 12, EOS)
        assert found.logp == pytest.approx(
            float(reference_logps(model, prompt(length), found.token_ids).sum()), abs=1e-4
        )


def test_logp_of_a_sample_is_at_temperature_one_before_any_truncation(engine: Engine):
    [found] = sample(engine, prompt(9), temperature=0.5, top_k=20, top_p=0.9, max_tokens=16, seed=4)
    expected = reference_logps(build_model(tied=True), prompt(9), found.token_ids)
    assert found.logp == pytest.approx(float(expected.sum()), abs=1e-4)
    assert found.token_logps == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 1.7}, {"top_k": 7}, {"top_p": 0.6}, {"top_k": 9, "top_p": 0.7}]
)
def test_first_tokens_are_drawn_with_the_probabilities_of_the_model(engine: Engine, settings: dict[str, float]):
    num_samples, ids = 1500, prompt(6, seed=3)
    sampling = {"temperature": 1.3, "max_tokens": 1, **settings}
    completions = sample(engine, ids, n=num_samples, **sampling)
    counts = numpy.bincount([c.token_ids[0] for c in completions], minlength=EOS + 1)
    with torch.no_grad():
        probs = (build_model(tied=True)(torch.tensor([ids])).logits[0, -1] / sampling["temperature"]).softmax(-1)
    probs = truncated(probs.double().numpy(), sampling.get("top_k", 0), sampling.get("top_p", 1.0))
    assert counts[probs == 0].sum() == 0
    # Pearson's statistic over the likely tokens and one cell for the rest: mean = degrees of freedom, variance = twice
    # that. Six standard deviations leave no chance failures for fixed seeds.
    likely = probs * num_samples >= 5
    observed = numpy.append(counts[likely], counts[~likely].sum())
    expected = numpy.append(probs[likely], probs[~likely].sum()) * num_samples
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    assert ((observed - expected) ** 2 / expected).sum() < freedom + 6 * (2 * freedom) ** 0.5


def truncated(probs: numpy.ndarray, top_k: int, top_p: float) -> numpy.ndarray:
    """The k likeliest, then the fewest of them whose renormalised probabilities reach p."""
    order = numpy.argsort(-probs)
    keep = order[: top_k or len(order)]
    shares = probs[keep] / probs[keep].sum()
    keep = keep[: 1 + int((shares.cumsum() < top_p).sum())]
    result = numpy.zeros_like(probs)
    result[keep] = probs[keep] / probs[keep].sum()
    return result


def test_min_p_of_one_leaves_the_likeliest_token_and_a_repetition_penalty_is_that_of_transformers(engine: Engine):
    ids, model = prompt(9), build_model(tied=True)
    greedy = sample(engine, ids, max_tokens=12, temperature=0.0)[0].token_ids
    assert sample(engine, ids, max_tokens=12, min_p=1.0)[0].token_ids == greedy
    processor = RepetitionPenaltyLogitsProcessor(1.8)
    expected = list(ids)
    with torch.no_grad():
        for _ in range(12):
            seen = torch.tensor([expected])
            expected.append(int(processor(seen, model(seen).logits[:, -1]).argmax()))
    penalized = sample(engine, ids, max_tokens=12, temperature=0.0, repetition_penalty=1.8)[0]
    assert list(penalized.token_ids) == expected[9 : 9 + len(penalized.token_ids)] != list(greedy)
    # Log-probabilities are the model's own all the same.
    logps = reference_logps(model, ids, penalized.token_ids).tolist()
    assert penalized.token_logps == pytest.approx(logps, abs=1e-4)


def test_sample_j_is_drawn_with_seed_plus_j(engine: Engine):
    eight = sample(engine, prompt(20), n=8, seed=50, max_tokens=10)
    four_more = sample(engine, prompt(20), n=4, seed=54, max_tokens=10)
    assert [c.token_ids for c in eight[4:]] == [c.token_ids for c in four_more]
    assert len({c.token_ids for c in eight}) == 8


def test_samples_do_not_depend_on_the_batch_they_are_drawn_in(engine: Engine):
    alone = sample(engine, prompt(30), n=2, seed=7, max_tokens=16)
    others = [
        GenerationRequest(f"o{i}", prompt(10 + 9 * i), SamplingConfig(seed=100 + i, max_tokens=20)) for i in range(9)
    ]
    same = GenerationRequest("same", prompt(30), SamplingConfig(n=2, seed=7, max_tokens=16))
    crowd = {r.key: r.completions for r in generate(engine, [*others[:5], same, *others[5:]])}
    assert [c.token_ids for c in crowd["same"]] == [c.token_ids for c in alone]


def test_the_same_requests_give_the_same_results(engine: Engine):
    requests = [
        GenerationRequest(str(i), prompt(10 + i), SamplingConfig(n=3, seed=i, max_tokens=20)) for i in range(12)
    ]
    first = {r.key: r.completions for r in generate(engine, requests)}
    again = {r.key: r.completions for r in generate(engine, requests)}
    assert {k: [c.token_ids for c in v] for k, v in first.items()} == {
        k: [c.token_ids for c in v] for k, v in again.items()
    }


def test_greedy_with_several_samples_repeats_the_one(engine: Engine):
    found = sample(engine, prompt(8), n=3, temperature=0.0, max_tokens=5)
    assert len(found) == 3
    assert found[0] == found[1] == found[2]


def test_a_request_may_join_while_others_run_and_finish_before_them(engine: Engine):
    engine.submit(GenerationRequest("long", prompt(12), SamplingConfig(temperature=0.0, max_tokens=250)))
    engine.submit(GenerationRequest("short", prompt(13), SamplingConfig(temperature=0.0, max_tokens=1)))
    order = [result.key for result in engine.poll()]
    if "long" not in order:
        engine.submit(GenerationRequest("late", prompt(14), SamplingConfig(temperature=0.0, max_tokens=1)))
    while engine.num_pending:
        order += [result.key for result in engine.poll()]
    assert sorted(order) == ["late", "long", "short"]
    assert order.index("short") < order.index("long")
    if engine.name.startswith("vllm"):
        assert order == ["short", "late", "long"]


def test_poll_of_an_idle_engine_returns_nothing(engine: Engine):
    assert engine.num_pending == 0
    assert engine.poll() == []


def test_a_bad_request_is_refused_at_once_and_harms_no_other(engine: Engine):
    engine.submit(GenerationRequest("good", prompt(5), SamplingConfig(temperature=0.0, max_tokens=3)))
    for ids, words in (
        ((), "empty"),
        (prompt(CONTEXT), f"'bad': the prompt has {CONTEXT} tokens and leaves no room in a context of {CONTEXT}"),
        ((1, EOS + 1), f"token id {EOS + 1}"),
        ((1, -1), "token id -1"),
    ):
        with pytest.raises(InputError, match=words):
            engine.submit(GenerationRequest("bad", ids, SamplingConfig()))
    for settings in ({"n": 0}, {"temperature": 2.5}, {"top_p": 0.0}, {"max_tokens": 0}, {"stop": ("",)}):
        with pytest.raises(InputError, match=f"'bad': {next(iter(settings))} is"):
            engine.submit(GenerationRequest("bad", (1,), SamplingConfig(**settings)))
    with pytest.raises(InputError, match="'good' is already queued"):
        engine.submit(GenerationRequest("good", prompt(5), SamplingConfig()))
    assert list(drain(engine)) == ["good"]


def test_a_sample_that_fills_the_context_ends_with_length(engine: Engine):
    [found] = sample(engine, prompt(CONTEXT - 3, seed=1), temperature=0.0, max_tokens=50)
    assert len(found.token_ids) == 3
    assert found.finish_reason == "length"


def test_eos_ends_a_sample_and_its_id_but_no_text_is_kept(engine: Engine):
    samples = sample(engine, prompt(4), n=40, temperature=2.0, max_tokens=100)
    ended = [c for c in samples if c.finish_reason == "stop"]
    assert ended
    for completion in ended:
        assert completion.token_ids[-1] == EOS
        assert EOS not in completion.token_ids[:-1]
        assert completion.text == build_tokenizer().decode(completion.token_ids[:-1])


@pytest.mark.parametrize("kind", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_each_eos_token_of_the_generation_config_ends_a_sample_and_is_trained(kind: str, tmp_path: Path):
    """Of a checkpoint that was loaded and exported, as a policy is between two iterations."""
    if kind == "vllm":
        need_vllm()
    model, other = build_model(tied=True), CHARACTERS.index("q")
    model.generation_config.eos_token_id = [EOS, other]
    tokenizer = build_tokenizer()
    save_checkpoint(load_causal_lm(save(model, tmp_path / "base")), tokenizer, tmp_path / "export")
    engine = open_engine(tmp_path / "export", EngineConfig(kind=kind, dtype="float32", kv_cache_bytes=64 * 2**20))
    ids = tuple(tokenizer("1+1=")["input_ids"])
    samples = sample(engine, ids, n=64, temperature=2.0, max_tokens=60)
    engine.close()
    ended = [c for c in samples if c.finish_reason == "stop"]
    assert {c.token_ids[-1] for c in ended} == {EOS, other}
    for completion in ended:
        assert not {EOS, other} & set(completion.token_ids[:-1])
        assert completion.text == tokenizer.decode(completion.token_ids[:-1])
    rows = [PolicyExample("1+1=", c.text, c.token_ids, 1.0, c.token_logps, problem_id="p", weights="w") for c in ended]
    write_rows(tmp_path / "rows.jsonl", rows)
    data = PolicyDataModule([str(tmp_path / "rows.jsonl")], batch_size=len(ended), group="none", tokenizer=tokenizer)
    data.attach_policy(RFT(), lambda rows, batches: {})
    [batch] = data.train_dataloader()
    found = set()
    for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = tuple(tokens[labels != IGNORED].tolist())
        found.add(learnt)
        [completion] = {c for c in ended if c.token_ids == learnt}
        expected = reference_logps(model, ids, learnt)
        torch.testing.assert_close(torch.tensor(completion.token_logps), expected, atol=1e-4, rtol=1e-4)
    assert found == {c.token_ids for c in ended}


def test_a_stop_string_is_cut_and_all_sampled_tokens_kept(engine: Engine):
    ids = prompt(11)
    [whole] = sample(engine, ids, temperature=1.0, seed=3, max_tokens=24)
    stop = next(c for c in whole.text[6:] if c not in whole.text[:6])
    [found] = sample(engine, ids, temperature=1.0, seed=3, max_tokens=24, stop=(stop,))
    assert found.finish_reason == "stop"
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.token_ids == whole.token_ids[: len(found.token_ids)]
    assert stop in build_tokenizer().decode(found.token_ids[-1:])


def test_steps_put_together_are_the_sample_drawn_in_one_go(engine: Engine):
    ids = prompt(11)
    [whole] = sample(engine, ids, temperature=0.0, max_tokens=40)
    mark = whole.text[len(whole.text) // 3]
    assert whole.text.count(mark) >= 1
    text, tokens, logp, reasons = "", (), 0.0, []
    while len(tokens) < len(whole.token_ids):
        room = 40 - len(tokens)
        [step] = sample(engine, ids + tokens, temperature=0.0, max_tokens=room, step_stop=(mark,))
        text, tokens, logp = text + step.text, tokens + step.token_ids, logp + step.logp
        reasons.append(step.finish_reason)
    assert "step" in reasons
    assert (text, tokens) == (whole.text, whole.token_ids)
    assert logp == pytest.approx(whole.logp, abs=1e-4)


def test_generating_leaves_the_global_random_state_alone(engine: Engine):
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    sample(engine, prompt(7), n=3, max_tokens=6)
    engine.sync(build_model_quietly().state_dict().items(), "same")
    assert random.getstate() == states[0]
    assert numpy.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def build_model_quietly():
    with torch.random.fork_rng():
        return build_model(tied=True)


def test_sleeping_and_waking_changes_no_result(engine: Engine):
    before = sample(engine, prompt(140), temperature=0.0, max_tokens=8)
    engine.sleep()
    engine.wake()
    assert sample(engine, prompt(140), temperature=0.0, max_tokens=8) == before


def test_sleep_and_sync_are_refused_while_requests_are_pending(engine: Engine):
    engine.submit(GenerationRequest("busy", prompt(4), SamplingConfig(max_tokens=4)))
    with pytest.raises(EngineError, match="1 requests are still pending"):
        engine.sleep()
    with pytest.raises(EngineError, match="1 requests are still pending"):
        engine.sync(build_model(tied=True).state_dict().items(), "new")
    assert list(drain(engine)) == ["busy"]


def test_importing_the_engines_loads_no_heavy_library():
    heavy = "('torch', 'transformers', 'vllm', 'httpx')"
    code = f"import harness.engines, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_auto_falls_back_to_transformers_and_says_why(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(sys.modules, "vllm", None)  # how Python marks a module that cannot be imported
    engine = open_engine(checkpoint)
    assert engine.name.startswith("transformers ")
    assert "because vLLM does not work here: it is not installed." in caplog.text
    with pytest.raises(InputError, match=r"fp8, which takes vLLM \(it is not installed\)"):
        open_engine(checkpoint, EngineConfig(dtype="fp8"))
    with pytest.raises(InputError, match="engine 'vllm' is not installed"):
        open_engine(checkpoint, EngineConfig(kind="vllm"))


@pytest.mark.vllm
def test_auto_never_goes_on_with_transformers_for_want_of_memory(checkpoint: Path, caplog: pytest.LogCaptureFixture):
    need_vllm()
    with pytest.raises(EngineError, match=r"vLLM lacks memory \(ValueError: .*lower gpu_memory_utilization"):
        open_engine(checkpoint, EngineConfig(kv_cache_bytes=4096))
    assert "transformers" not in caplog.text


@pytest.mark.vllm
@pytest.mark.parametrize("cuda", [True, False])
def test_auto_falls_back_after_another_error_but_not_on_cuda(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cuda: bool
):
    need_vllm()
    from harness.engines import vllm

    def fail(*_: object) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(vllm, "VLLMEngine", fail)
    monkeypatch.setattr("harness.engines._has_cuda", lambda: cuda)
    if cuda:
        with pytest.raises(EngineError, match=r"vLLM fails on this device \(RuntimeError: no kernel image"):
            open_engine(checkpoint)
    else:
        assert open_engine(checkpoint).name.startswith("transformers ")
        assert "because vLLM does not work here: RuntimeError: no kernel image" in caplog.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "vlm"}, "unknown engine 'vlm'"),
        ({"max_model_len": 0}, "max_model_len is 0"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5"),
        ({"dtype": "fp8", "kind": "transformers"}, "fp8, which vLLM alone samples in; with the engine transformers"),
        ({"dtype": "fp8", "kind": "http://localhost:1"}, "fp8, which vLLM alone samples in"),
        ({"seeds": "none", "kind": "transformers"}, "seeds is none, which is vLLM's alone"),
    ],
)
def test_a_config_out_of_range_is_refused(settings: dict[str, object], words: str):
    with pytest.raises(InputError, match=words):
        EngineConfig(**settings)


@pytest.mark.parametrize("kind", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_a_context_longer_than_the_models_is_refused(checkpoint: Path, kind: str):
    with pytest.raises(InputError, match=f"max_model_len is {CONTEXT + 1}, the model's limit is {CONTEXT}"):
        open_engine(checkpoint, EngineConfig(kind=kind, max_model_len=CONTEXT + 1))
