"""Which reward ranks the responses of a small policy best? Two policies of the built-in task, three seeds.

    python benchmarks/reward_models.py [--seeds 0 1 2] [--output runs/reward_models] [--policies runs/bstar_arithmetic]
    python benchmarks/reward_models.py --report        only the table, from what is there

The policies are the SFT model and B-STaR's after three iterations, which `bstar_arithmetic.py` leaves under --policies
(trained there if they are missing). Each gets reward models trained on its own outcome pairs: a bare head, and a head
upon the policy's log-probability (`likelihood: sum`). They rank the same 8 responses to each of the 500 test problems,
beside that log-probability alone and the process reward model trained on the SFT policy's steps. Run it again after an
interruption: finished stages are skipped. Writes `table.md` to --output.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
from collections import defaultdict
from pathlib import Path

import bstar_arithmetic
import yaml
from bstar_arithmetic import RECIPE, RECIPE_OUTPUT, cell

from harness.evals.samples import SAMPLES, read_samples
from harness.stages import Stage, interruptible, run
from harness.store import write_bytes

POLICIES = {"10_sft": "SFT", "20_bstar": "B-STaR, iteration 3"}
NEEDED = ("data", "10_sft", "12_rollout", "14_prm_labels", "16_prm", "20_bstar")
HEAD: dict = {}
HYBRID = {"likelihood": "sum", "alpha": 0.5}
METRICS = ("reward@8/prm", "maj@8", "accuracy", "pass@8")
RANKINGS = {
    "likelihood": "log-probability of the policy",
    "hybrid": "alpha · log-probability + head, trained",
    "head": "bare head, trained",
    "prm": "process reward model, trained on the SFT policy's steps",
}


def stages(start: Path, output: Path, seed: int) -> list[Stage]:
    """All stages of one seed in turn."""
    policies = bstar_arithmetic.stages(start, seed)
    found = [policies[name] for name in NEEDED]
    for policy in POLICIES:
        folder = output / f"seed{seed}" / policy

        def add(name: str, *arguments: str, folder: Path = folder) -> None:
            found.append(Stage(f"seed {seed}: {folder.name} {name}", arguments, folder / "done" / name))

        config = RECIPE / "12_rollout.yaml"
        files = ("--output", str(folder / "rollouts.jsonl"), "--rows", str(folder / "pairs.jsonl"))
        model = ("--model", str(start / policy / "hf"))
        problems = json.dumps([str(start / "data/train.jsonl")])
        drawn = ("--problems", problems, "--sampling.seed", str(seed))
        add("rollout", "rollout", "--config", str(config), *files, *model, *drawn)
        for name, changes, lr, epochs in (("head", HEAD, 5e-4, 2), ("hybrid", HYBRID, 2e-4, 1)):
            written = write_config(folder, start / policy / "hf", name, changes, lr, epochs)
            fixed = ("--seed_everything", str(seed), "--ckpt_path", "last")
            add(f"{name} training", "fit", "--config", str(written), *fixed)
        task = ("--task", str(start / "data/test.jsonl"), *model, "--seed", str(seed))
        sampling = ("--protocol", "arithmetic", "--max_tokens", "48", "--n", "8", "--k", "8", "--temperature", "1.0")
        for name in RANKINGS:
            reward = reward_options(name, folder, start)
            add(name, "eval", *task, *sampling, *reward, "--output", str(folder / "eval" / name))
    return found


def reward_options(name: str, folder: Path, start: Path) -> tuple[str, ...]:
    """The ranking as options of `harness eval`."""
    if name == "likelihood":
        return ("--reward", "Likelihood")
    checkpoint = start / "16_prm/hf" if name == "prm" else folder / name / "hf"
    options = ("--reward", "RewardModel", "--reward.checkpoint", str(checkpoint), "--reward.template", "arithmetic")
    if name != "prm":
        return options
    return (*options, "--reward.per_step", "true", "--reward.aggregation", "min", "--reward.activation", "sigmoid")


def write_config(folder: Path, policy: Path, name: str, changes: dict, lr: float, epochs: int) -> Path:
    """The recipe's reward model with other weights, data and settings."""
    config = yaml.safe_load((RECIPE / "15_reward.yaml").read_text().replace(RECIPE_OUTPUT, str(folder)))
    config["run_dir"] = str(folder / name)
    module, data = config["model"]["init_args"], config["data"]["init_args"]
    module |= {"checkpoint": str(policy), **changes}
    module["optimizer"] |= {"lr": lr, "total_steps": epochs * data["batches_per_epoch"]}
    data["train_files"] = [str(folder / "pairs.jsonl")]
    del data["val_files"]
    config["trainer"]["max_epochs"] = epochs
    path = folder / "configs" / f"{name}.yaml"
    write_bytes(path, yaml.safe_dump(config, sort_keys=False).encode())
    return path


def share_samples(folder: Path) -> None:
    """Let all rankings of a policy judge the samples that the first evaluation drew."""
    first = folder / "eval" / next(iter(RANKINGS)) / SAMPLES
    for name in RANKINGS:
        target = folder / "eval" / name / SAMPLES
        if first.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(first, target)


def pair_accuracy(folder: Path) -> float:
    """Share of pairs of a right and a wrong response to one problem that the reward ranks right; ties count half."""
    by_problem = defaultdict(list)
    for sample in read_samples(folder):
        by_problem[sample.problem_id].append(sample)
    ranked = [
        0.5 + 0.5 * ((right.reward > wrong.reward) - (right.reward < wrong.reward))
        for samples in by_problem.values()
        for right, wrong in itertools.product(samples, samples)
        if right.correct and not wrong.correct
    ]
    return sum(ranked) / len(ranked)


def table(output: Path) -> str:
    """Means over seeds in per cent, a line for each policy and ranking; and how far best-of-8 is above the majority."""
    lines = [
        "| policy | ranking | pairs ranked right | best of 8 | majority of 8 | best - majority | pass@1 | pass@8 |",
        "|---" * 8 + "|",
    ]
    for policy, title in POLICIES.items():
        for name, ranking in RANKINGS.items():
            folders = [folder / policy / "eval" / name for folder in sorted(output.glob("seed[0-9]*"))]
            folders = [folder for folder in folders if (folder.parents[1] / "done" / name).exists()]
            if not folders:
                continue
            results = [json.loads((folder / "results.json").read_text())["metrics"] for folder in folders]
            best, majority, *others = ([found[metric]["value"] for found in results] for metric in METRICS)
            columns = ([pair_accuracy(folder) for folder in folders], best, majority, *others)
            shown = [f"{100 * statistics.mean(values):.1f}" for values in columns]
            shown.insert(3, cell([b - m for b, m in zip(best, majority, strict=True)], "+"))
            lines.append(f"| {title} | {ranking} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/reward_models"))
    parser.add_argument("--policies", type=Path, default=Path("runs/bstar_arithmetic"))
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        with interruptible():
            for seed in options.seeds:
                for stage in stages(options.policies / f"seed{seed}", options.output, seed):
                    run([[stage]], options.output)
                    share_samples(stage.done.parents[1])
    result = table(options.output)
    write_bytes(options.output / "table.md", (result + "\n").encode())
    print(result)


if __name__ == "__main__":
    main()
