"""Where does choosing the sampling setting pay? Online RFT and B-STaR on the built-in task, equal budgets of samples.

    python benchmarks/balance_study.py [--seeds 0 1 2] [--output runs/balance_study] [--policies runs/bstar_arithmetic]
    python benchmarks/balance_study.py --report        only the tables, from what is there

Every arm starts from the SFT policy of its seed, which `bstar_arithmetic.py` leaves under --policies (trained there
if it is missing). An arm is `20_bstar.yaml` or `21_online_rft.yaml` with fewer problems and steps and the changes in
`ARMS`; those with fixed settings get as many more problems as the probes of the others cost. One process runs at a
time. Run it again after an interruption: finished arms are skipped, the others go on. Writes `tables.md` to --output.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bstar_arithmetic
import yaml
from bstar_arithmetic import RECIPE, RECIPE_OUTPUT, accuracies, cell, num_samples

from harness.stages import Stage, interruptible, run
from harness.store import from_dict, write_bytes
from harness.types import RolloutConfig

NUM_PROBLEMS, NUM_STEPS, NUM_ITERATIONS = 500, 150, 3
GRID = (0.3, 0.7, 1.1, 1.5)
"""Temperatures that are compared: the two bad ones of the fixed arms, and two between them."""


@dataclass(frozen=True)
class Arm:
    """One way to choose the setting, and where."""

    label: str
    scheduler: Mapping[str, Any]
    """What differs from the recipe's scheduler."""
    iterations: int = NUM_ITERATIONS
    hard: bool = False
    """Expressions of 4 to 7 operators; the SFT policy has seen 2 to 5."""

    @property
    def searches(self) -> bool:
        return "temperatures" in self.scheduler


def fixed(temperature: float, threshold: float = 1.5) -> dict[str, Any]:
    sampling = {"n": 8, "max_tokens": 48, "temperature": temperature}
    return {"sampling": sampling, "reward_threshold": threshold}


SEARCH = {"temperatures": list(GRID), "thresholds": [-0.5, 0.5, 1.5]}
ARMS = {
    "fixed": Arm("fixed: temperature 1.0, threshold 1.5", fixed(1.0), 6),
    "balanced": Arm("B-STaR, n* = 4", SEARCH, 6),
    "fixed_cold": Arm("fixed: temperature 0.3", fixed(0.3)),
    "fixed_hot": Arm("fixed: temperature 1.5", fixed(1.5)),
    "fixed_lenient": Arm("fixed: threshold 0.5, answers only", fixed(1.0, 0.5)),
    "fixed_all": Arm("fixed: threshold -0.5, everything", fixed(1.0, -0.5)),
    "temperature_only": Arm("B-STaR, temperature only (threshold 0.5)", {**SEARCH, "thresholds": [0.5]}),
    "threshold_only": Arm("B-STaR, threshold only (temperature 1.0)", {**SEARCH, "temperatures": [1.0]}),
    "n_star_2": Arm("B-STaR, n* = 2", {**SEARCH, "n_star": 2}),
    "n_star_8": Arm("B-STaR, n* = 8", {**SEARCH, "n_star": 8}),
    "hard_fixed": Arm("4 to 7 operators, fixed: temperature 1.0", fixed(1.0), hard=True),
    "hard_balanced": Arm("4 to 7 operators, B-STaR", SEARCH, hard=True),
}


def stages(start: Path, output: Path, seed: int) -> list[Stage]:
    """The SFT policy where it is missing, and all arms of one seed."""
    policies = bstar_arithmetic.stages(start, seed)
    found = [policies["data"], policies["10_sft"]]
    folder = output / f"seed{seed}"
    levels = ("--levels", "[4, 5, 6, 7]")
    prepare = ("prepare", "--output", str(folder / "hard"), "--seed", str(seed), *levels)
    found.append(Stage(f"seed {seed}: hard problems", prepare, folder / "done/hard"))
    for name, arm in ARMS.items():
        config = write_config(folder, start, name, arm)
        arguments = ("fit", "--config", str(config), "--seed_everything", str(seed), "--ckpt_path", "last")
        found.append(Stage(f"seed {seed}: {name}", arguments, folder / "done" / name))
    return found


def write_config(folder: Path, start: Path, name: str, arm: Arm) -> Path:
    """The recipe's config with an arm's changes and the sizes of this study."""
    recipe = RECIPE / ("20_bstar.yaml" if arm.searches else "21_online_rft.yaml")
    config = yaml.safe_load(recipe.read_text().replace(RECIPE_OUTPUT, str(start)))
    config["run_dir"] = str(folder / name)
    config["model"]["init_args"]["optimizer"]["cycle_steps"] = NUM_STEPS
    config["data"]["init_args"]["batches_per_epoch"] = NUM_STEPS
    config["trainer"]["max_epochs"] = arm.iterations
    [rollout] = [c["init_args"] for c in config["trainer"]["callbacks"] if c["class_path"].endswith("RolloutCallback")]
    scheduler = rollout["scheduler"]["init_args"]
    scheduler |= arm.scheduler
    # All pay for as many samples as a search over the whole grid; each probe sample costs as much as a training sample.
    probed = len(scheduler["temperatures"]) if arm.searches else 0
    rollout["problems_per_iteration"] = NUM_PROBLEMS + (len(GRID) - probed) * bstar_arithmetic.NUM_PROBE
    if arm.hard:
        for key, file in (("problems", "train"), ("probe_problems", "probe")):
            if key in rollout:
                rollout[key] = [str(folder / f"hard/{file}.jsonl")]
        rollout["evaluation"] = {"problems": [str(folder / "hard/test.jsonl")], "max_tokens": 96}
        scheduler["sampling"] = {**scheduler["sampling"], "max_tokens": 96}
    path = folder / "configs" / f"{name}.yaml"
    write_bytes(path, yaml.safe_dump(config, sort_keys=False).encode())
    return path


def finished(output: Path, name: str) -> dict[int, Path]:
    """Run directories of an arm by seed."""
    found = {int(folder.name[4:]): folder / name for folder in output.glob("seed[0-9]*")}
    return {seed: run for seed, run in sorted(found.items()) if (output / f"seed{seed}/done" / name).exists()}


def row(output: Path, name: str, reference: str, iteration: int) -> str:
    """An arm's line: accuracy after an iteration, the paired difference from a reference, and what was chosen."""
    arm, runs, others = ARMS[name], finished(output, name), finished(output, reference)
    found = {seed: accuracies(run) for seed, run in runs.items()}
    differences = [found[s][iteration] - accuracies(others[s])[iteration] for s in runs if s in others]
    samples = statistics.mean(num_samples(run) for run in runs.values()) * iteration / arm.iterations
    chosen = "; ".join(", ".join(settings(run, iteration)) for run in runs.values()) if arm.searches else ""
    start, end = ([values[i] for values in found.values()] for i in (0, iteration))
    difference = "" if name == reference or not differences else cell(differences, "+")
    return f"| {arm.label} | {samples:,.0f} | {cell(start)} | {cell(end)} | {difference} | {chosen} |"


def settings(run: Path, iterations: int) -> list[str]:
    """Temperature/threshold of the first iterations of a run."""
    manifests = [json.loads((run / f"rollouts/iter_{i:03d}.json").read_text()) for i in range(1, iterations + 1)]
    decided = [from_dict(RolloutConfig, manifest["config"]) for manifest in manifests]
    return [f"{config.sampling.temperature:g}/{config.reward_threshold:g}" for config in decided]


def tables(output: Path) -> str:
    """All comparisons as Markdown."""
    easy = [name for name, arm in ARMS.items() if not arm.hard]
    parts = [
        ("Three iterations", easy, "fixed", NUM_ITERATIONS),
        ("Six iterations", ["fixed", "balanced"], "fixed", 6),
        ("Harder problems, three iterations", ["hard_fixed", "hard_balanced"], "hard_fixed", NUM_ITERATIONS),
    ]
    lines = []
    for title, names, reference, iteration in parts:
        there = [name for name in names if finished(output, name)]
        if not there:
            continue
        lines += [f"**{title}**", "", "| arm | samples | SFT | end | beside the first row | chosen, by seed |"]
        lines += ["|---|---|---|---|---|---|", *(row(output, name, reference, iteration) for name in there), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/balance_study"))
    parser.add_argument("--policies", type=Path, default=Path("runs/bstar_arithmetic"))
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        unwanted = set(ARMS) - set(options.arms)
        with interruptible():
            for seed in options.seeds:
                found = stages(options.policies / f"seed{seed}", options.output, seed)
                run([[stage for stage in found if stage.done.name not in unwanted]], options.output)
    result = tables(options.output)
    write_bytes(options.output / "tables.md", result.encode())
    print(result)


if __name__ == "__main__":
    main()
