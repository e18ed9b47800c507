"""The loop of self-improvement through the real command line: several ranks, real data with real vLLM."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.commands.prepare import prepare
from tests.paths import DATA_DIR, ROOT
from tests.rows import same_samples

RECIPE = ROOT / "configs/recipes/bstar/arithmetic/21_online_rft.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arithmetic")
    prepare(folder, num_sft=10, num_train=24, num_probe=4, num_test=6)
    return folder


def small_config(folder, data, engine="transformers", batch_size=4):
    """The shipped recipe with a random model, few problems, and a threshold that keeps all that ends by itself."""
    config = yaml.safe_load(RECIPE.read_text().replace("runs/arithmetic/data", str(data)))
    config["run_dir"] = str(folder / "run")
    config["model"]["init_args"]["checkpoint"] = str(data / "base")
    config["model"]["init_args"]["optimizer"]["cycle_steps"] = 3
    config["data"]["init_args"] |= {"batch_size": batch_size, "batches_per_epoch": 3}
    config["trainer"] |= {"max_epochs": 2, "accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1}
    rollout = config["trainer"]["callbacks"][1]["init_args"]
    rollout |= {"problems_per_iteration": 12, "replay_share": 0.0}
    rollout["select"] = {
        "class_path": "harness.selection.TopK",
        "init_args": {"keep_cut": True, "keep_unanswered": True},
    }
    rollout["scheduler"]["init_args"] = {"sampling": {"n": 2, "max_tokens": 8}, "reward_threshold": -1}
    rollout["engine"] |= {"kind": engine}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def start(config, *options):
    """`harness fit` in a process group of its own."""
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "fit", "--config", str(config), *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def fit(config, *options):
    process = start(config, *options)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def content(folder, name):
    return (folder / "run/rollouts" / name).read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("unbroken")
    fit(small_config(folder, data))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["ddp", "fsdp2"])
def test_two_ranks_that_lightning_starts_run_the_loop(tmp_path, data, unbroken, overlay):
    config = small_config(tmp_path, data, batch_size=2)
    hardware = str(ROOT / f"configs/hardware/{overlay}.yaml")
    fit(config, "--config", hardware, "--trainer.accelerator", "cpu", "--trainer.devices", "2")
    # Each rank draws in batches of its own, in which transformers rounds otherwise.
    assert same_samples(*(folder / "run/rollouts/iter_001.jsonl" for folder in (tmp_path, unbroken)))
    assert content(tmp_path, "iter_001.train.jsonl") == content(unbroken, "iter_001.train.jsonl")
    for name in ("iter_002.json", "eval_002.json"):
        assert (
            json.loads(content(tmp_path, name))["weights"] != json.loads(content(tmp_path, "eval_000.json"))["weights"]
        )
    assert len(json.loads(content(tmp_path, "iter_002.json"))["ranks"]) == 2
    assert not list((tmp_path / "run/rollouts").glob("*.part*"))


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(not (DATA_DIR / "gsm8k_train.jsonl.gz").exists(), reason="GSM8K is not on this machine")
def test_the_loop_runs_on_real_problems_with_real_vllm(tmp_path):
    pytest.importorskip("vllm")
    recipe = ROOT / "configs/recipes/bstar/gsm8k_random"
    data = tmp_path / "data"
    prepared = [
        sys.executable,
        str(recipe / "prepare.py"),
        str(DATA_DIR / "gsm8k_train.jsonl.gz"),
        "--output",
        str(data),
    ]
    subprocess.run(prepared, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    config = tmp_path / "config.yaml"
    config.write_text((recipe / "20_bstar.yaml").read_text().replace("runs/gsm8k_random", str(tmp_path)))
    output = fit(config)
    assert "vllm" in json.loads((tmp_path / "20_bstar/rollouts/iter_002.json").read_text())["engine"], output
    assert len((tmp_path / "20_bstar/rollouts/iter_002.jsonl").read_text().splitlines()) == 300


@pytest.mark.slow
def test_a_checkpoint_that_is_missing_is_refused_and_nothing_is_lost(unbroken, data):
    before = {path: path.stat().st_mtime_ns for path in Path(unbroken / "run/rollouts").iterdir()}
    process = start(unbroken / "config.yaml", "--ckpt_path", "missing.ckpt")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "missing.ckpt: no such checkpoint" in output
    assert {path: path.stat().st_mtime_ns for path in Path(unbroken / "run/rollouts").iterdir()} == before
