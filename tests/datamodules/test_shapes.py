"""Rows in the shapes that people have, from every kind of file, and what is said of rows in no known shape."""

from __future__ import annotations

import copy
import json

import pytest

from harness.datamodules import PreferenceDataModule, SFTDataModule, StepDataModule
from harness.datamodules.batches import Items, Layout, plan_epoch
from harness.datamodules.tokenize import preference_row, sft_row, step_row, unpaired_row
from harness.errors import InputError
from harness.prompts.find import find_template
from harness.sources import find_source, read_source
from tests.test_sources import SHAPES

PLAIN = find_template("plain")
USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "1+1="), ("assistant", "2"), ("assistant", "3"))
)
ROWS = [{"prompt": f"{i} + 1 =\n", "response": f"{i + 1}, (so {i})"} for i in range(40)]
CHAT_TEMPLATE = (
    "<bos>{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


@pytest.fixture(scope="module")
def chat_tokenizer(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tokens(data):
    """All rows in the order of their batches."""
    return [batch["input_ids"].tolist() for batch in data.train_dataloader()]


@pytest.fixture(scope="module")
def expected(tmp_path_factory, tiny_tokenizer):
    path = SHAPES["rows.jsonl"](tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)
    return tokens(SFTDataModule([str(path)], tokenizer=tiny_tokenizer))


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_file_gives_the_same_token_ids(tmp_path, tiny_tokenizer, expected, name):
    path = SHAPES[name](tmp_path / name, ROWS)
    assert tokens(SFTDataModule([str(path)], tokenizer=tiny_tokenizer)) == expected


SFT_SHAPES = [
    {"messages": [USER, GOOD]},
    {"prompt": [USER], "completion": [GOOD]},
    {"conversations": [{"from": "human", "value": "1+1="}, {"from": "gpt", "value": "2"}]},
    {"conversations": [USER, GOOD]},
    {"messages": [USER, GOOD], "prompt": "1+1=", "prompt_id": "x"},  # UltraChat
]


@pytest.mark.parametrize("row", SFT_SHAPES)
def test_chats_are_told_by_their_columns(chat_tokenizer, row):
    text = sft_row("a:1", row, PLAIN, chat_tokenizer)
    assert (text.prompt, text.responses, text.chat) == ("<bos>u:1+1=<eos>a:", ("2",), True)


def test_a_system_column_begins_the_chat(chat_tokenizer):
    row = {"conversations": [{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}], "system": "add"}
    assert sft_row("a:1", row, PLAIN, chat_tokenizer).prompt == "<bos>s:add<eos>u:1<eos>a:"


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "add", "input": "1+1", "output": "2"}, "add\n\n1+1\n"),
        ({"instruction": "add", "input": "", "output": "2"}, "add\n"),
        ({"instruction": "add", "context": "1+1", "response": "2", "category": "qa"}, "add\n\n1+1\n"),  # Dolly
        ({"prompt": "add", "completion": "2"}, "add"),
        ({"question": "add", "solution": "2"}, "add\n"),
    ],
)
def test_texts_are_told_by_their_columns(tiny_tokenizer, row, prompt):
    text = sft_row("a:1", row, PLAIN, tiny_tokenizer)
    assert (text.prompt, text.responses, text.chat) == (prompt, ("2",), False)


def test_plain_prompts_go_into_the_chat_template_by_columns(tmp_path, chat_tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "1+1=", "response": "2"}) + "\n")
    own = {"user": "{question}", "chat": True}
    data = SFTDataModule([str(path)], template=own, columns={"question": "prompt"}, tokenizer=chat_tokenizer)
    [batch] = data.train_dataloader()
    assert chat_tokenizer.decode(batch["input_ids"][0]) == "<bos>u:1+1=<eos>a:2<eos>"


PAIRS = [
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": "1+1=", "chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 8.0},  # UltraFeedback
    {"conversations": [USER], "chosen": GOOD, "rejected": BAD},
    {
        "conversations": [{"from": "human", "value": "1+1="}],
        "chosen": {"from": "gpt", "value": "2"},
        "rejected": {"from": "gpt", "value": "3"},
    },
]


@pytest.mark.parametrize("row", PAIRS)
def test_pairs_of_chats_are_told_by_their_columns(chat_tokenizer, row):
    text = preference_row("a:1", row, PLAIN, chat_tokenizer)
    assert (text.prompt, text.responses, text.chat) == ("<bos>u:1+1=<eos>a:", ("2", "3"), True)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"chosen": "the sky is blue", "rejected": "the sky is big"}, ("the sky is", " blue", " big")),
        ({"chosen": "H: 1\nA: 2", "rejected": "H: 1\nA: 3"}, ("H: 1\nA:", " 2", " 3")),
        ({"chosen": "1+1=\n2", "rejected": "1+1=\n3"}, ("1+1=\n", "2", "3")),
        ({"instruction": "add", "input": "1", "chosen": "2", "rejected": "3"}, ("add\n\n1", "2", "3")),
    ],
)
def test_pairs_of_texts_are_told_by_their_columns(tiny_tokenizer, row, parts):
    text = preference_row("a:1", row, PLAIN, tiny_tokenizer)
    assert (text.prompt, *text.responses) == parts


def test_stepwise_supervision_is_read_as_trl_does(tiny_tokenizer):
    row = {"prompt": "1+1=", "completions": ["first", "then\n"], "labels": [True, False]}
    text = step_row("a:1", row, PLAIN, tiny_tokenizer)
    assert (text.responses, text.labels) == (("first\n", "then\n"), (1.0, 0.0))
    own = step_row("a:1", {"prompt": "1+1=", "steps": ["first", "then"], "labels": [1, 0.25]}, PLAIN, tiny_tokenizer)
    assert (own.responses, own.labels) == (("first", "then"), (1.0, 0.25))


@pytest.mark.parametrize(("label", "value"), [(True, 1), (False, 0), (1, 1), ("true", 1), ("False", 0), ("0", 0)])
def test_a_single_response_has_a_label(tiny_tokenizer, label, value):
    row = {"prompt": "1+1=", "completion": "2", "label": label}
    text = unpaired_row("a:1", row, PLAIN, tiny_tokenizer)
    assert (text.prompt, text.responses, text.labels) == ("1+1=", ("2",), (value,))


SPEECH = {"from": "parrot", "value": "2"}
BAD_ROWS = [
    (sft_row, {"text": "1=1"}, "missing column 'prompt' .*'messages', 'conversations', .*found \\['text'\\]"),
    (sft_row, {"prompt": "1", "response": "2", "messages": [USER, GOOD]}, "as 'prompt' and as 'messages', with the co"),
    (sft_row, {"messages": [USER, GOOD], "instruction": "1", "output": "2"}, "hide all but one .* instruction: null"),
    (sft_row, {"messages": []}, "expected text or a list of {'role', 'content'} messages, found \\[\\]"),
    (sft_row, {"messages": "1+1=2"}, "expected text or a list of .* found '1\\+1=2'"),
    (sft_row, {"messages": ["1", "2"]}, "expected text or a list of"),
    (sft_row, {"messages": [{"role": "user"}]}, "expected text or a list of"),
    (sft_row, {"messages": [GOOD, USER]}, "the last of `messages` must be the assistant's"),
    (sft_row, {"messages": [USER, {"role": "assistant", "content": 2}]}, "the content of the answer must be a text, f"),
    (sft_row, {"conversations": [SPEECH]}, "a message is from 'parrot'; known: human, user, gpt"),
    (sft_row, {"instruction": ["add"], "output": "2"}, "instruction and input must be texts, found \\['add'\\]"),
    (sft_row, {"instruction": "add"}, "missing column 'solution' .*'output'\\); found \\['instruction'\\]"),
    (sft_row, {"prompt": "1", "response": 2}, "expected text or a list of .* found 2"),
    (sft_row, {"prompt": None, "response": "2"}, "expected text or a list of .* found None"),
    (sft_row, {"prompt": "1", "response": "2", "weight": -1}, "weight must be a number of at least 0, found -1"),
    (preference_row, {"chosen": "2", "rejected": "3"}, "missing column 'prompt' .*share no beginning"),
    (preference_row, {"prompt": "1", "rejected": "3"}, "missing column 'chosen' .*found \\['prompt', 'rejected'\\]"),
    (preference_row, {"prompt": "1", "chosen": "2", "rejected": [BAD]}, "chosen is of the type str, rejected list"),
    (preference_row, {"chosen": [USER, GOOD], "rejected": [GOOD, BAD]}, "must share all but the last message"),
    (preference_row, {"prompt": "1", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "is none of the messages bef"),
    (preference_row, {"prompt": "1", "chosen": 2, "rejected": 3}, "expected text or a list of .* found 2"),
    (unpaired_row, {"prompt": "1", "completion": "2"}, "missing column 'label'; found \\['completion', 'prompt'\\]"),
    (unpaired_row, {"prompt": "1", "completion": "2", "label": "good"}, "a label must be .* found 'good'"),
    (unpaired_row, {"prompt": "1", "completion": "2", "label": 0.5}, "label must be true or false, found 0.5"),
    (unpaired_row, {"completion": "2", "label": True}, "missing column 'prompt' .or 'question', 'problem', 'instruc"),
    (
        step_row,
        {"prompt": "1", "labels": [1]},
        "missing column 'steps' .or 'completions'.; found \\['labels', 'prompt'",
    ),
    (step_row, {"prompt": "1", "completions": ["2", ""], "labels": [1, 1]}, "`completions` must be a list of texts th"),
    (step_row, {"prompt": "1", "steps": ["2"], "labels": ["right"]}, "a label must be .* found 'right'"),
    (step_row, {"prompt": "1", "steps": ["2", "3"], "labels": True}, "`labels` must be a list, one number for each"),
]


@pytest.mark.parametrize(("read", "row", "message"), BAD_ROWS)
def test_rows_in_no_known_shape_are_named_with_what_was_found(chat_tokenizer, read, row, message):
    with pytest.raises(InputError, match=f"^data/a.jsonl:7: .*{message}"):
        read("data/a.jsonl:7", row, PLAIN, chat_tokenizer)


def test_a_mixture_gives_each_source_its_share_and_all_of_a_large_one_in_time():
    sources, count = [0] * 30 + [1] * 10, 40
    items = Items([5] * count, [1.0] * count, sources=sources, weights=(1.0, 3.0))
    epochs = [[i for b in plan_epoch(items, Layout(4), seed=1, epoch=e) for i in b.items] for e in range(3)]
    for taken in epochs:
        assert sum(i < 30 for i in taken) == 10
        assert sorted(i for i in taken if i >= 30) == sorted(list(range(30, 40)) * 3)
    assert sorted(i for taken in epochs for i in taken if i < 30) == list(range(30)), "no row twice before all once"
    assert epochs[0] == [i for b in plan_epoch(items, Layout(4), seed=1, epoch=0) for i in b.items]
    short = plan_epoch(items, Layout(4), seed=1, epoch=0, num_batches=2)
    assert sorted(i < 30 for b in short for i in b.items) == [False] * 6 + [True] * 2


@pytest.mark.parametrize("packing", [False, True])
def test_sources_are_mixed_by_weight_with_columns_split_and_limit(tmp_path, tiny_tokenizer, packing):
    first = SHAPES["rows.parquet"](tmp_path / "rows.parquet", ROWS)
    second = SHAPES["splits"](tmp_path / "splits", [{"q": f"{i}!", "a": "yes"} for i in range(30)])
    given = [
        {"path": str(first), "weight": 1, "limit": 20},
        {"path": str(second), "weight": 4, "columns": {"prompt": "q", "response": "a"}},
    ]
    data = SFTDataModule(given, tokenizer=tiny_tokenizer, packing=packing, max_length=40, batch_size=5)
    texts = [tiny_tokenizer.decode(ids) for b in data.train_dataloader() for ids in b["input_ids"]]
    assert sum("yes" in text for text in texts) == round(0.8 * len(texts))
    assert not any("yes" in text and "so" in text for text in texts)


@pytest.mark.parametrize(
    ("files", "val_files", "message"),
    [
        ([{"path": "a.jsonl", "weight": 1}, "b.jsonl"], [], r"train_files have the weights \[1, None\]"),
        (
            ["a.jsonl"],
            [{"path": "b.jsonl", "weight": 1}],
            "val_files have weights, but validation takes every row once",
        ),
        ([{"path": "a.jsonl", "wight": 1}], [], "unknown key 'wight'; did you mean 'weight'"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused_at_once(files, val_files, message):
    with pytest.raises(InputError, match=message):
        SFTDataModule(files, val_files)


def test_a_source_without_a_row_left_is_named(tmp_path, tiny_tokenizer):
    for name, answer in (("a", "2"), ("b", "")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "1=", "response": answer}) + "\n")
    given = [{"path": str(tmp_path / f"{name}.jsonl"), "weight": 1} for name in "ab"]
    with pytest.raises(InputError, match=r"b\.jsonl: no row is left to train on, but it has a weight"):
        SFTDataModule(given, tokenizer=tiny_tokenizer).train_dataloader()


def test_pairs_and_steps_come_from_tables_and_mixtures_too(tmp_path, tiny_tokenizer):
    pairs = [{"prompt": f"{i}=", "chosen": "1", "rejected": "2"} for i in range(8)]
    path = SHAPES["saved"](tmp_path / "pairs", pairs)
    data = PreferenceDataModule([{"path": str(path), "weight": 2}], tokenizer=tiny_tokenizer, batch_size=4)
    assert [b["pairs"].shape for b in data.train_dataloader()] == [(2, 4), (2, 4)]
    steps = [{"prompt": f"{i}=", "completions": ["1", "2"], "labels": [True, i % 2 == 0]} for i in range(8)]
    path = SHAPES["rows.parquet"](tmp_path / "steps.parquet", steps)
    [batch] = StepDataModule([str(path)], tokenizer=tiny_tokenizer).train_dataloader()
    assert (batch["labels"] == 1).sum() == 12
    assert (batch["labels"] == 0).sum() == 4


def test_rows_of_csv_have_numbers_and_chats(tmp_path, chat_tokenizer):
    path = tmp_path / "a.csv"
    chat = json.dumps([USER, GOOD]).replace('"', '""')
    path.write_text(f'messages,weight\n"{chat}",0.5\n')
    [(place, row)] = read_source(find_source(path))
    text = sft_row(place, row, PLAIN, chat_tokenizer)
    assert (text.prompt, text.responses, text.weight) == ("<bos>u:1+1=<eos>a:", ("2",), 0.5)
