"""Objectives beside Online RFT on the built-in task: equal samples and steps, tuned learning rates, five seeds.

    python benchmarks/rlvr_arithmetic.py [--seeds 0 1 2 3 4] [--arms ...] [--output runs/rlvr_arithmetic]
    python benchmarks/rlvr_arithmetic.py --report [--docs docs]       only the tables, from what is there

Every run draws 8 responses to each of 4,500 problems and takes 900 steps: of 40 responses, in 15 iterations; Online RFT
in the three of its recipe, where it is better, and of 16 rows; preference losses of 16 pairs. First every objective is
tuned with the policy of one further seed: learning rates in runs of a third of the problems and steps, judged by greedy
accuracy and pass@8 on 300 validation problems. Then the best is run for each seed and measured on 500 test problems,
which have chosen nothing. Run it again after an interruption: finished runs are skipped, the others go on; with
different --arms, several can run side by side. With --report and --docs, writes `rlvr_arithmetic.md` there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from harness.metrics.estimators import pass_at_k
from harness.stages import Stage, interruptible, run
from harness.store import read_json, write_bytes

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
TUNING_SEED, TUNING_SHARE = 100, 3  # tuning runs have a third of the problems and steps
NUM_RESAMPLES = 4000


def num_iterations(arm: str) -> int:
    return 3 if arm == CONTROL else 15


def learning_rates(arm: str) -> tuple[float, ...]:
    """3e-4 is for GRPO alone, which it takes below where it began."""
    return {CONTROL: (3e-4, 1e-3, 3e-3), "grpo": (3e-5, 1e-4, 3e-4)}.get(arm, (3e-5, 1e-4))


def write_config(arm: str, lr: float, seed_folder: Path, run_dir: Path) -> Path:
    """One configuration of one run: the recipe's, with its paths, learning rate and, to tune, its length changed."""
    sources = {
        CONTROL: ["bstar/arithmetic/21_online_rft.yaml"],
        **{name: [f"rlvr/arithmetic/{name}.yaml"] for name in PAIRS},
    }.get(arm, ["rlvr/arithmetic/base.yaml", f"rlvr/arithmetic/{arm}.yaml"])
    texts = [(RECIPES / source).read_text() for source in sources]
    tuning = seed_folder.name == f"seed{TUNING_SEED}"
    share, iterations = TUNING_SHARE if tuning else 1, num_iterations(arm)
    changes = {
        "problems_per_iteration: 1500": f"problems_per_iteration: {NUM_PROBLEMS // iterations // share}",
        "batches_per_epoch: 300": f"batches_per_epoch: {NUM_STEPS // iterations // share}",
        "cycle_steps: 300": f"cycle_steps: {NUM_STEPS // iterations // share}",
        "max_epochs: 3 ": f"max_epochs: {iterations} ",
        "least: {train/entropy: 0.005}": "least: {train/entropy: 0.0}",  # a run that collapses is a result here
        "refill: 2": "refill: 0",  # equal samples
    }
    for old, new in changes.items():
        texts = [text.replace(old, new) for text in texts]
    [index] = [i for i, text in enumerate(texts) if "evaluation: {" in text]
    before, rest = texts[index].split("evaluation: {", 1)
    after = rest.split("}", 1)[1]
    problems, samples = ("probe", 8) if tuning else ("test", 16)
    measured = f"problems: [{seed_folder}/data/{problems}.jsonl], max_tokens: 48, num_samples: {samples}"
    measured += f", every: {iterations}"
    texts[index] = f"{before}evaluation: {{{measured}}}{after}"
    texts = [text.replace(RECIPE_OUTPUT, str(seed_folder)) for text in texts]
    merged: dict = {}
    for text in texts:
        merged = merge(merged, yaml.safe_load(text))
    merged["run_dir"] = str(run_dir)
    merged["seed_everything"] = int(seed_folder.name[4:])
    merged["model"]["init_args"]["optimizer"]["lr"] = lr
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
    config = write_config(arm, lr, folder, run_folder(output, seed, arm, lr))
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


# What comes out.


@cache
def by_problem(file: Path) -> dict[str, np.ndarray]:
    """Greedy verdict, pass@1, pass@8 and pass@16 of each test problem, from the rollouts stored."""
    greedy: dict[str, float] = {}
    right: dict[str, tuple[int, int]] = {}
    with open(file.with_suffix(".jsonl")) as lines:
        for line in lines:
            row = json.loads(line)
            if "responses" not in row:
                continue
            verdicts = [bool(response["correct"]) for response in row["responses"]]
            if len(verdicts) == 1:
                greedy[row["problem"]["id"]] = float(verdicts[0])
            else:
                right[row["problem"]["id"]] = len(verdicts), sum(verdicts)
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
    lines = ["| objective | learning rate: validation | chosen |", "|---" * 3 + "|"]
    for arm, lr in chosen.items():
        done = tried(output, arm)
        values = ", ".join(f"{one:g}: {validation(output, arm, one):.1f}" for one in done)
        lines.append(f"| {ARMS[arm]} | {values} | {lr:g} |")
    tables = {arm: scores(output, arm, lr, seeds) for arm, lr in chosen.items()}
    tables = {arm: found for arm, found in tables.items() if found}
    metrics = ("greedy", "pass@1", "pass@8", "pass@16")
    lines += ["", "| objective | seeds | " + " | ".join(metrics) + " | greedy, beside Online RFT | pass@16, beside |"]
    lines.append("|---" * 8 + "|")
    for arm, found in tables.items():
        cells = [f"{100 * statistics.mean(rows[m].mean() for rows in found.values()):.1f}" for m in metrics]
        beside = ["", ""] if arm == CONTROL else [difference(found, tables.get(CONTROL, {}), m) for m in metrics[::3]]
        lines.append(f"| {ARMS[arm]} | {len(found)} | {' | '.join([*cells, *beside])} |")
    return "\n".join(lines)


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
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        with interruptible():
            experiment(options.output, options.arms, options.seeds)
    text = report(options.output, options.arms, options.seeds)
    if options.report:
        options.docs.mkdir(parents=True, exist_ok=True)
        write_bytes(options.docs / "rlvr_arithmetic.md", f"# Objectives on the built-in task\n\n{text}\n".encode())
    print(text)


if __name__ == "__main__":
    main()
