"""Rows that are tokenised when their step comes: the same rows and losses as those tokenised ahead."""

from __future__ import annotations

import json

import pytest
import torch

from harness.datamodules import SFTDataModule
from harness.datamodules.batches import Layout
from harness.datamodules.lazy import line_bounds
from harness.errors import InputError

ROWS = [{"prompt": f"{i}=", "response": "2" * (1 + i % 7), "weight": 1 + i % 2} for i in range(50)]


def write(path, rows=ROWS):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return [str(path)]


def sequences(data):
    return sorted(tuple(ids[ids != 1].tolist()) for b in data.train_dataloader() for ids in b["input_ids"])


def test_lazy_rows_are_those_tokenised_ahead(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl")
    ahead, lazily = (
        SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize=how, batch_size=4) for how in ("ahead", "lazily")
    )
    assert sequences(lazily) == sequences(ahead)
    for batch in lazily.train_dataloader():
        assert batch["step_denominator"] == (batch["weights"] * (batch["labels"] != -100)).sum()
        assert batch["step_tokens"] == (batch["weights"] > 0).sum()


def test_ranks_and_micro_batches_share_the_denominator_of_their_step(tmp_path, tiny_tokenizer, monkeypatch):
    files = write(tmp_path / "a.jsonl")

    def batches(layout):
        data = SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize="lazily")
        monkeypatch.setattr(data, "_layout", lambda _: layout)
        return list(data.train_dataloader())

    whole = batches(Layout(8))
    for rank in range(2):
        found = batches(Layout(2, 2, 2, rank))
        assert [b["step_denominator"] for b in found if b["ends_step"]] == [b["step_denominator"] for b in whole]
        assert [b["step_tokens"] for b in found if b["ends_step"]] == [b["step_tokens"] for b in whole]


def test_a_resumed_loader_yields_the_remaining_batches(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl")
    loaders = [SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize="lazily").train_dataloader() for _ in range(2)]
    batches = iter(loaders[0])
    seen = [next(batches) for _ in range(3)]
    loaders[1].load_state_dict(loaders[0].state_dict())
    for batch, expected in zip(
        [*seen, *loaders[1]],
        SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize="lazily").train_dataloader(),
        strict=True,
    ):
        assert torch.equal(batch["input_ids"], expected["input_ids"])


def test_a_step_with_nothing_to_learn_from_has_no_labels(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", [{"prompt": "1=", "response": ""}, {"prompt": "1=", "response": "2"}])
    found = list(SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize="lazily", batch_size=1).train_dataloader())
    assert sorted((batch["labels"] != -100).sum().item() for batch in found) == [0, 2]
    assert sorted(batch["step_denominator"] for batch in found) == [1.0, 2.0]


def test_mistakes_name_file_and_line_at_once_or_when_their_step_comes(tmp_path, tiny_tokenizer):
    files = write(tmp_path / "a.jsonl", [*ROWS[:2], {"prompt": "1="}])
    with pytest.raises(InputError, match=r"a\.jsonl:3: missing column 'response'"):
        SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize="lazily").setup("fit")
    files = write(tmp_path / "b.jsonl", [*ROWS * 30, {"prompt": "1="}])
    data = SFTDataModule(files, tokenizer=tiny_tokenizer, tokenize="lazily")
    data.setup("fit")
    with pytest.raises(InputError, match=r"b\.jsonl:1501: missing column 'response'"):
        list(data.train_dataloader())
    (tmp_path / "c.json").write_text(json.dumps(ROWS))
    with pytest.raises(InputError, match=r"c\.json: only rows of uncompressed \.jsonl files can be found"):
        SFTDataModule([str(tmp_path / "c.json")], tokenizer=tiny_tokenizer, tokenize="lazily").setup("fit")
    with pytest.raises(InputError, match="packing needs the lengths of all rows"):
        SFTDataModule([], packing=True, tokenize="lazily")


@pytest.mark.parametrize("text", [b"", b"a\n", b"a\nbc", b"\n\na\r\n", b"abc"])
def test_lines_are_found_as_python_finds_them(tmp_path, monkeypatch, text):
    monkeypatch.setattr("harness.datamodules.lazy.BLOCK", 2)
    (tmp_path / "a").write_bytes(text)
    starts, lengths = line_bounds(tmp_path / "a")
    assert [text[start : start + length] for start, length in zip(starts, lengths, strict=True)] == text.splitlines(
        True
    )
