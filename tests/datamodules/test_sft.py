"""From files to labelled batches, and what is refused on the way."""

from __future__ import annotations

import gzip
import json

import pytest
import torch

from harness.datamodules import SFTDataModule
from harness.datamodules.base import coloured
from harness.errors import InputError
from harness.prompts.find import find_template
from harness.types import Problem

EOS = 1


def write(path, *rows):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return [str(path)]


def batch_of(files, tokenizer, **options):
    options = {"batch_size": 16, "max_length": 64, "tokenizer": tokenizer} | options
    (batch,) = SFTDataModule(files, **options).train_dataloader()
    return batch


def test_prompt_and_response_are_tokenised_apart_and_only_the_response_is_trained(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1+2=", "response": "3"})
    batch = batch_of(files, tiny_tokenizer)
    prompt, response = tiny_tokenizer("1+2=")["input_ids"], tiny_tokenizer("3", add_special_tokens=False)["input_ids"]
    assert batch["input_ids"].tolist() == [[*prompt, *response, EOS]]
    assert batch["labels"].tolist() == [[-100] * len(prompt) + [*response, EOS]]


def test_eos_is_trained_though_padding_has_the_same_id(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1+2=", "response": "3"}, {"prompt": "1=", "response": "2345678"})
    assert tiny_tokenizer.pad_token_id == EOS
    batch = batch_of(files, tiny_tokenizer)
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        trained = ids[labels != -100]
        assert trained[-1] == EOS
        assert (trained == EOS).sum() == 1


def test_a_response_that_already_ends_with_eos_gets_no_second(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1=", "response": "1<eos>"})
    assert (batch_of(files, tiny_tokenizer)["input_ids"] == EOS).sum() == 1


def test_problem_rows_are_rendered_by_the_template_that_engines_use(tmp_path, tiny_tokenizer):
    files = write(
        tmp_path / "a.jsonl.gz",
        {"question": "1+1", "answer": "2", "solution": "so 2"},
        {"problem": "1+1", "solution": "so 2"},
    )
    batch = batch_of(files, tiny_tokenizer, template="gsm8k")
    prompt = find_template("gsm8k").encode(Problem("", "1+1"), tiny_tokenizer)
    for ids in batch["input_ids"].tolist():
        assert tuple(ids[: len(prompt)]) == prompt
        assert tiny_tokenizer.decode(ids[len(prompt) :]) == "so 2<eos>"


def test_chat_rows_train_the_last_answer(tmp_path, tiny_tokenizer):
    import copy

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "<bos>{% for m in messages %}{{ m['role'] }}:{{ m['content'] }};{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    messages = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
    files = write(tmp_path / "a.jsonl", {"messages": messages}, {"prompt": messages[:1], "completion": messages[1:]})
    batch = batch_of(files, tokenizer)
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        assert tokenizer.decode(ids) == "<bos>user:1+1;assistant:2<eos>"
        assert tokenizer.decode(ids[labels != -100]) == "2<eos>"


def test_a_long_response_is_cut_without_an_invented_eos_and_counted(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1=", "response": "9" * 50}, {"prompt": "1=", "response": "9"})
    module = SFTDataModule(files, max_length=10, tokenizer=tiny_tokenizer)
    _, counts = module.read(files)
    assert (counts.rows, counts.kept, counts.truncated, counts.longest) == (2, 2, 1, 10)
    assert counts.tokens == 10 + 5
    batch = batch_of(files, tiny_tokenizer, max_length=10)
    assert batch["input_ids"][0, -1] != EOS


def test_rows_with_nothing_to_learn_from_are_dropped_with_a_count(tmp_path, tiny_tokenizer):
    files = write(
        tmp_path / "a.jsonl",
        {"prompt": "1=", "response": ""},
        {"prompt": "1=", "response": "2", "weight": 0},
        {"prompt": "1=", "response": "2"},
    )
    _, counts = SFTDataModule(files, tokenizer=tiny_tokenizer).read(files)
    assert counts.kept == 1
    assert counts.dropped["nothing to learn from"] == 2
    assert "2 dropped (nothing to learn from)" in str(counts)


def test_weights_reach_the_tokens_and_the_denominator(tmp_path, tiny_tokenizer):
    files = write(
        tmp_path / "a.jsonl", {"prompt": "1=", "response": "22", "weight": 0.5}, {"prompt": "", "response": "3"}
    )
    batch = batch_of(files, tiny_tokenizer)
    # 3 tokens with weight 1/2 (two digits, EOS) and 2 with weight 1
    assert batch["step_denominator"] == pytest.approx(3 * 0.5 + 2)
    assert (batch["weights"] * (batch["labels"] != -100)).sum() == pytest.approx(3.5)


def test_packed_rows_restart_their_positions(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", *({"prompt": f"{i}=", "response": str(i)} for i in range(6)))
    batch = batch_of(files, tiny_tokenizer, max_length=15, packing=True)
    # each row is 5 tokens: BOS, digit, =, digit, EOS
    assert batch["input_ids"].shape == (2, 15)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4] * 3] * 2
    assert (batch["labels"] != -100).sum() == 12


def test_refresh_gives_the_files_of_each_epoch(tmp_path, tiny_tokenizer):
    write(tmp_path / "0.jsonl", {"prompt": "1=", "response": "1"})
    module = SFTDataModule([], tokenizer=tiny_tokenizer, max_length=64)
    module.setup("fit")
    module.refresh = lambda epoch: [str(tmp_path / f"{epoch}.jsonl")]
    (batch,) = module.train_dataloader()
    assert tiny_tokenizer.decode(batch["input_ids"][0]) == "<bos>1=1<eos>"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"a\.jsonl:2: not valid JSON"),
        ({"response": "1"}, r"a\.jsonl:2: missing column 'prompt'"),
        ({"prompt": "1"}, r"a\.jsonl:2: missing column 'response'"),
        ({"prompt": "1", "response": "2", "weight": "x"}, r"a\.jsonl:2: weight must be a number"),
        ({"prompt": "1" * 70, "response": "2"}, r"a\.jsonl:2: the prompt has 71 tokens, max_length is 64"),
        ({"messages": [{"role": "user", "content": "1"}]}, r"a\.jsonl:2: the last of `messages`"),
        ({"prompt": 3, "response": "2"}, r"a\.jsonl:2: expected text or a list"),
        ({"messages": [{"role": "assistant", "content": "1"}]}, r"a\.jsonl:2: .*no chat template"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path, tiny_tokenizer, line, message):
    files = write(tmp_path / "a.jsonl", {"prompt": "1=", "response": "1"}, line)
    with pytest.raises(InputError, match=message):
        batch_of(files, tiny_tokenizer)


def test_long_prompts_may_be_dropped_with_a_count(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1" * 70, "response": "2"}, {"prompt": "1", "response": "2"})
    module = SFTDataModule(files, max_length=64, long_prompts="drop", tokenizer=tiny_tokenizer)
    _, counts = module.read(files)
    assert (counts.kept, counts.dropped["prompt too long"]) == (1, 1)


def test_missing_and_empty_files_are_refused(tmp_path, tiny_tokenizer):
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        SFTDataModule([str(tmp_path / "none.jsonl")]).setup("fit")
    files = write(tmp_path / "empty.jsonl")
    with pytest.raises(InputError, match="nothing to train on"):
        batch_of(files, tiny_tokenizer)
    with pytest.raises(InputError, match="train_files is empty"):
        SFTDataModule([], tokenizer=tiny_tokenizer).train_dataloader()


def test_the_first_batch_is_printed_with_its_trained_tokens_marked(tmp_path, tiny_tokenizer, capsys):
    files = write(tmp_path / "a.jsonl", {"prompt": "1+2=", "response": "3"})
    batch = batch_of(files, tiny_tokenizer)
    assert "<bos>1+2=⟦3<eos>⟧" in capsys.readouterr().out
    ids = torch.cat([batch["input_ids"][0], torch.tensor([EOS, EOS])])
    labels = torch.cat([batch["labels"][0], torch.tensor([-100, -100])])
    assert coloured(ids, labels, tiny_tokenizer, ansi=True) == "<bos>1+2=\x1b[32m3<eos>\x1b[0m"


GSM8K = {"question": "1+1", "answer": "2", "solution": "One and one.\n#### 2"}


def test_solutions_in_another_form_than_the_template_reads_are_refused_before_anything_is_loaded(tmp_path):
    files = write(tmp_path / "a.jsonl", *[GSM8K] * 3)
    SFTDataModule(files, template="gsm8k").setup("fit")
    with pytest.raises(InputError, match=r"a.jsonl:1: none of the 3 solutions .* '2'.* under the template 'bstar'"):
        SFTDataModule(files, template="bstar").setup("fit")
    SFTDataModule(files, template="bstar", check_solutions=False).setup("fit")
    own = {"answer_protocol": {"rules": [{"kind": "marker", "pattern": "#### ", "scope": "line"}]}}
    SFTDataModule(files, template=own).setup("fit")


def test_solutions_that_yield_another_answer_than_their_own_are_refused_and_few_right_ones_reported(tmp_path):
    wrong = {**GSM8K, "answer": "3"}
    with pytest.raises(InputError, match="none of the 2 solutions"):
        SFTDataModule(write(tmp_path / "a.jsonl", wrong, wrong), template="gsm8k").setup("fit")
    with pytest.warns(UserWarning, match="only 1 of the 3 solutions"):
        SFTDataModule(write(tmp_path / "b.jsonl", wrong, GSM8K, wrong), template="gsm8k").setup("fit")


@pytest.mark.parametrize(
    "row", [{"prompt": "a", "response": "b", "answer": "c", "solution": "d"}, {"question": "a", "answer": "b"}]
)
def test_rows_that_are_trained_on_as_they_stand_need_no_answer(tmp_path, row):
    SFTDataModule(write(tmp_path / "a.jsonl", row), template="bstar").setup("fit")
