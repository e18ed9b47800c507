"""B-STaR through the real command line, killed with SIGKILL in every phase: a second start ends as an unbroken run."""

import signal

import pytest
import torch
import yaml

from harness.stages import start
from tests.e2e.small import small_bstar
from tests.rows import same_samples

NUM_ITERATIONS, NUM_STEPS = 2, 3
FILES = [f"iter_{i:03d}{kind}" for i in (1, 2) for kind in (".probe.jsonl", ".jsonl", ".train.jsonl")]
FILES += [f"eval_{i:03d}{kind}" for i in (0, 1, 2) for kind in (".jsonl", ".json")]

pytestmark = pytest.mark.slow


def small_config(folder, data):
    config = small_bstar(folder, data, NUM_STEPS, NUM_ITERATIONS)
    rollout = config["trainer"]["callbacks"][1]["init_args"]
    rollout |= {"search": {"class_path": "tests.e2e.kills.KilledSearch"}}
    rollout |= {"reward": {"class_path": "tests.e2e.kills.KilledReward"}}
    rollout |= {"select": {"class_path": "tests.e2e.kills.KilledSelector"}}
    rollout["engine"] |= {"kind": "transformers"}
    config["trainer"]["callbacks"].append({"class_path": "tests.e2e.kills.KilledTraining"})
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def fit(config, at="", number=signal.SIGKILL):
    """Run `harness fit` with the moment of its death and the signal; exit status and output."""
    log = config.with_suffix(".log")
    log.unlink(missing_ok=True)
    arguments = ("fit", "--config", str(config), "--ckpt_path", "last")
    environment = {"KILL_AT": at, "KILL_WITH": str(int(number)), "WANDB_MODE": "disabled"}
    process = start(("-m", "harness"), arguments, log, environment)
    process.join()
    return process.exitcode, log.read_text()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("unbroken")
    status, output = fit(small_config(folder, data))
    assert status == 0, output
    return folder / "run"


def last_state(run):
    """Weights, Adam's moments and schedule of the last checkpoint."""
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=False)
    return {key: state[key] for key in ("global_step", "state_dict", "optimizer_states", "lr_schedulers")}


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def assert_same_end(run, unbroken):
    for name in FILES:
        ours, theirs = run / "rollouts" / name, unbroken / "rollouts" / name
        drawn = name.endswith(".jsonl") and not name.endswith(".train.jsonl")
        # What is left of a block is drawn in smaller batches, in which transformers rounds otherwise.
        assert same_samples(ours, theirs) if drawn else ours.read_bytes() == theirs.read_bytes(), name
    assert same(last_state(run), last_state(unbroken))
    assert (run / "hf/model.safetensors").read_bytes() == (unbroken / "hf/model.safetensors").read_bytes()
    left = [path.name for path in run.rglob("*") if path.name.endswith((".tmp", ".new"))]
    assert not left, "half-written files were left behind"


ROLLING_OUT = {
    "probing, the second temperature": "search probe 20",
    "sampling": "search train 6",
    "scoring": "score train 10",
    "selecting": "select 1",
    "writing the rows to train on": r"os.rename iter_002\.train\.jsonl 1",
    "writing the manifest": r"os.rename iter_002\.json$ 1",
    "training, the second step": "step 2",
}
SAVING = {
    "the first checkpoint not yet there": r"os.rename epoch=0-step=3\.ckpt$ 1",
    "the first checkpoint there, not yet the one to resume from": r"os.rename last\.ckpt$ 1",
    "saved, the policy not yet measured": r"os.rename eval_001\.json$ 1",
    "the files of the newest model half linked": r"os.link \.\.hf-step=6 3",
    "the newest model not yet named": r"os.rename /hf$ 1",
    "the previous checkpoint not yet removed": r"os.remove epoch=0-step=3\.ckpt 1",
    "the checkpoint to resume from not yet replaced": r"os.rename last\.ckpt$ 1",
    "all trained, the policy not yet measured": r"open eval_002\.jsonl 1",
}


@pytest.mark.parametrize("moments", [ROLLING_OUT, SAVING], ids=["rolling out iteration 2", "saving"])
def test_a_run_killed_again_and_again_ends_as_the_unbroken_one(tmp_path, data, unbroken, moments):
    config = small_config(tmp_path, data)
    for phase, at in moments.items():
        status, output = fit(config, at)
        assert status == -signal.SIGKILL, f"not killed while {phase}: {output}"
    status, output = fit(config)
    assert status == 0, output
    assert_same_end(tmp_path / "run", unbroken)
    assert ("nothing was left to train" in output) == ("all trained" in phase)


def test_a_run_interrupted_in_every_phase_says_so_in_one_sentence_and_ends_as_the_unbroken_one(
    tmp_path, data, unbroken
):
    config = small_config(tmp_path, data)
    moments = ROLLING_OUT | {
        "saving a checkpoint": r"os.rename last\.ckpt$ 1",
        "measuring the policy": r"os.rename eval_002\.json$ 1",
    }
    for phase, at in moments.items():
        status, output = fit(config, at, signal.SIGINT)
        assert status == 130, f"not interrupted while {phase}: {output}"
        assert output.splitlines()[-1] == "error: interrupted.", phase
        assert "Traceback" not in output, phase
    status, output = fit(config)
    assert status == 0, output
    assert_same_end(tmp_path / "run", unbroken)


def test_a_finished_run_started_again_says_so_and_changes_nothing(data, unbroken):
    def state():
        kept = [*(unbroken / "rollouts").iterdir(), *(unbroken / "checkpoints").rglob("*"), unbroken / "hf"]
        return {path: path.lstat().st_mtime_ns for path in kept}

    before = state()
    status, output = fit(unbroken.parent / "config.yaml")
    assert status == 0
    assert "note: nothing was left to train: the run had reached epoch 2, step 6, before" in output
    assert state() == before
