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
    _, counts = module_of(files, tiny_tokenizer).read(files)
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
    pairs, counts = module.read(files)
    rows = module.lay_out(pairs)
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
        {"prompt": "1=", "chosen": [user, good], "rejected": [user, bad]},  # as UltraFeedback
        {"prompt": "1=", "chosen": [good], "rejected": [bad]},
    )
    (batch,) = module_of(files, tokenizer).train_dataloader()
    # The same pair four times, and its sides once.
    assert sides(batch, tokenizer) == [("<bos>1=;1<eos>", "1<eos>"), ("<bos>1=;2<eos>", "2<eos>")]
    assert batch["pairs"].tolist() == [[0] * 4, [1] * 4]


def test_a_prompt_that_is_no_message_of_the_chats_beside_it_is_refused(tmp_path, tiny_tokenizer):
    user, good, bad = ({"role": r, "content": c} for r, c in (("user", "1="), ("assistant", "1"), ("assistant", "2")))
    files = write(tmp_path / "a.jsonl", {"prompt": "2=", "chosen": [user, good], "rejected": [user, bad]})
    with pytest.raises(InputError, match=r"a\.jsonl:1: the text of the prompt is none of the messages"):
        module_of(files, tiny_tokenizer).train_dataloader()


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


def table(path, prompts, right=4, wrong=4):
    """All pairs of each prompt, those of different prompts in turns, each problem weighing 1."""
    rows = [
        {"prompt": prompt, "chosen": f"{r}.", "rejected": f"{w}?", "weight": 1 / (right * wrong)}
        for r in range(right)
        for w in range(wrong)
        for prompt in prompts
    ]
    return write(path, *rows)


def test_pairs_of_one_prompt_come_together_and_each_side_once(tmp_path, tiny_tokenizer):
    files = table(tmp_path / "a.jsonl", ["1=", "22=", "333="])
    batches = list(module_of(files, tiny_tokenizer, group="prompt", batch_size=2).train_dataloader())
    assert [(len(b["lengths"]), b["pairs"].shape[1], b["step_denominator"]) for b in batches] in (
        [(16, 32, 2.0), (8, 16, 1.0)],
        [(8, 16, 1.0), (16, 32, 2.0)],
    )
    batch = next(b for b in batches if b["pairs"].shape[1] == 16)
    texts = [
        tiny_tokenizer.decode(ids[labels != -100])
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    chosen, rejected = ([texts[i] for i in side] for side in batch["pairs"].tolist())
    assert sorted(zip(chosen, rejected, strict=True)) == [
        (f"{r}.<eos>", f"{w}?<eos>") for r in range(4) for w in range(4)
    ]
    assert len(set(batch["prompts"].tolist())) == 1


def test_a_large_group_is_dealt_to_several_that_keep_within_the_tokens(tmp_path, tiny_tokenizer):
    files = table(tmp_path / "a.jsonl", ["1="], right=9, wrong=7)
    module = module_of(files, tiny_tokenizer, group="prompt", group_tokens=6 * 4)
    pairs, counts = module.read(files)
    rows = module.lay_out(pairs)
    assert counts.kept == sum(len(item.rows) for item in rows.items) == 63
    assert sorted(i for item in rows.items for i in item.rows) == list(range(63))
    assert all(item.length <= 24 for item in rows.items)
    assert sum(item.denominator for item in rows.items) == pytest.approx(1)
    # Tiles of 2 x 2: 4 sides for 4 pairs.
    assert len(rows.items) == 5 * 4


def test_a_group_of_no_tokens_is_refused(tiny_tokenizer):
    with pytest.raises(InputError, match="group_tokens must be at least 1, found 0"):
        module_of([], tiny_tokenizer, group="prompt", group_tokens=0)
