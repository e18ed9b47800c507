"""An evaluation in shards is the evaluation in one piece, bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest

import harness.engines
from harness.errors import InputError
from harness.evals.samples import SAMPLES
from harness.evals.shards import shards_to_merge
from harness.rewards import ArithmeticSteps
from harness.rollouts.shards import parse_shard
from harness.search import MCTS
from tests.evals.test_command import evaluate, write_rows

COMMON = {"protocol": "gsm8k", "limit": None, "n": 2, "k": "1,2", "reward": ArithmeticSteps()}


def document(folder) -> dict:
    results = json.loads((folder / "results.json").read_text())
    results.pop("sha256")  # of all the rest, the output's name among it
    for option in ("output", "export"):
        results["config"].pop(option)
    return results


@pytest.fixture
def task(tmp_path) -> str:
    return str(write_rows(tmp_path / "sums.jsonl", 11))


@pytest.mark.parametrize("search", [None, MCTS(rollouts=2)], ids=["samples", "search"])
def test_merged_shards_are_the_unsharded_run_and_the_merge_opens_no_engine(
    byte_model_dir, tmp_path, task, monkeypatch, search
):
    options = COMMON | {"task": task, "search": search}
    evaluate(byte_model_dir, tmp_path / "whole", **options)
    for number in (3, 1, 2):
        evaluate(byte_model_dir, tmp_path / "split", **options, shard=f"{number}/3")
    part = json.loads((tmp_path / "split/shards/3-of-3/results.json").read_text())
    assert part["limit"] == {"problems": 3, "of": 11, "shard": "3/3"}
    monkeypatch.setattr(harness.engines, "open_engine", None)
    for _ in range(2):  # merging again changes nothing
        evaluate(byte_model_dir, tmp_path / "split", **options, shard="merge", export="inspect")
        assert document(tmp_path / "split") == document(tmp_path / "whole")
        assert (tmp_path / "split" / SAMPLES).read_bytes() == (tmp_path / "whole" / SAMPLES).read_bytes()
    assert (tmp_path / "results.csv").read_text().count("split") == 2 * (tmp_path / "results.csv").read_text().count(
        "whole"
    )


def test_shards_that_are_missing_or_of_something_else_are_named(byte_model_dir, tmp_path, task):
    options = COMMON | {"task": task}

    def run(shard, **changed):
        return evaluate(byte_model_dir, tmp_path / "out", **options | changed, shard=shard)

    with pytest.raises(InputError, match=r"holds no finished shard; run `harness eval` with --shard 1/N to N/N"):
        run("merge")
    for number in (1, 3):
        run(f"{number}/4")
    with pytest.raises(InputError, match=r"shards 2, 4 of 4 are not finished; run them with --shard 2/4 and so on"):
        run("merge")
    run("2/4")
    with pytest.raises(InputError, match=r"shard 4 of 4 is not finished; run it with --shard 4/4, then merge again"):
        run("merge")
    run("4/4")
    with pytest.raises(InputError, match=r"of another sampling\.seed.*merge with the options of the shards"):
        run("merge", seed=1)
    with pytest.raises(InputError, match=r"hold too few samples of problem 'sums/0' as asked now"):
        run("merge", n=3)
    other = shutil.copytree(byte_model_dir, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="merge with the model that was sampled from"):
        evaluate(other, tmp_path / "out", **options, shard="merge")
    assert not (tmp_path / "out/results.json").exists()
    assert run("merge") == 0


def test_a_run_without_shards_takes_what_the_finished_ones_hold_and_draws_the_rest(
    byte_model_dir, tmp_path, task, monkeypatch
):
    options = COMMON | {"task": task}
    evaluate(byte_model_dir, tmp_path / "whole", **options)
    evaluate(byte_model_dir, tmp_path / "split", **options, shard="2/2")
    submitted, open_engine = [], harness.engines.open_engine

    def counting(*arguments):
        engine = open_engine(*arguments)
        submit = engine.submit
        monkeypatch.setattr(engine, "submit", lambda request: (submitted.append(request), submit(request)))
        return engine

    monkeypatch.setattr(harness.engines, "open_engine", counting)
    evaluate(byte_model_dir, tmp_path / "split", **options)
    assert len(submitted) == 6  # of 11
    assert document(tmp_path / "split") == document(tmp_path / "whole")


def test_a_task_may_have_fewer_problems_than_there_are_shards(byte_model_dir, tmp_path, capsys):
    task = str(write_rows(tmp_path / "sums.jsonl", 2))
    for number in (1, 2, 3):
        assert evaluate(byte_model_dir, tmp_path / "out", **COMMON | {"task": task}, shard=f"{number}/3") == 0
    assert "sums: shard 3/3 holds none of its problems" in capsys.readouterr().out
    assert len(shards_to_merge(tmp_path / "out", 2)) == 2


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "3/", "a/b", "3-of-4"])
def test_a_shard_is_written_as_a_fraction(text):
    with pytest.raises(InputError, match=rf"--shard '{text}': write 3/64 for the third of 64 shards"):
        parse_shard(text)


def test_shards_have_one_output(byte_model_dir, task):
    with pytest.raises(InputError, match=r"--shard 1/2 needs --output"):
        evaluate(byte_model_dir, None, **COMMON | {"task": task}, shard="1/2")
