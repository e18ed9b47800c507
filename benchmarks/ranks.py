"""How much faster two ranks sample than one: the rollouts of one iteration by `harness fit`, a thread for each rank.

    python benchmarks/ranks.py [--problems 1500] [--rounds 3] [--strategy ddp]

The recipe is Online RFT on the built-in task from its untrained model, with one step of training. One rank and two take
turns. Printed are seconds of sampling by the clock, from the manifest, tokens of each rank, and whether both wrote the
same rows. It needs a core for each rank: on a machine with other work the clock tells little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

RECIPE = Path(__file__).parents[1] / "configs/recipes/bstar/arithmetic/21_online_rft.yaml"


def recipe(folder: Path, run: Path, ranks: int, problems: int, strategy: str) -> dict[str, Any]:
    config = yaml.safe_load(RECIPE.read_text().replace("runs/arithmetic/data", str(folder / "data")))
    config["run_dir"] = str(run)
    config["model"]["init_args"]["checkpoint"] = str(folder / "data/base")
    config["trainer"] |= {"accelerator": "cpu", "devices": ranks, "max_epochs": 1, "max_steps": 1, "logger": False}
    if ranks > 1:
        config["trainer"]["strategy"] = strategy
    rollout = config["trainer"]["callbacks"][1]["init_args"]
    rollout |= {"problems_per_iteration": problems, "evaluation": None, "select": None}
    rollout["scheduler"]["init_args"]["reward_threshold"] = 0.0
    rollout["reward"] = None
    return config


def sample(folder: Path, name: str, ranks: int, problems: int, strategy: str) -> tuple[dict[str, Any], bytes]:
    """The manifest of a run's first iteration, and its rows."""
    run = folder / name
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe(folder, run, ranks, problems, strategy)))
    command = [sys.executable, "-m", "harness", "fit", "--config", str(path)]
    with (folder / f"{name}.log").open("w") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
            sys.exit((folder / f"{name}.log").read_text())
    rollouts = run / "rollouts"
    return json.loads((rollouts / "iter_001.json").read_text()), (rollouts / "iter_001.jsonl").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategy", default="ddp")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare = [sys.executable, "-m", "harness", "prepare", "--output", str(folder / "data")]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        seconds: dict[int, list[float]] = {1: [], 2: []}
        rows = set()
        for number in range(options.rounds):
            for ranks, found in seconds.items():
                name = f"{ranks}_{number}"
                manifest, written = sample(folder, name, ranks, options.problems, options.strategy)
                found.append(manifest["seconds"]["sample"])
                rows.add(written)
                each = ", ".join(f"{rank['tokens']} tokens in {rank['seconds']:.1f} s" for rank in manifest["ranks"])
                print(f"{ranks} rank(s): {found[-1]:.1f} s; {each}", flush=True)
    one, two = (statistics.median(found) for found in seconds.values())
    same = "equal" if len(rows) == 1 else "differ"
    print(f"medians {one:.1f} and {two:.1f} s: {one / two:.2f} times as fast; rows {same}")


if __name__ == "__main__":
    main()
