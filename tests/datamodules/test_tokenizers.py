"""Tokenizers as they come: SentencePiece, tiktoken-like ones, BOS, EOS, and texts that have no tokens."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from harness.datamodules import SFTDataModule
from harness.engines.completion import Decoder
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.losses import IGNORED
from harness.prompts.chats import encode_continuations
from harness.prompts.templates import encode_prompt
from harness.store import write_rows
from tests.engines.conftest import build_tokenizer

TEXTS = ["2", " 2", "\n2", "so 2.\n\nThe answer is \\boxed{2}", "a  b\n\n c é 日本 \U0001f600", "    return 1\n"]


def published(name: str) -> Path:
    """A tokenizer that mistral_common, which comes with vLLM, carries."""
    package = pytest.importorskip("mistral_common")
    return Path(package.__file__).parent / "data" / name


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    """Of 32,000 tokens, as Llama 2 and Mistral 7B have it."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "tokenizer.model").write_bytes(published("tokenizer.model.v1").read_bytes())
    names = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return load_tokenizer(folder)


def open_tekken(folder, num_tokens=None):
    """Tiktoken-like, with all of its 131,072 tokens or the first of them."""
    content = json.loads(published("tekken_240911.json").read_text())
    if num_tokens is not None:
        content["config"]["default_vocab_size"] = num_tokens
        content["vocab"] = content["vocab"][: num_tokens - content["config"]["default_num_special_tokens"]]
    (folder / "tekken.json").write_text(json.dumps(content))
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def tekken(tmp_path_factory):
    return open_tekken(tmp_path_factory.mktemp("tekken"), 8000)


@pytest.fixture(scope="module")
def whole_tekken(tmp_path_factory):
    """Takes twelve seconds to open."""
    return open_tekken(tmp_path_factory.mktemp("whole_tekken"))


@pytest.fixture(params=["sentencepiece", "tekken", pytest.param("whole_tekken", marks=pytest.mark.families)])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def batch_of(path, rows, tokenizer, **options):
    write_rows(path, rows)
    [batch] = SFTDataModule([str(path)], batch_size=len(rows), tokenizer=tokenizer, **options).train_dataloader()
    return batch


def test_responses_are_trained_as_tokens_whose_text_they_are(tokenizer, tmp_path):
    rows = [{"prompt": "1+1=", "response": text} for text in TEXTS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = batch_of(tmp_path / "rows.jsonl", rows, tokenizer)
    prompt = encode_prompt("1+1=", tokenizer)
    decoder = Decoder(tokenizer, frozenset([tokenizer.eos_token_id]))
    found = set()
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = ids[labels != IGNORED].tolist()
        assert learnt[-1] == tokenizer.eos_token_id
        assert tuple(ids[: len(prompt)].tolist()) == prompt
        # As an engine shows what it has sampled.
        found.add(decoder.text(prompt, learnt[:-1]))
    assert found == set(TEXTS)


def test_a_response_is_as_many_tokens_in_steps_as_its_steps(tokenizer):
    steps = ["so 1\n", "2\n", " 3\n", "\n", "done"]
    ids = [token for step in encode_continuations(steps, tokenizer) for token in step]
    assert tokenizer.decode([*tokenizer("x")["input_ids"], *ids]).endswith("x" + "".join(steps))
    assert encode_continuations([], tokenizer) == []


@pytest.mark.families
def test_the_whole_of_tekken_has_the_tokens_that_its_makers_give(whole_tekken):
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    theirs = Tekkenizer.from_file(str(published("tekken_240911.json")))
    assert len(whole_tekken) == theirs.n_words == 131072
    for text in TEXTS:
        ids = whole_tekken(text, add_special_tokens=False)["input_ids"]
        assert ids == theirs.encode(text, bos=False, eos=False)
        assert encode_continuations([text], whole_tekken) == [ids]


def test_a_blank_before_a_response_would_be_learnt_otherwise(sentencepiece):
    """What `encode_continuations` is for."""
    assert sentencepiece("2", add_special_tokens=False)["input_ids"] == sentencepiece.convert_tokens_to_ids(["▁", "2"])
    assert encode_continuations(["2"], sentencepiece) == [sentencepiece.convert_tokens_to_ids(["2"])]


def test_a_second_bos_is_refused_with_its_row(tiny_tokenizer, tmp_path):
    rows = [{"prompt": "1=", "response": "1"}, {"prompt": "<bos>1=", "response": "1"}]
    with pytest.raises(InputError, match=r"rows.jsonl:2: the prompt begins with <bos> twice"):
        batch_of(tmp_path / "rows.jsonl", rows, tiny_tokenizer)
    with pytest.raises(InputError, match=r"^the prompt begins with <bos> twice"):
        encode_prompt("<bos>1=", tiny_tokenizer)
    assert encode_prompt("<bos>1=", tiny_tokenizer, chat=True) == encode_prompt("1=", tiny_tokenizer)


def test_eos_is_trained_where_it_is_the_padding_too(tiny_tokenizer, tmp_path):
    assert tiny_tokenizer.pad_token_id == tiny_tokenizer.eos_token_id
    rows = [{"prompt": "1=", "response": "1"}, {"prompt": "1=", "response": "111"}]
    batch = batch_of(tmp_path / "rows.jsonl", rows, tiny_tokenizer)
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        assert (ids[labels != IGNORED] == tiny_tokenizer.eos_token_id).sum() == 1


def test_text_that_has_no_tokens_is_said(tiny_tokenizer, tmp_path):
    rows = [{"prompt": "1=", "response": "the café"}]
    with pytest.warns(
        UserWarning, match=r"rows.jsonl:1: the tokens of the row are another text: '1=the café' has become '1=the caf_'"
    ):
        batch_of(tmp_path / "rows.jsonl", rows, tiny_tokenizer)


def test_a_tokenizer_that_does_not_read_what_it_writes_is_refused(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()  # the bytes stay in the letters that stand for them
    with pytest.raises(
        InputError, match=r"rows.jsonl:1: the tokenizer does not read what it writes: the prompt '1 \+ 1="
    ):
        batch_of(tmp_path / "rows.jsonl", [{"prompt": "1 + 1=", "response": "2"}], tokenizer)


def test_a_prompt_that_has_other_tokens_alone_than_among_others_is_refused(tmp_path):
    class Moody(PreTrainedTokenizerFast):
        def __call__(self, text, **options):
            return super().__call__(text if isinstance(text, list) else f"{text}!", **options)

    tokenizer = Moody(tokenizer_object=build_tokenizer().backend_tokenizer, eos_token="<eos>", pad_token="<eos>")
    with pytest.raises(InputError, match=r"rows.jsonl:1: the tokenizer gives the prompt other tokens alone"):
        batch_of(tmp_path / "rows.jsonl", [{"prompt": "1+1=", "response": "2"}], tokenizer)


def test_a_tokenizer_of_bytes_gives_back_every_text(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch_of(tmp_path / "rows.jsonl", [{"prompt": "1\n\n", "response": "\na b"}], build_tokenizer())
