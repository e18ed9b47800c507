"""The examples of docs/extending.md run as their headers say, from outside the package."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys

import pytest
import torch
import yaml

from harness.cli.main import main
from harness.commands.prepare import prepare
from harness.evals.rows import load_task
from harness.evals.task import find_tasks
from harness.models.losses import PairLogps, PreferenceLossConfig, find_loss, needs_reference
from harness.prompts.find import find_template
from harness.store import read_jsonl
from tests.paths import ROOT

ENGINE = ("--engine.kind", "transformers", "--engine.max_model_len", "128")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples") / "data"
    prepare(folder, num_sft=12, num_train=6, num_probe=2, num_test=3)
    return folder


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder of a user's with the examples in it, as the current folder."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name == "examples" or name.startswith("examples.")]:
        del sys.modules[name]


def test_every_example_is_short():
    for path in (ROOT / "examples").iterdir():
        assert len(path.read_text().splitlines()) < 60, path.name


def test_the_reward_scores_a_rollout(lab, data):
    sampling = ("--sampling.n", "2", "--sampling.max_tokens", "8")
    reward = ("--reward", "examples/reward.py:ShortAndRight", "--reward.per_token", "0.01", "--template", "arithmetic")
    where = ("--model", str(data / "base"), "--problems", f"[{data}/test.jsonl]", "--output", "out.jsonl")
    assert main(["rollout", *where, *sampling, *reward, *ENGINE]) == 0
    rows = [row for _, row in read_jsonl("out.jsonl") if "responses" in row]
    assert len(rows) == 3
    for scored in (scored for row in rows for scored in row["responses"]):
        expected = scored.get("correct", False) - 0.01 * len(scored["response"]["token_ids"])
        assert scored["reward"] == pytest.approx(expected)


def test_the_search_task_and_template_serve_an_evaluation(lab, data):
    search = ("--search", "examples/search.py:BestOfTwo", "--reward", "ArithmeticSteps")
    where = ("--model", str(data / "base"), "--output", "results", "--max_tokens", "8")
    assert main(["eval", "--task", "examples/task.yaml", *where, *search, *ENGINE]) == 0
    results = json.loads((lab / "results" / "results.json").read_text())
    assert results["counts"]["problems"] == 3
    assert "BestOfTwo" in str(results["search"])
    asked = ("--task", "examples/task.yaml", "--protocol", "examples/template.yaml", "--output", "again")
    assert main(["eval", *asked, "--model", str(data / "base"), "--max_tokens", "8", *ENGINE]) == 0
    assert "RESULT" in str(json.loads((lab / "again" / "results.json").read_text())["protocol"])


def test_the_template_reads_answers_by_its_own_rule(lab):
    template = find_template("examples/template.yaml")
    [task] = find_tasks("examples/task.yaml")
    problem = load_task(task).problems[0]
    prompt = template.render(problem)
    assert prompt.startswith("Problem: A pen costs $2.")
    assert prompt.endswith("Problem: 12 + 30\nSolution:")
    assert template.answer_protocol.rules[0].pattern == "RESULT: *"


def test_the_module_scheduler_and_selector_train_on_their_own_rollouts(lab, data):
    config = yaml.safe_load((ROOT / "configs/recipes/bstar/arithmetic/21_online_rft.yaml").read_text())
    config["run_dir"] = "run"
    config["model"] = {
        "class_path": "examples/module.py:EntropySFT",
        "init_args": {"checkpoint": str(data / "base"), "bonus": 0.1, "optimizer": {"lr": 1e-3}},
    }
    config["data"]["init_args"] = {"train_files": [], "batch_size": 2, "max_length": 96, "batches_per_epoch": 1}
    config["trainer"] |= {"max_epochs": 2, "accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1}
    config["trainer"]["callbacks"][1]["init_args"] = {
        "template": "arithmetic",
        "problems": [str(data / "train.jsonl")],
        "scheduler": {
            "class_path": "examples/scheduler.py:Warming",
            "init_args": {
                "sampling": {"n": 2, "max_tokens": 8, "temperature": 0.7},
                "step": 0.2,
                "reward_threshold": -1.0,
            },
        },
        # A random model is never right, so everything is kept.
        "select": {"class_path": "TopK", "init_args": {"keep_cut": True, "keep_unanswered": True}},
        "engine": {"kind": "transformers"},
    }
    (lab / "mine.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "mine.yaml"]) == 0
    manifests = [json.loads((lab / f"run/rollouts/iter_00{i}.json").read_text()) for i in (1, 2)]
    assert [m["config"]["sampling"]["temperature"] for m in manifests] == pytest.approx([0.7, 0.9])
    assert "train/entropy" in (lab / "run" / "metrics.csv").read_text().splitlines()[0]
    assert main(["replay", "run", "--select", "examples/selector.py:InReach", "--select.low", "0.0"]) == 0


def test_the_loss_needs_no_reference_and_is_what_its_paper_says(lab):
    loss = find_loss("examples.loss.odds_ratio")
    assert not needs_reference(loss)
    chosen, rejected = math.log(0.8), math.log(0.3)
    zeros = torch.zeros(1)
    pair = PairLogps(torch.tensor([2 * chosen]), torch.tensor([3 * rejected]), zeros, zeros, zeros + 2, zeros + 3)
    odds = math.log(0.8 / 0.2) - math.log(0.3 / 0.7)
    assert loss(pair, PreferenceLossConfig()).item() == pytest.approx(math.log1p(math.exp(-odds)), rel=1e-5)


def test_the_loss_trains(lab, data):
    rows = [row for _, row in read_jsonl(data / "sft.jsonl")]
    pairs = [
        {"prompt": a["question"], "chosen": a["solution"], "rejected": b["solution"]}
        for a, b in itertools.pairwise(rows)
    ]
    (lab / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    config = {
        "run_dir": "dpo",
        "model": {
            "class_path": "DPOModule",
            "init_args": {"checkpoint": str(data / "base"), "losses": {"nll": 1.0, "examples.loss.odds_ratio": 0.1}},
        },
        "data": {"class_path": "PreferenceDataModule", "init_args": {"train_files": ["pairs.jsonl"]}},
        "trainer": {"max_steps": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
    }
    (lab / "dpo.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "dpo.yaml"]) == 0
    assert "train/loss" in (lab / "dpo" / "metrics.csv").read_text()
