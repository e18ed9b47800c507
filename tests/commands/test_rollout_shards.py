"""Rollouts in shards are those of one process, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import harness.engines
from harness.commands.rollout import rollout
from harness.engines import EngineConfig
from harness.errors import InputError
from harness.selection import TopK
from harness.store import read_rows, write_rows
from harness.types import Problem, Rollout, SamplingConfig

# One sample at a time, as rounding depends on what else is in a batch.
ENGINE = EngineConfig(kind="transformers", dtype="float32", max_num_seqs=1)
SAMPLING = SamplingConfig(n=2, max_tokens=6)


@pytest.fixture
def sample(tiny_model_dir, tmp_path):
    write_rows(tmp_path / "problems.jsonl", [Problem(f"p{i}", f"{i} + 1", str(i + 1)) for i in range(7)])

    def run(name: str, **options) -> Path:
        output = tmp_path / f"{name}.jsonl"
        given = {"model": str(tiny_model_dir), "problems": [str(tmp_path / "problems.jsonl")], "engine": ENGINE}
        assert rollout(output=output, **{**given, "sampling": SAMPLING, **options}) == 0
        return output

    return run


def test_merged_shards_are_the_run_in_one_piece_and_the_merge_opens_no_engine(sample, tmp_path, monkeypatch):
    selected = {"select": TopK(keep_cut=True, keep_unanswered=True), "reward_threshold": -1.0}
    whole = sample("whole", **selected, rows=tmp_path / "whole.rows.jsonl")
    for number in (3, 1, 2):
        sample("split", **selected, rows=tmp_path / "split.rows.jsonl", shard=f"{number}/3")
    assert not (tmp_path / "split.rows.jsonl").exists()
    third = read_rows(tmp_path / "split.jsonl.shards/3-of-3.jsonl", Rollout)
    assert [row.problem.id for row in third] == ["p2", "p5"]
    monkeypatch.setattr(harness.engines, "open_engine", None)
    for _ in range(2):  # merging again changes nothing
        split = sample("split", **selected, rows=tmp_path / "split.rows.jsonl", shard="merge")
        for suffix in (".jsonl", ".jsonl.provenance", ".rows.jsonl"):
            assert split.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes(), suffix
    assert {path.name for path in tmp_path.glob("split.*")} == {
        path.name.replace("whole", "split") for path in tmp_path.glob("whole.*")
    } | {"split.jsonl.shards"}


def test_shards_that_are_missing_cut_off_or_of_something_else_are_named(sample, tiny_model_dir, tmp_path):
    with pytest.raises(InputError, match=r"holds no finished shard; run `harness rollout` with --shard 1/N to N/N"):
        sample("out", shard="merge")
    for number in (1, 2, 3):
        sample("out", shard=f"{number}/3")
    second = tmp_path / "out.jsonl.shards/2-of-3.jsonl"
    rows = second.read_bytes()
    second.write_bytes(rows[: rows.index(b"\n") + 1])
    with pytest.raises(InputError, match=r"shard 2 of 3 is not finished; run it with --shard 2/3, then merge again"):
        sample("out", shard="merge")
    sample("out", shard="2/3")
    assert second.read_bytes() == rows
    with pytest.raises(InputError, match=r"1-of-3\.jsonl:1: made with another sampling\.seed"):
        sample("out", shard="merge", sampling=SamplingConfig(n=2, max_tokens=6, seed=1))
    with pytest.raises(InputError, match=r"1-of-3\.jsonl:1: made with another answer_protocol.*template"):
        sample("out", shard="merge", template="gsm8k")
    other = shutil.copytree(tiny_model_dir, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="merge with the model that was sampled from"):
        sample("out", shard="merge", model=str(other))
    assert not (tmp_path / "out.jsonl").exists()
    sample("out", shard="merge")


def test_there_may_be_fewer_problems_than_shards(sample, capsys):
    for number in (1, 2, 3):
        sample("out", limit=2, shard=f"{number}/3")
    assert "out.jsonl: shard 3/3 holds none of its problems" in capsys.readouterr().out
    sample("out", limit=2, shard="merge")


def test_a_server_is_asked_by_one_command(sample):
    with pytest.raises(InputError, match=r"--shard 1/2 is for jobs with engines of their own; give all servers to one"):
        sample("out", engine=EngineConfig(kind=["http://a:1", "http://b:1"]), shard="1/2")
