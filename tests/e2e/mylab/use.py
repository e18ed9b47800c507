"""Run by tests/e2e/test_release.py in a fresh environment, in an empty folder: `mylab` by name in every command."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import yaml

import harness
from harness.cli.main import main
from harness.store import read_jsonl

LAB = Path(str(files("mylab")))
ENGINE = ("--engine.kind", "transformers", "--engine.max_model_len", "128")
TRAINER = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, "enable_progress_bar": False}
TRAINER["reload_dataloaders_every_n_epochs"] = 1


def call(*arguments: str) -> None:
    assert main(list(arguments)) == 0, arguments


def fit(name: str, model: dict, data: dict, *callbacks: dict) -> str:
    """Train by a config of its own; the header of its metrics."""
    trainer = {**TRAINER, "callbacks": [{"class_path": "HFCheckpoint"}, *callbacks]}
    Path(f"{name}.yaml").write_text(yaml.safe_dump({"run_dir": name, "model": model, "data": data, "trainer": trainer}))
    call("fit", "--config", f"{name}.yaml")
    assert Path(name, "hf/config.json").exists()
    return Path(name, "metrics.csv").read_text().splitlines()[0]


print(harness.__file__)
call("prepare", "--output", "data", "--num_sft", "8", "--num_train", "4", "--num_probe", "2", "--num_test", "2")
for kind, name in (("rewards", "brief"), ("searches", "best_of_two"), ("schedulers", "warming"), ("modules", "calm")):
    call("list", kind)
    from harness.cli.names import KINDS

    assert KINDS[kind].names()[name].startswith("mylab.")

# Evaluation: search, reward, task and template of the package.
asked = ("--task", str(LAB / "task.yaml"), "--protocol", str(LAB / "template.yaml"), "--model", "data/base")
call("eval", *asked, "--search", "best_of_two", "--reward", "brief", "--output", "results", *ENGINE)
results = json.loads(Path("results/results.json").read_text())
assert results["counts"]["problems"] == 2
assert "mylab" in str(results["search"])
assert " + 1 ?" in str(results["protocol"])

# Rollouts: reward and selector.
where = (
    "--model",
    "data/base",
    "--problems",
    '["data/train.jsonl"]',
    "--output",
    "rollouts.jsonl",
    "--template",
    "arithmetic",
)
sampling = ("--sampling.n", "2", "--sampling.max_tokens", "8")
call("rollout", *where, *sampling, "--reward", "brief", "--select", "some", "--rows", "rows.jsonl", *ENGINE)
scored = [each for _, row in read_jsonl("rollouts.jsonl") for each in row.get("responses", ())]
assert all(each["reward"] == -len(each["response"]["token_ids"]) for each in scored)
assert len([row for _, row in read_jsonl("rows.jsonl")]) == 4

# Training: policy module, scheduler and reward on their own rollouts; a preference loss.
metrics = fit(
    "policy",
    {
        "class_path": "calm",
        "init_args": {"checkpoint": "data/base", "scale": 0.25, "objective": {"class_path": "Objective"}},
    },
    {"class_path": "PolicyDataModule", "init_args": {"template": "arithmetic", "batch_size": 2, "max_length": 96}},
    {
        "class_path": "RolloutCallback",
        "init_args": {
            "template": "arithmetic",
            "problems": ["data/train.jsonl"],
            "reward": {"class_path": "brief"},
            "scheduler": {"class_path": "warming", "init_args": {"sampling": {"n": 2, "max_tokens": 8}}},
            "engine": {"kind": "transformers"},
        },
    },
)
assert "train/scaled" in metrics
decided = json.loads(Path("policy/rollouts/iter_001.json").read_text())["config"]["sampling"]["temperature"]
assert abs(decided - 1.1) < 1e-9
pairs = [{"prompt": f"{i} + 1 ?\n", "chosen": f"#### {i + 1}", "rejected": "#### 0"} for i in range(4)]
Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
fit(
    "preference",
    {"class_path": "DPOModule", "init_args": {"checkpoint": "data/base", "losses": {"mylab.training.margin": 1.0}}},
    {"class_path": "PreferenceDataModule", "init_args": {"train_files": ["pairs.jsonl"], "batch_size": 4}},
)

# What the project ships.
call("recipes", "bstar/arithmetic", "--to", ".")
call("init", "mine")
call(
    "eval",
    "--config",
    "configs/eval/arithmetic.yaml",
    "--model",
    "policy/hf",
    "--limit",
    "2",
    "--output",
    "arithmetic",
    *ENGINE,
)
print("mylab ran")
