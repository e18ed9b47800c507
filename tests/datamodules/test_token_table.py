"""Rows kept as files of tokens: the same batches, found again, and made anew when anything they depend on changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from harness.datamodules import PreferenceDataModule, SFTDataModule, base, token_table
from harness.datamodules.token_table import table_key
from harness.datamodules.tokenize import preference_row, sft_row
from harness.errors import InputError
from harness.prompts.find import find_template
from harness.sources import find_source

KINDS = {
    "padded": (SFTDataModule, {}),
    "packed": (SFTDataModule, {"packing": True}),
    "pairs": (PreferenceDataModule, {"long_pairs": "truncate"}),
}


@pytest.fixture
def files(tmp_path):
    """More rows than are tokenised at a time; some are cut, some dropped."""
    rows = [
        {"prompt": f"{i}+1=", "response": "2." * (i % 23), "chosen": "3" * (1 + i % 5), "rejected": "4" * (i % 40)}
        for i in range(2100)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:1500]))
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps(row | {"weight": i % 3}) + "\n" for i, row in enumerate(rows[1500:]))
    )
    return [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "harness" / "tokens"


def batches(kind, files, tokenizer):
    build, options = KINDS[kind]
    data = build(files, tokenizer=tokenizer, batch_size=16, max_length=32, **options)
    return list(data.train_dataloader())


@pytest.mark.parametrize("kind", KINDS)
def test_mapped_files_give_the_batches_of_rows_in_memory(files, cache, tiny_tokenizer, monkeypatch, kind):
    expected = batches(kind, files, tiny_tokenizer)
    assert not cache.exists()
    monkeypatch.setattr(base, "CACHED_BYTES", 0)
    for turn in ("first", "second"):
        if turn == "second":  # found, not made again
            monkeypatch.setattr(token_table, "encode_rows", None)
        found = batches(kind, files, tiny_tokenizer)
        assert len(found) == len(expected) > 1
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                same = torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value
                assert same, name
    assert len(list(cache.iterdir())) == 1


def test_the_key_depends_on_rows_reader_template_and_tokenizer_and_not_on_the_path(files, tmp_path, tiny_tokenizer):
    import copy
    import shutil

    template = find_template("plain")
    other = copy.deepcopy(tiny_tokenizer)
    other.add_tokens(["<new>"])
    changed = tmp_path / "changed.jsonl"
    changed.write_text((tmp_path / "a.jsonl").read_text() + "\n")

    def key(files, read, template, tokenizer):
        return table_key([find_source(file) for file in files], read, template, tokenizer)

    keys = [
        key(files, sft_row, template, tiny_tokenizer),
        key(files, preference_row, template, tiny_tokenizer),
        key(files, sft_row, find_template("gsm8k"), tiny_tokenizer),
        key(files, sft_row, template, other),
        key([str(changed), files[1]], sft_row, template, tiny_tokenizer),
        key(files[::-1], sft_row, template, tiny_tokenizer),
        key([{"path": files[0], "limit": 5}, files[1]], sft_row, template, tiny_tokenizer),
    ]
    assert len(set(keys)) == len(keys)
    moved = shutil.copy(files[0], tmp_path / "moved.jsonl")
    assert key([str(moved), files[1]], sft_row, template, tiny_tokenizer) == keys[0]


def test_a_long_prompt_in_mapped_files_is_named_by_file_and_line(files, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(base, "CACHED_BYTES", 0)
    with open(files[1], "a") as file:
        file.write(json.dumps({"prompt": "1" * 40, "response": "2"}) + "\n")
    for _ in range(2):
        with pytest.raises(InputError, match=r"b\.jsonl:601: the prompt has 4\d tokens, max_length is 32"):
            batches("padded", files, tiny_tokenizer)


def test_a_bad_row_leaves_no_files(files, cache, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(base, "CACHED_BYTES", 0)
    with open(files[1], "a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match=r"b\.jsonl:601: missing column"):
        batches("padded", files, tiny_tokenizer)
    assert not list(cache.iterdir())


def test_damaged_files_are_refused_by_name(files, cache, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(base, "CACHED_BYTES", 0)
    batches("padded", files, tiny_tokenizer)
    (folder,) = cache.iterdir()
    ids = folder / "ids.bin"
    ids.write_bytes(ids.read_bytes()[:-4])
    with pytest.raises(InputError, match=f"{folder}.*delete the folder"):
        batches("padded", files, tiny_tokenizer)
    assert np.load(folder / "weights.npy").shape == (2100,)
