"""A deliberate collapse on the built-in task: ten passes over an iteration's rows with a trust region and without.

    python benchmarks/collapse.py [--output runs/collapse] [--seed 0] [--lr 1e-4] [--bound 0.25]

GRPO learns from 8 responses to each of 100 problems. The first iteration is one pass of 20 steps with the clip. The
second, of twenty passes, is run from there with the clip, without it, and without it but with `StopOnDivergence`; the
last run, stopped, is then continued from its last good checkpoint with the clip. Prints what was logged and the greedy
accuracy on 500 test problems, as Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from rlvr_arithmetic import RECIPE_OUTPUT, RECIPES, first_stages, merge

from harness.callbacks.held_out_accuracy import HeldOutAccuracy
from harness.engines import EngineConfig, open_engine
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import load_causal_lm, model_version, named_weights
from harness.prompts.find import find_template
from harness.protocols import Engine
from harness.rewards import Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.stages import interruptible, run
from harness.store import write_bytes

PASS, PASSES = 20, 20  # steps of a pass, passes of the second iteration
SEEN = (20, 60, 100, 140, 180, 220, 260, 300, 340, 400)  # steps of the second iteration
COLUMNS = ("ratio_max", "kl_old", "clip_low", "entropy")


def config(start: Path, run_dir: Path, iterations: int, lr: float, clip: bool, bound: float | None) -> Path:
    """GRPO's recipe with many passes over few problems, checkpoints along the way, with or without its clip."""
    sources = [RECIPES / f"rlvr/arithmetic/{name}.yaml" for name in ("base", "grpo")]
    merged: dict = {}
    for source in sources:
        merged = merge(merged, yaml.safe_load(source.read_text().replace(RECIPE_OUTPUT, str(start))))
    merged["run_dir"] = str(run_dir)
    merged["model"]["init_args"]["objective"]["init_args"]["trust_region"] = "clip" if clip else "none"
    merged["data"]["init_args"]["batches_per_epoch"] = PASS if iterations == 1 else PASS * PASSES
    merged["model"]["init_args"]["optimizer"]["lr"] = lr
    merged["trainer"] |= {"max_epochs": iterations, "log_every_n_steps": 10}
    [rollouts] = [c["init_args"] for c in merged["trainer"]["callbacks"] if c["class_path"].endswith("RolloutCallback")]
    rollouts["problems_per_iteration"] = 100
    rollouts["evaluation"] = None
    on_the_way = iterations == 2 and bound is None  # to be measured
    saving = {"save_top_k": -1, "every_n_train_steps": 10} if on_the_way else {}
    callbacks: list[dict] = [{"class_path": "harness.callbacks.HFCheckpoint", "init_args": saving}]
    if bound is not None:
        guard = {"most": {"train/kl_old": bound}, "patience": 0}
        callbacks.append({"class_path": "harness.callbacks.StopOnDivergence", "init_args": guard})
    callbacks.append({"class_path": "harness.callbacks.RolloutCallback", "init_args": rollouts})
    merged["trainer"]["callbacks"] = callbacks
    path = run_dir.with_name(f"{run_dir.name}_{iterations}_{'clip' if clip else 'free'}.yaml")
    write_bytes(path, yaml.safe_dump(merged, sort_keys=False).encode())
    return path


def fit(path: Path) -> str:
    """Train, resuming what is there; the last line of the output."""
    command = [sys.executable, "-m", "harness", "fit", "--config", str(path), "--ckpt_path", "last"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return f"status {done.returncode}: {(done.stderr if done.returncode else done.stdout).strip().splitlines()[-1]}"


def branch(first: Path, name: str) -> Path:
    """A copy of a run to go on with."""
    folder = first.with_name(name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(first, folder, symlinks=True)
    return folder


def logged(run_dir: Path) -> dict[int, dict[str, str]]:
    """Step of the second iteration -> what training logged there."""
    with open(run_dir / "metrics.csv") as lines:
        rows = [row for row in csv.DictReader(lines) if row["train/loss"]]
    return {int(row["step"]) + 1 - PASS: row for row in rows if int(row["step"]) + 1 > PASS}


def accuracy(engine: Engine, model: Path, measured: HeldOutAccuracy, folder: Path) -> float:
    """Greedy, of a checkpoint's directory."""
    weights = load_causal_lm(str(model))
    engine.sync(named_weights(weights), model_version(weights))
    dispatcher = Dispatcher(engine, load_tokenizer(str(model)), find_template("arithmetic"), Outcome())
    return measured.run(0, folder / model_version(weights), dispatcher, "strict")["accuracy"]


def table(run_dir: Path, engine: Engine, measured: HeldOutAccuracy) -> list[str]:
    lines = [f"| step | {' | '.join(f'`{name}`' for name in COLUMNS)} | accuracy |", "|---" * 6 + "|"]
    for step, row in logged(run_dir).items():
        if step not in SEEN:
            continue
        [model] = (path for path in run_dir.glob(f"checkpoints/*step={PASS + step}") if path.is_dir())
        values = [f"{float(row[f'train/{name}']):.3g}" for name in COLUMNS]
        lines.append(f"| {step} | {' | '.join(values)} | {accuracy(engine, model, measured, run_dir / 'eval'):.1%} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--bound", type=float, default=0.25, help="largest train/kl_old of the run that is stopped")
    options = parser.parse_args()
    start = options.output / f"seed{options.seed}"
    with interruptible():
        run([first_stages(options.output, options.seed)], options.output)
    first = options.output / "first"
    print("first iteration:", fit(config(start, first, 1, options.lr, True, None)))
    clipped, free, guarded = (branch(first, name) for name in ("clipped", "free", "guarded"))
    print("with the clip:", fit(config(start, clipped, 2, options.lr, True, None)))
    print("without:", fit(config(start, free, 2, options.lr, False, None)))
    print("without, bounded:", fit(config(start, guarded, 2, options.lr, False, options.bound)))
    measured = HeldOutAccuracy([str(start / "data/test.jsonl")], max_tokens=48)
    engine = open_engine(start / "10_sft/hf", EngineConfig(kind="transformers", dtype="float32"))
    with contextlib.closing(engine):
        found = {
            name: accuracy(engine, path / "hf", measured, path / "eval")
            for name, path in (("start", start / "10_sft"), ("after the first iteration", first), ("stopped", guarded))
        }
        print("continued:", fit(config(start, guarded, 2, options.lr, True, options.bound)))
        found["continued"] = accuracy(engine, guarded / "hf", measured, guarded / "eval")
        print("\n".join(f"{name}: {value:.1%}" for name, value in found.items()))
        for name, run_dir in (("With the clip", clipped), ("Without", free)):
            print("\n".join([f"\n{name}\n", *table(run_dir, engine, measured)]))


if __name__ == "__main__":
    main()
