"""What `harness profile` says of a run, against what is known of the run."""

from __future__ import annotations

import gzip
import json
import re

import pytest
import yaml

from harness.callbacks.step_profile import PhaseProfiler
from harness.cli.main import main
from harness.commands.prepare import prepare


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_config(tmp_path, model, data, callbacks, **trainer):
    run = {
        "run_dir": "runs/own",
        "model": {"class_path": "SFTModule", "init_args": {"checkpoint": str(model)}},
        "data": {"class_path": "SFTDataModule", "init_args": data},
        "trainer": {
            "accelerator": "cpu", "devices": 1, "enable_model_summary": False, "enable_progress_bar": False,
            "callbacks": callbacks, **trainer,
        },
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    return "run.yaml"


def table(text, heading):
    """Phase -> (seconds, share, peak memory) of the table whose first column is so called."""
    lines = text[text.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {name: (float(seconds), float(share.rstrip("%")), *memory) for name, seconds, share, *memory in cells}


def check_sums(phases):
    total, _, *_ = phases.pop("in all")
    assert all(seconds >= 0 for seconds, *_ in phases.values())
    assert sum(seconds for seconds, *_ in phases.values()) == pytest.approx(total, abs=1e-3)
    assert sum(share for _, share, *_ in phases.values()) == pytest.approx(100, abs=0.5)


@pytest.mark.slow
def test_phases_sum_up_and_the_runs_own_directory_is_left_alone(tmp_path, tiny_model_dir):
    row = {"prompt": "1+1=", "response": "2" * 10}  # 16 tokens with BOS and EOS
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 8)
    folder = tmp_path / "runs/own/checkpoints"
    folder.mkdir(parents=True)
    saves = [{"class_path": "HFCheckpoint", "init_args": {"dirpath": str(folder), "monitor": "val/loss"}}]
    data = {"train_files": ["rows.jsonl"], "batch_size": 2, "max_length": 32}
    config = write_config(tmp_path, tiny_model_dir, data, saves, accumulate_grad_batches=2)
    assert main(["profile", config, "--steps", "3", "--traced", "2", "--output", "out"]) == 0
    assert not list(folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "profile.md", "trace.json.gz"]

    text = (tmp_path / "out/profile.md").read_text()
    seconds, rate = re.search(r"\*\*([\d.e+-]+) s a step, ([\d,]+) tokens/s", text).groups()
    assert float(seconds) * float(rate.replace(",", "")) == pytest.approx(2 * 2 * 16, rel=0.01)
    step, epoch = table(text, "a step"), table(text, "an epoch")
    assert step["in all"][0] == pytest.approx(float(seconds), rel=1e-2)
    assert all(step[phase][0] > 0 for phase in ("data", "forward", "backward", "optimizer"))
    assert all(float(step[phase][2].replace(",", "")) > 50 for phase in ("forward", "backward")), "MiB of the process"
    # Eight rows are four batches of two, and so two steps.
    assert epoch["train"][0] == pytest.approx(2 * float(seconds), rel=1e-2)
    assert epoch["save"][0] > 0
    check_sums(step)
    check_sums(epoch)

    events = json.loads(gzip.decompress((tmp_path / "out/trace.json.gz").read_bytes()))["traceEvents"]
    names = [event.get("name") for event in events if event.get("cat") == "user_annotation"]
    assert names.count("phase: optimizer") == 2, "the traced steps, and no others"
    assert names.count("phase: forward") == 4
    assert "aten::mm" in text


@pytest.mark.slow
def test_an_iteration_is_measured_with_its_rollouts(tmp_path):
    prepare(tmp_path / "data", num_sft=10, num_train=12, num_probe=4, num_test=4)
    sampling = {"n": 2, "max_tokens": 8}
    rollouts = {
        "problems": ["data/train.jsonl"],
        "template": "arithmetic",
        "scheduler": {"class_path": "FixedSampling", "init_args": {"sampling": sampling, "reward_threshold": -1.0}},
        "select": {"class_path": "TopK", "init_args": {"keep_cut": True, "keep_unanswered": True}},
        "engine": {"kind": "transformers", "dtype": "float32"},
    }
    data = {"train_files": [], "template": "arithmetic", "batch_size": 2, "max_length": 64, "batches_per_epoch": 7}
    callbacks = [{"class_path": "RolloutCallback", "init_args": rollouts}]
    config = write_config(
        tmp_path, tmp_path / "data/base", data, callbacks, max_epochs=3, reload_dataloaders_every_n_epochs=1
    )
    arguments = ["profile", config, "--steps", "1", "--warmup", "1", "--traced", "0", "--problems", "3"]
    assert main([*arguments, "--output", "out"]) == 0
    text = (tmp_path / "out/profile.md").read_text()
    iteration = table(text, "an iteration")
    assert iteration["sample"][0] > 0
    assert set(iteration) == {"sync", "prove", "sample", "score", "train", "in all"}, "nothing is saved or measured"
    assert "`train` is 7 steps of the length measured. Sampling drew" in text
    check_sums(iteration)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "out/trace.json.gz").exists()


def test_time_and_memory_belong_to_the_innermost_phase():
    profiler, peaks = PhaseProfiler(), iter(range(10, 20))
    profiler.memory = type("Peaks", (), {"take": lambda self: next(peaks)})()
    actions = ("[LightningModule]SFTModule.optimizer_step", "run_training_batch", "[Strategy]DDPStrategy.training_step")
    with profiler.profile(actions[0]), profiler.profile(actions[1]), profiler.profile(actions[2]):
        pass
    assert profiler.peaks == {"other": 10, "optimizer": 13, "forward": 12}
    seconds = profiler.watch.take()
    assert set(seconds) == {"optimizer", "forward"}
    assert all(0 <= value < 1 for value in seconds.values())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["absent.yaml"], "absent.yaml"),
        (["run.yaml", "--steps", "0"], "--steps is 0; it must be at least 1."),
        (["run.yaml", "--traced", "-1"], "--traced is -1; it must be at least 0."),
        (["run.yaml", "--problems", "2"], "--problems: the configuration has no RolloutCallback"),
    ],
)
def test_what_cannot_be_profiled_is_said(tmp_path, tiny_model_dir, capsys, options, sentence):
    write_config(tmp_path, tiny_model_dir, {"train_files": ["rows.jsonl"]}, [])
    assert main(["profile", *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs/own").exists()
