"""Objectives beside Online RFT on the built-in task: equal samples and steps, tuned learning rates, five seeds.

    python benchmarks/rlvr_arithmetic.py [--seeds 0 1 2 3 4] [--arms ...] [--output runs/rlvr_arithmetic]
    python benchmarks/rlvr_arithmetic.py --causes                     one thing changed at a time
    python benchmarks/rlvr_arithmetic.py --report [--docs docs]       only the tables, from what is there

Every run draws 8 responses to each of 4,500 problems and takes 900 steps: of 40 responses, in 15 iterations; Online RFT
in the three of its recipe, where it is better, and of 16 rows; preference losses of 16 pairs. First every objective is
tuned with the policy of one further seed: learning rates in runs of a third of the problems and steps, judged by greedy
accuracy and pass@8 on 300 validation problems; Online RFT in runs of full length, as its short ones prefer a learning
rate that is worse in the end. Then the best is run for each seed and measured on 500 test problems, which have chosen
nothing. --causes runs variations of Online RFT and MaxRL from the policy of the tuning seed, in full length, on
the validation problems. Run it again after an interruption: finished runs are skipped, the others go on; with different
--arms, several can run side by side. With --report and --docs, writes `rlvr_arithmetic.md` there.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.metrics.estimators import pass_at_k
from harness.stages import Stage, interruptible, run
from harness.store import read_json, stream_rows, write_bytes
from harness.types import Rollout

RECIPES = Path(__file__).parents[1] / "configs/recipes"
RECIPE_OUTPUT = "runs/arithmetic"
CONTROL = "online_rft"
ARMS = {
    CONTROL: "Online RFT",
    "raft_pp": "RAFT++",
    "reinforce": "REINFORCE",
    "w_reinforce": "W-REINFORCE",
    "rloo": "RLOO",
    "grpo": "GRPO",
    "dr_grpo": "Dr. GRPO",
    "dapo": "DAPO, nothing refilled",
    "gspo": "GSPO",
    "cispo": "CISPO",
    "maxrl": "MaxRL",
    "online_dpo": "Online DPO",
    "iterative_rpo": "iterative RPO",
}
PAIRS = ("online_dpo", "iterative_rpo")
NUM_PROBLEMS, NUM_STEPS = 4500, 900
TUNING_SEED, TUNING_SHARE = 100, 3  # tuning runs have a third of the problems and steps, but those of Online RFT
NUM_RESAMPLES = 4000


@dataclass(frozen=True)
class Variation:
    """A run of full length that differs from its objective's own in `changes`, paths in the configuration."""

    arm: str
    lr: float
    iterations: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    after: str | None = None
    """The variation whose policy it begins with; both together draw as many responses and take as many steps."""


ANNEALED = {
    "model.optimizer.schedule": "cosine",
    "model.optimizer.min_lr_ratio": 0.1,
    "model.optimizer.cycle_steps": 300,
    "model.optimizer.weight_decay": 0.05,
}
"""The optimizer of Online RFT: every iteration of 300 steps anneals on its own."""
FEWER_STEPS = {"data.batch_size": 15, "data.batches_per_epoch": 20}
CAUSES = {
    "Online RFT, 1e-3, no rehearsal of the SFT rows": Variation(
        CONTROL, 1e-3, 3, {"rollout.replay_files": None, "rollout.replay_share": 0.0}
    ),
    "MaxRL, 1e-3, in 3 iterations, each annealed": Variation("maxrl", 1e-3, 3, ANNEALED),
    "MaxRL, 3e-4, 15 problems in each of 300 steps": Variation("maxrl", 3e-4, 15, FEWER_STEPS),
    "MaxRL, 3e-4, 15 problems in each of 900 steps, so every response three times": Variation(
        "maxrl", 3e-4, 15, {"data.batch_size": 15}
    ),
    "MaxRL, 1e-3, 15 problems in each of 300 steps": Variation("maxrl", 1e-3, 15, FEWER_STEPS),
    "MaxRL, 3e-4, in 3 iterations, each annealed": Variation("maxrl", 3e-4, 3, ANNEALED),
    "RAFT++, 1e-3, in 3 iterations, each annealed": Variation("raft_pp", 1e-3, 3, ANNEALED),
    "Online RFT, 1e-3, its first two iterations": Variation(CONTROL, 1e-3, 3, {"trainer.max_epochs": 2}),
    "the same, and MaxRL, 1e-4, for the third": Variation(
        "maxrl",
        1e-4,
        15,
        {"trainer.max_epochs": 5, "seed_everything": 101},  # another order of the problems, too
        after="Online RFT, 1e-3, its first two iterations",
    ),
    "RAFT++, 3e-4": Variation("raft_pp", 3e-4, 15),
    "RAFT++, 1e-4": Variation("raft_pp", 1e-4, 15),
    "MaxRL, 3e-4": Variation("maxrl", 3e-4, 15),
    "MaxRL, 1e-4": Variation("maxrl", 1e-4, 15),
    "MaxRL, 1e-4, 120 problems of 20 responses": Variation(
        "maxrl",
        1e-4,
        15,
        {"rollout.scheduler.init_args.sampling.n": 20, "rollout.problems_per_iteration": 120, "data.batch_size": 2},
    ),
}


def num_iterations(arm: str) -> int:
    return 3 if arm == CONTROL else 15


def learning_rates(arm: str) -> tuple[float, ...]:
    """3e-4 is for GRPO alone, which it takes below where it began."""
    return {CONTROL: (3e-4, 1e-3, 3e-3, 1e-2), "grpo": (3e-5, 1e-4, 3e-4)}.get(arm, (3e-5, 1e-4))


def write_config(
    arm: str,
    lr: float,
    seed_folder: Path,
    run_dir: Path,
    *,
    iterations: int,
    share: int = 1,
    measured: str = "test",
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """One configuration of one run: the recipe's, with its paths, learning rate and length changed, and then `changes`.

    Args:
        share: 1 / problems and steps taken.
        measured: problems of the last evaluation; `probe` are for validation.
    """
    sources = {
        CONTROL: ["bstar/arithmetic/21_online_rft.yaml"],
        **{name: [f"rlvr/arithmetic/{name}.yaml"] for name in PAIRS},
    }.get(arm, ["rlvr/arithmetic/base.yaml", f"rlvr/arithmetic/{arm}.yaml"])
    merged: dict = {}
    for source in sources:
        merged = merge(merged, yaml.safe_load((RECIPES / source).read_text().replace(RECIPE_OUTPUT, str(seed_folder))))
    callbacks = {one["class_path"].rpartition(".")[2]: one["init_args"] for one in merged["trainer"]["callbacks"][1:]}
    rooms = {"": merged, "trainer": merged["trainer"], "rollout": callbacks["RolloutCallback"]}
    rooms |= {name: merged[name]["init_args"] for name in ("data", "model")}
    steps = NUM_STEPS // iterations // share
    own = {
        "run_dir": str(run_dir),
        "seed_everything": int(seed_folder.name[4:]),
        "trainer.max_epochs": iterations,
        "rollout.problems_per_iteration": NUM_PROBLEMS // iterations // share,
        "data.batches_per_epoch": steps,
        "model.optimizer.lr": lr,
    }
    if "cycle_steps" in rooms["model"]["optimizer"]:
        own["model.optimizer.cycle_steps"] = steps
    if arm == "dapo":
        own["model.objective.init_args.refill"] = 0  # equal samples
    for place, value in {**own, **(changes or {})}.items():
        room, *names, key = ["", *place.split(".")] if "." not in place else place.split(".")
        mapping = rooms[room]
        for name in names:
            mapping = mapping[name]
        mapping[key] = value
    callbacks["RolloutCallback"]["evaluation"] = {
        "problems": [f"{seed_folder}/data/{measured}.jsonl"],
        "max_tokens": 48,
        "num_samples": {"probe": 8, "test": 16}[measured],
        "every": merged["trainer"]["max_epochs"],
    }
    if "StopOnDivergence" in callbacks:  # a run that collapses is a result here
        callbacks["StopOnDivergence"]["least"] = {"train/entropy": 0.0}
    path = run_dir.with_name(f"{run_dir.name}.yaml")
    write_bytes(path, yaml.safe_dump(merged, sort_keys=False).encode())
    return path


def merge(one: dict, other: dict) -> dict:
    """As two `--config` in a row: keys of the second over those of the first, mappings within mappings."""
    merged = dict(one)
    for key, value in other.items():
        inner = merged.get(key)
        same_class = isinstance(value, dict) and value.get("class_path") in (None, (inner or {}).get("class_path"))
        merged[key] = merge(inner, value) if isinstance(inner, dict) and same_class else value
    return merged


def first_stages(output: Path, seed: int) -> list[Stage]:
    """Data and starting policy of a seed."""
    folder = output / f"seed{seed}"
    text = (RECIPES / "bstar/arithmetic/10_sft.yaml").read_text().replace(RECIPE_OUTPUT, str(folder))
    write_bytes(folder / "10_sft.yaml", text.encode())
    data = ("prepare", "--output", str(folder / "data"), "--seed", str(seed), "--num_probe", "300")
    sft = ("fit", "--config", str(folder / "10_sft.yaml"), "--seed_everything", str(seed), "--ckpt_path", "last")
    return [
        Stage(f"seed {seed}: data", data, folder / "done/data"),
        Stage(f"seed {seed}: sft", sft, folder / "done/sft"),
    ]


def run_stage(output: Path, seed: int, arm: str, lr: float) -> Stage:
    """One run of an objective, measured on validation problems for the tuning seed, on test problems for the others."""
    folder = output / f"seed{seed}"
    tuning = seed == TUNING_SEED
    whole = not tuning or arm == CONTROL
    config = write_config(
        arm,
        lr,
        folder,
        run_folder(output, seed, arm, lr),
        iterations=num_iterations(arm),
        share=1 if whole else TUNING_SHARE,
        measured="probe" if tuning else "test",
    )
    arguments = ("fit", "--config", str(config), "--ckpt_path", "last")
    return Stage(f"seed {seed}: {arm} {lr:g}", arguments, folder / f"done/{arm}_{lr:g}")


def run_folder(output: Path, seed: int, arm: str, lr: float) -> Path:
    return output / f"seed{seed}" / f"{arm}_{lr:g}"


def is_done(output: Path, seed: int, arm: str, lr: float) -> bool:
    return (output / f"seed{seed}/done/{arm}_{lr:g}").exists()


def failure(output: Path, arm: str, lr: float) -> Path:
    return output / f"seed{TUNING_SEED}/failed/{arm}_{lr:g}"


def tune(output: Path, arm: str, lr: float) -> None:
    """A tuning run; one that fails, such as for want of any right response, is marked and done."""
    stage = run_stage(output, TUNING_SEED, arm, lr)
    mark = failure(output, arm, lr)
    if mark.exists():
        return
    try:
        run([[stage]], output)
    except SystemExit as error:
        write_bytes(mark, f"{error}\n".encode())
        print(error)


def validation(output: Path, arm: str, lr: float) -> float:
    """What tuning maximises: the mean of greedy accuracy and pass@8 on the validation problems, in %; 0 if failed."""
    if failure(output, arm, lr).exists():
        return 0.0
    found = read_json(result_file(output, TUNING_SEED, arm, lr))
    return 50 * (found["accuracy"] + found["pass@8"])


def result_file(output: Path, seed: int, arm: str, lr: float) -> Path:
    return run_folder(output, seed, arm, lr) / f"rollouts/eval_{num_iterations(arm):03d}.json"


def tried(output: Path, arm: str) -> list[float]:
    """The learning rates whose tuning runs have ended."""
    ends = {
        lr: (is_done(output, TUNING_SEED, arm, lr), failure(output, arm, lr).exists()) for lr in learning_rates(arm)
    }
    return [lr for lr, marks in ends.items() if any(marks)]


def best(output: Path, arm: str) -> float:
    return max(tried(output, arm), key=lambda lr: validation(output, arm, lr))


def experiment(output: Path, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Tune, then run every seed."""
    run([[stage for seed in (TUNING_SEED, *seeds) for stage in first_stages(output, seed)]], output)
    for arm in arms:
        for lr in learning_rates(arm):
            tune(output, arm, lr)
    for seed in seeds:
        run([[run_stage(output, seed, arm, best(output, arm)) for arm in arms]], output)


def cause_folder(output: Path, name: str) -> Path:
    return output / "causes" / "".join(letter if letter.isalnum() else "_" for letter in name)


def cause_stages(output: Path, arms: Sequence[str]) -> list[Stage]:
    stages = first_stages(output, TUNING_SEED)
    for name, variation in CAUSES.items():
        if variation.arm not in arms:
            continue
        run_dir = cause_folder(output, name)
        changes = dict(variation.changes)
        if variation.after:
            changes["model.checkpoint"] = str(cause_folder(output, variation.after) / "hf")
        config = write_config(
            variation.arm,
            variation.lr,
            output / f"seed{TUNING_SEED}",
            run_dir,
            iterations=variation.iterations,
            measured="probe",
            changes=changes,
        )
        arguments = ("fit", "--config", str(config), "--ckpt_path", "last")
        stages.append(Stage(f"cause {run_dir.name}", arguments, run_dir.with_suffix(".done")))
    return stages


# What comes out.


@cache
def by_problem(file: Path) -> dict[str, np.ndarray]:
    """Greedy verdict, pass@1, pass@8 and pass@16 of each test problem, from the rollouts stored."""
    greedy: dict[str, float] = {}
    right: dict[str, tuple[int, int]] = {}
    for rollout in stream_rows(file.with_suffix(".jsonl"), Rollout):
        verdicts = [scored.correct for scored in rollout.responses]
        if len(verdicts) == 1:
            greedy[rollout.problem.id] = float(verdicts[0])
        else:
            right[rollout.problem.id] = len(verdicts), sum(verdicts)
    n, c = np.array([right[name] for name in greedy]).T
    return {
        "greedy": np.array(list(greedy.values())),
        **{f"pass@{k}": np.asarray(pass_at_k(n, c, k), float) for k in (1, 8, 16)},
    }


def interval(table: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of (seeds x problems): the bootstrap that draws both anew."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, table.shape[0], (NUM_RESAMPLES, table.shape[0]))
    columns = generator.integers(0, table.shape[1], (NUM_RESAMPLES, table.shape[1]))
    means = [table[i][:, j].mean() for i, j in zip(rows, columns, strict=True)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def report(output: Path, arms: Sequence[str], seeds: Sequence[int]) -> str:
    """Tables in Markdown of what is there."""
    chosen = {arm: best(output, arm) for arm in arms if tried(output, arm)}
    lines = [
        "Tuned with the policy of one further seed: the mean of greedy accuracy and pass@8, in %, on 300 validation "
        "problems after a third of the problems and steps; of Online RFT after all.",
        "",
        "| objective | learning rate: validation | chosen |",
        "|---" * 3 + "|",
    ]
    for arm, lr in chosen.items():
        done = tried(output, arm)
        values = ", ".join(f"{one:g}: {validation(output, arm, one):.1f}" for one in done)
        lines.append(f"| {ARMS[arm]} | {values} | {lr:g} |")
    tables = {arm: scores(output, arm, lr, seeds) for arm, lr in chosen.items()}
    tables = {arm: found for arm, found in tables.items() if found}
    metrics = ("greedy", "pass@1", "pass@8", "pass@16")
    lines += [
        "",
        "Run with each seed and measured on its 500 test problems, in %: means over the seeds that are there, and "
        "differences paired by seed and problem, with 95 % intervals (bootstrap over both).",
    ]
    lines += ["", "| objective | seeds | " + " | ".join(metrics) + " | greedy, beside Online RFT | pass@16, beside |"]
    lines.append("|---" * 8 + "|")
    for arm, found in tables.items():
        cells = [f"{100 * statistics.mean(rows[m].mean() for rows in found.values()):.1f}" for m in metrics]
        beside = ["", ""] if arm == CONTROL else [difference(found, tables.get(CONTROL, {}), m) for m in metrics[::3]]
        lines.append(f"| {ARMS[arm]} | {len(found)} | {' | '.join([*cells, *beside])} |")
    return "\n".join([*lines, *causes(output)])


def causes(output: Path) -> list[str]:
    """The table of variations that have ended."""
    lines = []
    for name, variation in CAUSES.items():
        last = variation.changes.get("trainer.max_epochs", variation.iterations)
        file = cause_folder(output, name) / f"rollouts/eval_{last:03d}.json"
        if file.exists():
            found = read_json(file)
            cells = [f"{100 * found[metric]:.1f}" for metric in ("accuracy", "pass@1", "pass@8")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    if not lines:
        return []
    caption = (
        "One thing changed: runs of full length with the policy of the tuning seed, on the validation problems, in %."
    )
    return ["", caption, "", "| variation | greedy | pass@1 | pass@8 |", "|---" * 4 + "|", *lines]


def scores(output: Path, arm: str, lr: float, seeds: Sequence[int]) -> dict[int, dict[str, np.ndarray]]:
    files = {seed: result_file(output, seed, arm, lr) for seed in seeds}
    return {seed: by_problem(file) for seed, file in files.items() if is_done(output, seed, arm, lr)}


def difference(one: Mapping[int, dict], other: Mapping[int, dict], metric: str) -> str:
    """Mean difference over the seeds that both have, paired by seed and problem, with its interval."""
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return ""
    table = np.stack([one[seed][metric] - other[seed][metric] for seed in shared])
    low, high = interval(table)
    return f"{100 * table.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="none: only tune")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="default: all")
    parser.add_argument("--output", type=Path, default=Path("runs/rlvr_arithmetic"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--causes", action="store_true", help="variations on the tuning seed instead")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        with interruptible():
            if options.causes:
                run([cause_stages(options.output, options.arms)], options.output)
            else:
                experiment(options.output, options.arms, options.seeds)
    text = report(options.output, options.arms, options.seeds)
    if options.report:
        options.docs.mkdir(parents=True, exist_ok=True)
        write_bytes(options.docs / "rlvr_arithmetic.md", f"# Objectives on the built-in task\n\n{text}\n".encode())
    print(text)


if __name__ == "__main__":
    main()
