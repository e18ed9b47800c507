import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from harness.datamodules import SFTDataModule
from harness.errors import InputError
from harness.loggers import (
    MetricsFile,
    PatientWandbLogger,
    TrackioLogger,
    chosen_loggers,
    default_loggers,
    wandb_mode,
)
from harness.modules import SFTModule
from harness.modules.optimizer import OptimizerConfig


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_in_the_file_as_soon_as_it_is_logged(tmp_path):
    logger = MetricsFile(tmp_path)
    logger.log_metrics({"loss": 1.5}, step=3)
    assert rows(tmp_path) == [{"loss": "1.5", "step": "3"}]


def test_a_second_logger_appends_to_the_file_of_the_first(tmp_path):
    MetricsFile(tmp_path).log_metrics({"loss": 2.0}, step=0)
    MetricsFile(tmp_path).log_metrics({"loss": 1.0}, step=1)
    assert [row["loss"] for row in rows(tmp_path)] == ["2.0", "1.0"]


def test_a_new_column_keeps_the_rows_before_it(tmp_path):
    first = MetricsFile(tmp_path)
    first.log_metrics({"loss": 2.0}, step=0)
    first.log_metrics({"accuracy": 0.5}, step=1)
    MetricsFile(tmp_path).log_metrics({"a_new_one": 1.0, "loss": 1.0}, step=2)
    assert rows(tmp_path) == [
        {"a_new_one": "", "accuracy": "", "loss": "2.0", "step": "0"},
        {"a_new_one": "", "accuracy": "0.5", "loss": "", "step": "1"},
        {"a_new_one": "1.0", "accuracy": "", "loss": "1.0", "step": "2"},
    ]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    (tmp_path / "metrics.csv").write_text("loss,step\r\n2.0,0\r\n1.")
    MetricsFile(tmp_path).log_metrics({"loss": 1.5}, step=1)
    assert rows(tmp_path) == [{"loss": "2.0", "step": "0"}, {"loss": "1.5", "step": "1"}]


@pytest.fixture
def _no_key(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))


@pytest.mark.usefixtures("_no_key")
def test_without_a_key_runs_are_offline_and_with_one_online(monkeypatch, tmp_path):
    assert wandb_mode() == "offline"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode() == "offline"


@pytest.mark.usefixtures("_no_key")
def test_disabled_leaves_the_csv_file_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert [type(logger) for logger in default_loggers(tmp_path)] == [MetricsFile]


@pytest.mark.usefixtures("_no_key")
def test_a_server_that_does_not_answer_turns_the_run_offline(monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(PatientWandbLogger, "SECONDS_TO_WAIT", 2)
    logger = PatientWandbLogger(tmp_path, offline=False)
    try:
        logger.log_metrics({"train/loss": 1.0}, step=0)
    finally:
        logger.experiment.finish()
    assert "the run is kept offline" in capsys.readouterr().err
    assert list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.usefixtures("_no_key")
def test_a_resumed_run_has_the_same_wandb_id(tmp_path):
    pytest.importorskip("wandb")
    first, second = PatientWandbLogger(tmp_path, offline=True), PatientWandbLogger(tmp_path, offline=True)
    assert first.version == second.version
    assert first.version != PatientWandbLogger(tmp_path / "other", offline=True).version


def test_a_wandb_that_cannot_be_started_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "0.001")  # too short for any service to come up
    logger = PatientWandbLogger(tmp_path, offline=True)
    logger.log_metrics({"train/loss": 1.0}, step=1)
    logger.finalize("success")
    assert "W&B could not be started" in capsys.readouterr().err
    logger.experiment.finish()  # else the next logger of this process would take it for its own run
    wandb.teardown()


def test_a_logger_that_is_chosen_writes_beside_the_metrics_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    other = CSVLogger(tmp_path / "other")
    file, second = chosen_loggers(other, tmp_path)
    assert isinstance(file, MetricsFile)
    assert second is other
    trainer = L.Trainer(accelerator="cpu", max_steps=1, logger=chosen_loggers([other], tmp_path))
    for logger in trainer.loggers:
        logger.log_metrics({"train/loss": 1.5}, 3)
        logger.finalize("success")
    for path in (tmp_path / "metrics.csv", tmp_path / "other/lightning_logs/version_0/metrics.csv"):
        assert "1.5" in path.read_text()
    mine = MetricsFile(tmp_path / "mine")
    assert chosen_loggers([mine, other], tmp_path) == [mine, other]
    assert chosen_loggers(False, tmp_path) is False
    assert [type(each) for each in chosen_loggers(True, tmp_path)] == [MetricsFile]


TRACKIO = """
import json
from pathlib import Path
from harness.loggers import MetricsFile, TrackioLogger, chosen_loggers

for start in (0, 2):  # a run and its continuation
    file, logger = chosen_loggers(TrackioLogger(), "runs/mine")
    for step in (start, start + 1):
        for each in (file, logger):
            each.log_metrics({"train/loss": 2.0 - step / 4, "iteration": 1.0}, step=step)
    logger.finalize("success")

from trackio.sqlite_storage import SQLiteStorage

[name] = SQLiteStorage.get_runs("harness")
logs = SQLiteStorage.get_logs("harness", name)
print(json.dumps([logger.version, name, [(each["step"], each["train/loss"]) for each in logs]]))
"""


@pytest.mark.slow
def test_trackio_gets_the_metrics_and_continues_a_run(tmp_path):
    """In a process of its own, as Trackio takes its folder when it is imported."""
    pytest.importorskip("trackio")
    folder = tmp_path / "trackio"
    environment = {**os.environ, "TRACKIO_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [found] = [line for line in done.stdout.splitlines() if line.startswith("[")]  # among what Trackio says
    version, name, logged = json.loads(found)
    assert version == name == "runs/mine"
    assert logged == [[0, 2.0], [1, 1.75], [2, 1.5], [3, 1.25]]
    assert list(folder.glob("*.db"))
    assert [row["train/loss"] for row in rows(tmp_path / "runs/mine")] == ["2.0", "1.75", "1.5", "1.25"]


def test_trackio_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setattr("harness.loggers.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install harness-reason\[trackio\]"):
        TrackioLogger()


def test_tensorboard_gets_the_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file, logger = chosen_loggers(TensorBoardLogger(tmp_path / "board"), tmp_path)
    for step, loss in enumerate((1.5, 1.0)):
        for each in (file, logger):
            each.log_metrics({"train/loss": loss}, step=step)
    logger.finalize("success")
    read = EventAccumulator(logger.log_dir)
    read.Reload()
    assert [(each.step, each.value) for each in read.Scalars("train/loss")] == [(0, 1.5), (1, 1.0)]


@pytest.mark.parametrize("name", ["TrackioLogger", "TensorBoardLogger"])
def test_a_logger_is_one_option(name, tmp_path, monkeypatch):
    from harness.cli.training import training_parsers

    pytest.importorskip(name.removesuffix("Logger").lower())
    parser = training_parsers("fit")[1]
    options = [f"--trainer.logger={name}"] + (["--trainer.logger.save_dir=x"] if name == "TensorBoardLogger" else [])
    known = parser.parse_args(options, defaults=False, _skip_validation=True)
    assert known.trainer.logger.class_path.endswith(f".{name}")


def test_a_short_fit_leaves_its_last_step_with_learning_rate_and_gradient_norm(tmp_path, tiny_model_dir):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i}=", "response": str(i)}) + "\n" for i in range(8)))
    norms = []

    class Norms(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            squares = [(p.grad.double() ** 2).sum() for p in module.parameters() if p.grad is not None]
            norms.append(float(sum(squares) ** 0.5))

    def fit(max_steps):
        trainer = L.Trainer(
            accelerator="cpu", max_steps=max_steps, log_every_n_steps=2, gradient_clip_val=0.01,
            logger=MetricsFile(tmp_path), callbacks=[Norms()], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        optimizer = OptimizerConfig(lr=1e-3, schedule="linear", total_steps=10)
        trainer.fit(
            SFTModule(str(tiny_model_dir), optimizer=optimizer), SFTDataModule([str(path)], batch_size=1, max_length=16)
        )
        with open(tmp_path / "metrics.csv", newline="") as file:
            return list(csv.DictReader(file))

    found = fit(5)
    assert [row["step"] for row in found] == ["1", "3", "4"]
    assert all(float(row["train/loss"]) > 0 and float(row["train/num_tokens"]) > 0 for row in found)
    for row in found:
        assert float(row["train/grad_norm"]) == pytest.approx(norms[int(row["step"])], rel=1e-5)
        assert float(row["train/lr"]) == pytest.approx(1e-3 * (1 - int(row["step"]) / 10))
