"""Tokens added to a real checkpoint: in the tokenizer, in both matrices, in engines and in what training exports."""

import copy
import json

import pytest
import torch

from harness.cli.main import main
from harness.datamodules import SFTDataModule
from harness.engines import EngineConfig, open_engine
from harness.errors import InputError
from harness.models.checkpoints import check_vocabulary, load_tokenizer
from harness.models.vocabulary import add_tokens
from harness.models.weights import load_causal_lm
from harness.modules import SFTModule
from harness.modules.optimizer import OptimizerConfig
from harness.types import GenerationRequest, SamplingConfig

MARKERS = ["<code>", "<end_of_step>", "\n<|assistant|>"]


@pytest.fixture(scope="module")
def extended(tiny_model_dir, tmp_path_factory):
    """The tiny model with three tokens more, as the command writes it."""
    folder = tmp_path_factory.mktemp("extended") / "base"
    assert (
        main(["add-tokens", "--model", str(tiny_model_dir), "--tokens", json.dumps(MARKERS), "--output", str(folder)])
        == 0
    )
    return folder


def test_a_marker_is_one_token_that_text_keeps(tiny_model_dir, extended):
    old, new = load_tokenizer(tiny_model_dir), load_tokenizer(extended)
    text = "1+2<end_of_step>3\n<|assistant|>4<code>"
    ids = new(text, add_special_tokens=False)["input_ids"]
    assert [new.decode([i]) for i in ids if i >= len(old)] == ["<end_of_step>", "\n<|assistant|>", "<code>"]
    assert new.decode(ids, skip_special_tokens=True) == text
    plain = "1+2=3"
    assert new(plain)["input_ids"] == old(plain)["input_ids"]


def test_new_rows_are_the_mean_of_the_old_and_other_logits_are_unchanged(tiny_model_dir, extended):
    old, new = load_causal_lm(tiny_model_dir).eval(), load_causal_lm(extended).eval()
    before = len(load_tokenizer(tiny_model_dir))
    for matrix in ("get_input_embeddings", "get_output_embeddings"):
        weight, source = getattr(new, matrix)().weight, getattr(old, matrix)().weight
        assert torch.equal(weight[:before], source[:before])
        torch.testing.assert_close(weight[before : before + 3], source[:before].mean(0).expand(3, -1))
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(new(ids).logits[..., :before], old(ids).logits[..., :before])


def test_engines_sample_from_it_and_training_exports_it(trainer, tmp_path, extended):
    tokenizer = load_tokenizer(extended)
    rows = [{"prompt": "1=", "response": "<code>1<end_of_step>"}] * 8
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = SFTModule(str(extended), optimizer=OptimizerConfig(lr=3e-2))
    trainer(max_steps=30, max_epochs=-1).fit(module, SFTDataModule([str(tmp_path / "rows.jsonl")], batch_size=8))
    module.export(tmp_path / "hf")
    assert load_tokenizer(tmp_path / "hf").get_vocab() == tokenizer.get_vocab()
    engine = open_engine(str(tmp_path / "hf"), EngineConfig(kind="transformers", dtype="float32", max_model_len=64))
    try:
        prompt = tuple(tokenizer("1=")["input_ids"])
        sampling = SamplingConfig(temperature=0.0, max_tokens=8, step_stop=("<end_of_step>",))
        engine.submit(GenerationRequest("a", prompt, sampling))
        [result] = engine.poll()
    finally:
        engine.close()
    [completion] = result.completions
    assert (completion.text, completion.finish_reason) == ("<code>1<end_of_step>", "step")
    assert len(completion.token_ids) == 3


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "at least one"), (["<code>", "<code>"], "twice"), (["1"], "is in the"), ([""], "empty")],
)
def test_tokens_that_add_nothing_are_refused(tiny_model_dir, tokens, message):
    with pytest.raises(InputError, match=message):
        add_tokens(load_causal_lm(tiny_model_dir), load_tokenizer(tiny_model_dir), tokens)


def test_rows_kept_in_reserve_are_used_first(tiny_model_dir):
    model, tokenizer = load_causal_lm(tiny_model_dir), load_tokenizer(tiny_model_dir)
    size = len(tokenizer) + 10
    model.resize_token_embeddings(size, mean_resizing=False)
    assert add_tokens(model, tokenizer, MARKERS) == list(range(size - 10, size - 7))
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == size


@pytest.fixture(scope="module")
def larger(tiny_model_dir, tiny_tokenizer, tmp_path_factory):
    """The tiny model beside a tokenizer of two tokens more than its embedding has rows."""
    folder = tmp_path_factory.mktemp("larger") / "base"
    load_causal_lm(tiny_model_dir).save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([*(f"<{i}>" for i in range(len(tokenizer), 88)), "<a>", "<b>"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_engines_refuse_a_tokenizer_that_is_larger_than_the_embedding(larger, kind):
    with pytest.raises(InputError, match=r"has 2 tokens \('<a>', id 88, ...\) beyond the 88 rows .*harness add-tokens"):
        open_engine(str(larger), EngineConfig(kind=kind, dtype="float32", max_model_len=64))


def test_training_refuses_it_before_the_model_is_loaded(trainer, tmp_path, larger, monkeypatch):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1=", "response": "1"}\n')
    module = SFTModule(str(larger))
    monkeypatch.setattr(module, "build_model", lambda: pytest.fail("the model is loaded"))
    with pytest.raises(InputError, match="beyond the 88 rows"):
        trainer(max_steps=1).fit(module, SFTDataModule([str(tmp_path / "rows.jsonl")]))


def test_the_command_that_is_named_gives_it_rows(larger, tmp_path):
    assert main(["add-tokens", "--model", str(larger), "--tokens", "[]", "--output", str(tmp_path / "mended")]) == 0
    mended, source = load_causal_lm(tmp_path / "mended"), load_causal_lm(larger)
    weight, before = mended.get_input_embeddings().weight, source.get_input_embeddings().weight
    assert torch.equal(weight[:88], before)
    torch.testing.assert_close(weight[88:], before.mean(0).expand(2, -1))
    open_engine(str(tmp_path / "mended"), EngineConfig(kind="transformers", dtype="float32", max_model_len=64)).close()


def test_a_special_token_without_a_row_is_refused_only_where_rows_hold_it(
    trainer, tmp_path, tiny_model_dir, tiny_tokenizer
):
    load_causal_lm(tiny_model_dir).save_pretrained(tmp_path / "base")
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([f"<{i}>" for i in range(len(tokenizer), 88)])
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "base")
    check_vocabulary(tmp_path / "base", load_tokenizer(tmp_path / "base"))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "<image>1=", "response": "1"}\n')
    with pytest.raises(InputError, match=r"rows.jsonl: rows hold '<image>'"):
        trainer(max_steps=1).fit(SFTModule(str(tmp_path / "base")), SFTDataModule([str(tmp_path / "rows.jsonl")]))
