import hashlib
import json
import subprocess
import sys
import time

import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from harness.callbacks.run_record import RunRecord, data_files, git_state
from harness.loggers import MetricsFile
from tests.wandb_log import records


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def start(run_dir, config: dict, verb: str = "fit", loggers=()) -> dict:
    """Run a Trainer for one step with a record; the entry of this start in environment.json."""
    record = RunRecord(run_dir, yaml.safe_dump(config), verb=verb, seed=7)
    trainer = Trainer(
        default_root_dir=run_dir,
        max_steps=1,
        limit_val_batches=0,
        callbacks=[record],
        logger=list(loggers) or MetricsFile(run_dir),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (trainer.fit if verb == "fit" else trainer.test)(BoringModel())
    return json.loads((run_dir / "environment.json").read_text())["starts"][-1]


def test_a_start_is_described_by_config_versions_machine_seed_and_command(tmp_path):
    entry = start(tmp_path / "run", {"a": {"b": 1}})
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == {"a": {"b": 1}}
    import torch

    assert entry["packages"]["torch"] == torch.__version__
    assert entry["command"] == sys.argv
    assert entry["seed"] == 7
    assert entry["config"] == "config.yaml"
    assert entry["cpu_cores"] >= 1


def test_the_same_config_again_is_not_written_again(tmp_path):
    start(tmp_path / "run", {"a": 1, "ckpt_path": None})
    entry = start(tmp_path / "run", {"a": 1, "ckpt_path": "last"})
    assert entry["config"] == "config.yaml"
    assert not (tmp_path / "run/config-2.yaml").exists()
    assert len(json.loads((tmp_path / "run/environment.json").read_text())["starts"]) == 2


def test_a_changed_config_is_kept_beside_the_first_with_a_note(tmp_path, capsys):
    start(tmp_path / "run", {"a": {"b": 1}, "c": [1, 2]})
    entry = start(tmp_path / "run", {"a": {"b": 2}, "c": [1]})
    assert entry["config"] == "config-2.yaml"
    assert entry["config_changes"] == ["a.b: 1 -> 2", "c.1: 2 -> absent"]
    assert "a.b: 1 -> 2; c.1: 2 -> absent" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == {"a": {"b": 1}, "c": [1, 2]}
    assert start(tmp_path / "run", {"a": {"b": 2}, "c": [1]})["config"] == "config-2.yaml"
    assert start(tmp_path / "run", {"a": {"b": 3}, "c": [1]})["config"] == "config-3.yaml"


def test_other_verbs_have_a_config_of_their_own(tmp_path):
    start(tmp_path / "run", {"a": 1})
    assert start(tmp_path / "run", {"a": 2}, verb="test")["config"] == "config-test.yaml"


def test_data_files_are_hashed_and_a_changed_one_is_reported(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text("{}\n")
    config = {"data": {"init_args": {"train_files": ["train.jsonl", "absent.jsonl"]}}}
    entry = start(tmp_path / "run", config)
    assert entry["data"] == {"train.jsonl": hashlib.sha256(b"{}\n").hexdigest()}
    (tmp_path / "train.jsonl").write_text("{}\n{}\n")
    start(tmp_path / "run", config)
    assert "train.jsonl has changed since this run was last started" in capsys.readouterr().err


def test_checkpoints_are_no_data(tmp_path):
    for name in ("last.ckpt", "rows.jsonl", "other"):
        (tmp_path / name).write_text("")
    named = {"ckpt_path": "other", "model": "last.ckpt", "data": {"files": ["rows.jsonl"], "folder": "."}}
    assert [path.name for path in data_files(named)] == ["rows.jsonl"]


def test_the_commit_is_told_and_whether_files_differ_from_it(tmp_path):
    assert git_state(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    state = git_state(tmp_path)
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (tmp_path / "x").write_text("")
    subprocess.run(["git", "-C", str(tmp_path), "add", "x"], check=True)
    assert git_state(tmp_path) == {**state, "dirty": True}


def test_wandb_gets_the_config_and_an_axis_for_each_group_of_metrics(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from harness.loggers import PatientWandbLogger

    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger = PatientWandbLogger(tmp_path / "run", offline=True)
    try:
        start(tmp_path / "run", {"a": {"b": 1}}, loggers=[logger])
        logger.log_metrics({"iteration": 2.0, "rollout/accuracy": 0.5, "train/loss": 1.0}, step=9)
        assert logger.experiment.config["config"] == {"a": {"b": 1}}
        assert logger.experiment.config["start"]["seed"] == 7
    finally:
        logger.experiment.finish()
    deadline = time.monotonic() + 60

    def written() -> bytes:
        return b"".join(log.read_bytes() for log in (tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))

    while "train/*" not in (axes := recorded_axes(written())) and time.monotonic() < deadline:
        time.sleep(0.1)  # W&B's own process makes and writes the log, and may end after `finish`
    assert axes["rollout/*"] == axes["eval/*"] == axes["time/*"] == "iteration"
    assert axes["train/*"] == "trainer/global_step"


def recorded_axes(log: bytes) -> dict[str, str]:
    """Step metric of each metric or pattern defined in a run's transaction log."""
    found = (record.metric for record in records(log) if record.WhichOneof("record_type") == "metric")
    return {metric.glob_name or metric.name: metric.step_metric for metric in found}
