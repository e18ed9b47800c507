"""Two rounds of rStar-Math on this machine: bootstrap, trees, policy and PPM, trees by the PPM, policy and PPM again.

    python configs/recipes/rstar_math/arithmetic/run.py [--seeds 0 1 2] [--output runs/rstar_math]

Every stage is a command that is printed before it runs; evaluations run beside training. Run it again after an
interruption: finished stages are skipped, the others continue where they stopped. The tables go to table.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from harness.rollouts.trees import coverage, read_trees
from harness.stages import Stage, interruptible, own_configs, run
from harness.store import write_bytes

RECIPE = Path(__file__).resolve().parent
DEFAULT_OUTPUT = "runs/rstar_math"
POLICIES = {"10_sft": "bootstrap", "21_policy": "round 1", "31_policy": "round 2"}
MAIN = ("greedy", "best_of_8", "beam", "mcts")
RESCORED = ("best_of_8/head", "best_of_8/orm", "best_of_8/pqm", "best_of_8/likelihood")
SEARCHED = ("mcts/head", "mcts/pqm", "mcts/likelihood")


@dataclass(frozen=True)
class Row:
    """A line of the table: a metric of one evaluation."""

    policy: str
    title: str
    evaluation: str
    metric: str


def rows_of(policy: str) -> list[Row]:
    """The lines of one policy."""
    best, first = "reward@8/prm", "first"
    found = [Row(policy, "greedy", "greedy", "accuracy")]
    if policy == "10_sft":
        return found
    found += [
        Row(policy, "majority of 8", "best_of_8", "maj@8"),
        Row(policy, "best of 8 by the PPM", "best_of_8", best),
        Row(policy, "step beam by the PPM", "beam", first),
        Row(policy, "MCTS by the PPM", "mcts", first),
    ]
    if policy == "31_policy":
        names = {"likelihood": "the policy's log-probability", "head": "a PPM of a head alone", "pqm": "the PQM"}
        found.append(Row(policy, "best of 8 by the ORM", "best_of_8_orm", best))
        for name, title in names.items():
            found.append(Row(policy, f"best of 8 by {title}", f"best_of_8_{name}", best))
            found.append(Row(policy, f"MCTS by {title}", f"mcts_{name}", first))
        found.append(Row(policy, "any of 8 right", "best_of_8", "pass@8"))
    return found


def phases(output: Path, seed: int) -> list[list[list[Stage]]]:
    """What runs in turn; the lanes of each phase run side by side."""
    configs = own_configs(RECIPE, DEFAULT_OUTPUT, output)

    def stage(command: str, name: str, *options: str) -> Stage:
        return Stage(name, (command, "--config", str(configs / f"{name}.yaml"), *options), output / name / "done")

    def fit(name: str) -> Stage:
        return stage("fit", name, "--seed_everything", str(seed), "--ckpt_path", "last")

    def trees(name: str) -> Stage:
        return stage("trees", name, "--sampling.seed", str(seed))

    def evaluate(policy: str, ppm: str, *rows: str, part: str = "") -> Stage:
        folder = output / "eval" / policy
        options = ("--run", str(output), "--configs", str(configs), "--policy", policy, "--ppm", ppm)
        done = folder / f"done{part}"
        script = (str(RECIPE / "evaluate.py"),)
        return Stage(f"{policy} evaluation{part}", (str(folder), *options, "--rows", *rows), done, script)

    levels = ("--levels", "[3, 4, 5, 6]", "--num_sft", "1000", "--num_train", "300", "--num_test", "200")
    prepare = ("prepare", "--output", str(output / "data"), "--seed", str(seed), "--solutions", "code", *levels)
    return [
        [[Stage("data", prepare, output / "data/done"), fit("10_sft")]],
        [
            [trees("20_trees"), fit("21_policy"), fit("22_ppm")],
            [evaluate("10_sft", "", "greedy")],
        ],
        [[trees("30_trees"), fit("31_policy")], [evaluate("21_policy", "22_ppm", *MAIN)]],
        [[fit("32_ppm"), fit("33_ppm_head")], [fit("34_orm"), fit("35_pqm")]],
        [
            [evaluate("31_policy", "32_ppm", *MAIN, *RESCORED)],
            [evaluate("31_policy", "32_ppm", *SEARCHED, part=" of rewards")],
        ],
    ]


def table(folders: list[Path]) -> str:
    """Held-out accuracy of each policy and search: a column a seed with its 95 % interval, mean and spread, tokens."""
    lines = [
        "| policy | answer | " + " | ".join(folder.name.replace("_", " ") for folder in folders) + " | mean ± sd | "
        "tokens a problem |",
        "|---" * (len(folders) + 4) + "|",
    ]
    for row in (row for policy in POLICIES for row in rows_of(policy)):
        results = [_metrics(folder / "eval" / row.policy / row.evaluation) for folder in folders]
        found = [metrics[row.metric] for metrics in results]
        cells = [f"{f['value']:.1%} ({f['low']:.1%} to {f['high']:.1%})" for f in found]
        values = [f["value"] for f in found]
        spread = f" ± {stdev(values):.1%}" if len(values) > 1 else ""
        tokens = fmean(metrics["tokens_drawn"]["value"] for metrics in results)
        cells += [f"{fmean(values):.1%}{spread}", f"{tokens:.0f}"]
        lines.append(f"| {POLICIES[row.policy]} | {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _metrics(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())["metrics"]


def covered(folder: Path, name: str) -> str:
    """A line of the coverage table: the share of problems with a right answer, by level."""
    trees = read_trees(folder / name / "trees.jsonl")
    shares = " | ".join(f"{solved / total:.1%}" for solved, total in coverage(trees).values())
    return f"| {folder.name.replace('_', ' ')}, round {1 if name == '20_trees' else 2} | {shares} | {len(trees)} |"


def coverage_table(folders: list[Path], names: tuple[str, ...] = ("20_trees", "30_trees")) -> str:
    levels = coverage(read_trees(folders[0] / names[0] / "trees.jsonl"))
    head = " | ".join(f"level {level}" if level != "all" else level for level in levels)
    lines = [f"| coverage | {head} | trees |", "|---" * (len(levels) + 2) + "|"]
    return "\n".join([*lines, *(covered(folder, name) for folder in folders for name in names)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folders = [options.output / f"seed_{seed}" for seed in options.seeds]
    with interruptible():
        for seed, folder in zip(options.seeds, folders, strict=True):
            for lanes in phases(folder, seed):
                run(lanes, folder)
                for name in ("20_trees", "30_trees"):
                    if any(stage.name == name for lane in lanes for stage in lane):
                        print(coverage_table([folder], (name,)), flush=True)
    result = f"{table(folders)}\n\n{coverage_table(folders)}"
    write_bytes(options.output / "table.md", (result + "\n").encode())
    print(f"\n{result}")


if __name__ == "__main__":
    main()
