"""The ledger of a configuration, without a device and without weights."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from harness.cli.main import main
from tests.paths import ROOT

ENGINE = {"max_model_len": 64, "dtype": "bfloat16"}


@pytest.fixture
def config(tmp_path, tiny_model_dir):
    """A run with rollouts whose checkpoint has no weights, and whose problems are there."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model_dir / name, bare)
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"{i}?", "answer": "1"}) + "\n" for i in range(10)))
    sampling = {"n": 4, "max_tokens": 32}
    rollouts = {
        "problems": [str(problems)],
        "scheduler": {"class_path": "harness.selection.FixedSampling", "init_args": {"sampling": sampling}},
        "reward": {
            "class_path": "harness.rewards.RewardModel",
            "init_args": {"checkpoint": "nowhere/yet", "template": "plain"},
        },
        "engine": ENGINE,
    }
    run = {
        "model": {"class_path": "harness.modules.SFTModule", "init_args": {"checkpoint": "runs/not/yet"}},
        "data": {
            "class_path": "harness.datamodules.SFTDataModule",
            "init_args": {"train_files": [], "batch_size": 4, "max_length": 32, "batches_per_epoch": 5},
        },
        "trainer": {
            "devices": 1,
            "reload_dataloaders_every_n_epochs": 1,
            "callbacks": [{"class_path": "harness.callbacks.RolloutCallback", "init_args": rollouts}],
        },
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    return [str(tmp_path / "run.yaml"), "--checkpoint", str(bare), "--reward_checkpoint", str(bare)]


def test_the_ledger_names_the_parts_of_both_phases_and_the_times(config, capsys):
    assert main(["plan", *config, "--devices", "2"]) == 0
    printed = capsys.readouterr().out
    assert "1 x 2 devices, a copy on each; 32-true, micro-batches of 4 x 32" in printed
    assert re.search(r"^training: +2\.1 of 80 GB a device, fits$", printed, re.MULTILINE)
    assert re.search(r"^sampling: +76\.0 of 80 GB a device, fits$", printed, re.MULTILINE)
    assert re.search(r"^  KV cache +71\.7$", printed, re.MULTILINE)
    for name in ("sampling", "scoring", "training"):
        assert re.search(rf"^{name}: +about 0\.00 h an iteration$", printed, re.MULTILINE)
    assert "assumed: 989 TFLOP/s" in printed


def test_what_does_not_fit_is_said_with_what_to_change(config, tmp_path, capsys):
    rows = tmp_path / "rows.yaml"
    size = {"batch_size": 32, "max_length": 2048}
    rows.write_text(yaml.safe_dump({"data": {"init_args": size}, "trainer": {"callbacks": []}}))
    config.insert(1, str(rows))
    assert main(["plan", *config, "--gpu_memory", "2.5"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^training: .*does not fit: \d\.\d GB too much$", printed, re.MULTILINE)
    assert printed.endswith("it fits with gradient_checkpointing: true\n")


def test_a_copy_in_every_so_many_devices_is_what_is_planned_for(config):
    from harness.commands.plan import read_run

    config.insert(1, str(ROOT / "configs/hardware/slurm_4x8.yaml"))
    files = config[: config.index("--checkpoint")]
    run = read_run(files, 8, 4, config[-3], config[-1])
    assert (run.world, run.shards) == (32, 8)
    assert "4 x 8 devices, sharded (FSDP2, 8 to a copy)" in run.title
    [training, *_] = run.phases(80 * 10**9)
    assert training.parts["weights"] == run.footprint.weights // 8


def test_a_configuration_that_is_missing_is_one_sentence(capsys):
    assert main(["plan", "nothing.yaml"]) == 2
    assert "nothing.yaml: no such file" in capsys.readouterr().err
