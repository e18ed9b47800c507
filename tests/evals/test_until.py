"""Evaluations that end when the accuracy is known well enough."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from harness.commands.evaluate import eval_tasks, table
from harness.engines import EngineConfig
from harness.errors import InputError
from harness.evals.closing import caveats
from harness.evals.evaluation import Until
from harness.evals.run import run
from harness.evals.samples import RESULTS, SAMPLES, read_rollouts
from harness.evals.until import parse_until
from harness.metrics.sequential import confidence_sequence, random_order
from harness.report.blocks import BlockWriter, Choice
from harness.report.runs import evaluation as page_of
from harness.types import Problem
from tests.evals.conftest import ScriptedEngine, sums
from tests.evals.test_run import DyingEngine, Killed, evaluation, half_right, served

RULE = Until(0.12)


def asked(count=400, until=RULE, seed=0, **options):
    """`count` sums in the random order of a seed."""
    by_id = {problem.id: problem for problem in sums(count)}
    whole = evaluation([by_id[key] for key in random_order(list(by_id), seed)], **options)
    return replace(whole, data=replace(whole.data, total=count, order=seed), until=until)


def test_no_more_problems_are_asked_than_the_interval_needs(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    results = run(asked(), served(engine, byte_tokenizer), tmp_path, {})
    rollouts = read_rollouts(tmp_path)
    used = len(rollouts)
    assert used == engine.num_samples == results["until"]["problems"] < 250
    assert [rollout.problem.id for rollout in rollouts] == random_order([f"sum/{i}" for i in range(400)])[:used]
    found = confidence_sequence([float(rollout.responses[0].correct) for rollout in rollouts], 0.12)
    accuracy = results["metrics"]["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((found.low, found.high), abs=1e-6)
    half = (found.high - found.low) / 2
    assert results["until"] == {
        "rule": "half_width<0.12",
        "reached": True,
        "half_width": round(half, 6),
        "problems": used,
        "of": 400,
    }
    assert half < 0.12
    assert results["limit"] == {"problems": used, "of": 400, "order": 0, "until": "half_width<0.12"}
    said = f"only {used} of 400 problems, in random order, until half_width<0.12"
    assert table(results, tmp_path).startswith(f"sums: {said}, ")
    assert page_of(tmp_path, "some", BlockWriter(BytesIO()), Choice())[0]["name"] == f"some ({said})"
    assert not any("leave out --limit" in caveat for caveat in caveats(results))


def test_where_all_problems_are_too_few_it_says_so(byte_tokenizer, tmp_path):
    results = run(asked(40), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {})
    assert (results["until"]["reached"], results["until"]["problems"], results["limit"]) == (False, 40, None)
    assert any(caveat.startswith("all 40 problems leave a half width of 0.") for caveat in caveats(results))


def test_a_killed_run_ends_where_an_unbroken_one_does(byte_tokenizer, tmp_path):
    whole = run(asked(), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "whole", {})
    engine = half_right(byte_tokenizer)
    for polls in (20, 60):
        with pytest.raises(Killed):
            run(
                asked(),
                served(DyingEngine(engine, polls), byte_tokenizer),
                tmp_path / "killed",
                {},
            )
        engine.close()
    resumed = run(asked(), served(engine, byte_tokenizer), tmp_path / "killed", {})
    assert resumed == whole
    assert engine.num_samples == whole["until"]["problems"]
    assert (tmp_path / "killed" / SAMPLES).read_bytes() == (tmp_path / "whole" / SAMPLES).read_bytes()
    # A narrower interval is another question; of a finished one the same command draws nothing.
    assert run(asked(), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "whole", {}) == whole
    with pytest.raises(InputError, match="is of another limit"):
        run(asked(until=Until(0.1)), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "whole", {})


def test_what_cannot_be_stopped_is_refused_before_anything_is_drawn(byte_tokenizer, byte_model_dir, tmp_path):
    engine = ScriptedEngine(byte_tokenizer, lambda prompt, seed: "")
    inorder = replace(evaluation(), until=RULE)
    with pytest.raises(InputError, match="--until asks problems in a random order; give --order"):
        run(inorder, served(engine, byte_tokenizer), tmp_path, {})
    clustered = replace(asked(4), data=replace(asked(4).data, problems=(Problem("a", "q", "1", cluster="c"),) * 2))
    with pytest.raises(InputError, match="its problems share clusters"):
        run(clustered, served(engine, byte_tokenizer), tmp_path, {})
    with pytest.raises(InputError, match=r"write half_width<0\.02"):
        eval_tasks("arithmetic", str(byte_model_dir), until="error<0.02")
    with pytest.raises(InputError, match="a shard is a part"):
        eval_tasks("arithmetic", str(byte_model_dir), until="half_width<0.02", shard="1/2", output=tmp_path)
    assert parse_until(" half_width < .05 ") == Until(0.05)
    assert parse_until("") is None
    assert not (tmp_path / RESULTS).exists()


def test_the_command_stops_by_itself(byte_model_dir, tmp_path, capsys):
    config = EngineConfig(kind="transformers", dtype="float32", max_num_seqs=32)
    options = {"engine": config, "max_tokens": 2, "protocol": "gsm8k", "until": "half_width<0.1"}
    assert eval_tasks("arithmetic", str(byte_model_dir), output=tmp_path, **options) == 0
    results = json.loads((tmp_path / RESULTS).read_text())
    # A random model is always wrong, which is soon known.
    assert results["metrics"]["accuracy"]["value"] == 0.0
    assert np.isclose(results["until"]["half_width"], results["metrics"]["accuracy"]["high"] / 2, atol=1e-6)
    assert results["until"]["problems"] < 100
    assert "until half_width<0.1" in capsys.readouterr().out
