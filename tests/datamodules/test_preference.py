"""Pairs: both sides labelled, the prompt on neither, and what is dropped."""

from __future__ import annotations

import copy
import json

import pytest

from harness.datamodules import PreferenceDataModule
from harness.datamodules.preference import EOSPolicy
from harness.errors import InputError

EOS = 1


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(path)]


def module_of(files, tokenizer, **options):
    return PreferenceDataModule(files, **({"batch_size": 8, "max_length": 32, "tokenizer": tokenizer} | options))


def sides(batch, tokenizer):
    """The text and the supervised text of every row."""
    return [
        (tokenizer.decode(ids[:length]), tokenizer.decode(ids[labels != -100]))
        for ids, labels, length in zip(batch["input_ids"], batch["labels"], batch["lengths"], strict=True)
    ]


def test_chosen_rows_come_first_and_prompts_are_never_trained(tmp_path, tiny_tokenizer):
    files = write(
        tmp_path / "a.jsonl",
        {"prompt": "1+1=", "chosen": "2", "rejected": "345", "weight": 0.5},
        {"prompt": "2=", "chosen": "2", "rejected": "3"},
    )
    (batch,) = module_of(files, tiny_tokenizer).train_dataloader()
    assert sides(batch, tiny_tokenizer) == [
        ("<bos>1+1=2<eos>", "2<eos>"),
        ("<bos>2=2<eos>", "2<eos>"),
        ("<bos>1+1=345<eos>", "345<eos>"),
        ("<bos>2=3<eos>", "3<eos>"),
    ]
    assert batch["weight"].tolist() == [0.5, 1.0]
    assert batch["step_denominator"] == 1.5


def test_eos_is_a_setting_of_each_side(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1=", "chosen": "1", "rejected": "2"})
    module = module_of(files, tiny_tokenizer, append_eos=EOSPolicy(chosen=True, rejected=False))
    (batch,) = module.train_dataloader()
    assert sides(batch, tiny_tokenizer) == [("<bos>1=1<eos>", "1<eos>"), ("<bos>1=2", "2")]


def test_useless_pairs_are_dropped_with_a_count(tmp_path, tiny_tokenizer):
    files = write(
        tmp_path / "a.jsonl",
        {"prompt": "1=", "chosen": "", "rejected": "2"},
        {"prompt": "1=", "chosen": "2", "rejected": "2"},
        {"prompt": "1=", "chosen": "2", "rejected": "3", "weight": 0},
        {"prompt": "1=", "chosen": "2", "rejected": "3" * 40},
        {"prompt": "1=", "chosen": "2", "rejected": "3"},
    )
    _, counts = module_of(files, tiny_tokenizer).load(files)
    assert counts.dropped == {
        "empty side": 1,
        "identical sides": 1,
        "weight 0": 1,
        "too long": 1,
        "prompt too long": 0,
    }
    assert counts.kept == 1


def test_truncation_keeps_eos_and_never_makes_the_sides_equal(tmp_path, tiny_tokenizer):
    files = write(
        tmp_path / "a.jsonl",
        {"prompt": "1=", "chosen": "2" * 10, "rejected": "3"},
        {"prompt": "1=", "chosen": "4" * 10 + "5", "rejected": "4" * 10 + "6"},
    )
    module = module_of(files, tiny_tokenizer, max_length=8, long_pairs="truncate")
    rows, counts = module.load(files)
    assert (counts.kept, counts.truncated, counts.dropped["identical sides"]) == (1, 1, 1)
    assert sides(rows.collate([0]), tiny_tokenizer)[0] == ("<bos>1=2222<eos>", "2222<eos>")


def test_all_pairs_dropped_is_an_error(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", {"prompt": "1=", "chosen": "2", "rejected": "2"})
    with pytest.raises(InputError, match=r"nothing to train on .*1 dropped \(identical sides\)"):
        module_of(files, tiny_tokenizer).train_dataloader()


@pytest.mark.parametrize(
    "row",
    [
        {"question": "1=", "chosen": "1", "rejected": "2"},
        {"instruction": "1=\n", "accepted": "1", "rejected": "2"},
        {"input": "1=\n", "response_chosen": "1", "response_rejected": "2"},
    ],
)
def test_well_known_column_names_are_understood(tmp_path, tiny_tokenizer, row):
    (batch,) = module_of(write(tmp_path / "a.jsonl", row), tiny_tokenizer).train_dataloader()
    assert sides(batch, tiny_tokenizer) == [("<bos>1=\n1<eos>", "1<eos>"), ("<bos>1=\n2<eos>", "2<eos>")]


def test_chats_may_be_given_whole_or_with_a_prompt(tmp_path, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "<bos>{% for m in messages %}{{ m['content'] }};{% endfor %}"
    user, good, bad = ({"role": r, "content": c} for r, c in (("user", "1="), ("assistant", "1"), ("assistant", "2")))
    files = write(
        tmp_path / "a.jsonl",
        {"chosen": [user, good], "rejected": [user, bad]},
        {"prompt": [user], "chosen": [good], "rejected": [bad]},
    )
    (batch,) = module_of(files, tokenizer).train_dataloader()
    assert sides(batch, tokenizer) == [("<bos>1=;1<eos>", "1<eos>")] * 2 + [("<bos>1=;2<eos>", "2<eos>")] * 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "1", "chosen": "2"}, "missing column 'rejected'"),
        ({"chosen": "2", "rejected": "3"}, "missing column 'prompt'"),
        ({"prompt": "1" * 40, "chosen": "2", "rejected": "3"}, "the prompt has 41 tokens"),
    ],
)
def test_bad_pairs_are_named_by_file_and_line(tmp_path, tiny_tokenizer, row, message):
    files = write(tmp_path / "a.jsonl", {"prompt": "1", "chosen": "2", "rejected": "3"}, row)
    with pytest.raises(InputError, match=rf"a\.jsonl:2: {message}"):
        module_of(files, tiny_tokenizer).train_dataloader()
