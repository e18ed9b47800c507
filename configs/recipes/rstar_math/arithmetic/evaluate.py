"""Evaluate one policy by several searches and rewards, one `harness eval` after the other in one process.

    python configs/recipes/rstar_math/arithmetic/evaluate.py FOLDER --run runs/rstar_math --policy 31_policy \
        --rows greedy best_of_8 best_of_8/orm mcts

A row is a search (the names of the 4x_*.yaml files) and a reward (of `REWARDS`; the policy's own PPM if not named).
Each writes to a folder of its own; best-of-8 draws its samples once and ranks them by each reward.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from harness.cli.main import main as harness
from harness.evals.samples import SAMPLES

CONFIGS = {"greedy": "40_greedy", "best_of_8": "41_best_of_8", "beam": "42_beam", "mcts": "43_mcts"}
REWARDS = {
    "ppm": ("{run}/{ppm}/hf",),
    "head": ("{run}/33_ppm_head/hf",),
    "orm": ("{run}/34_orm/hf", "--reward.init_args.per_step", "false", "--reward.init_args.append_eos", "true"),
    "pqm": ("{run}/35_pqm/hf",),
}
"""Checkpoint and further options of each trained reward; "likelihood" is the policy's own."""


def reward_options(name: str, run: Path, ppm: str) -> list[str]:
    """The options that put a reward in the place of the config's."""
    if name == "likelihood":
        return ["--reward", "harness.rewards.Likelihood"]
    checkpoint, *more = (word.format(run=run, ppm=ppm) for word in REWARDS[name])
    return ["--reward.init_args.checkpoint", checkpoint, *more]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/rstar_math"), help="folder of the stages")
    parser.add_argument("--configs", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--policy", default="31_policy")
    parser.add_argument("--ppm", default="32_ppm", help="the stage of the policy's own PPM")
    parser.add_argument("--rows", nargs="+", default=list(CONFIGS))
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    options = parser.parse_args()
    for row in options.rows:
        search, _, reward = row.partition("/")
        target, first = options.folder / row.replace("/", "_"), options.folder / search
        if search == "best_of_8" and (first / SAMPLES).exists() and not (target / SAMPLES).exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(first / SAMPLES, target / SAMPLES)
        ranked = [] if search == "greedy" else reward_options(reward or "ppm", options.run, options.ppm)
        command = ["eval", "--config", str(options.configs / f"{CONFIGS[search]}.yaml")]
        command += ["--model", str(options.run / options.policy / "hf"), *ranked]
        if status := harness([*command, "--seed", str(options.seed), "--output", str(target)]):
            sys.exit(status)


if __name__ == "__main__":
    main()
