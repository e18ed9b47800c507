"""Self-Explore's five stages on this machine, with its baselines: SFT, rollouts, RFT, exploration, DPO.

    python configs/recipes/self_explore/arithmetic/run.py [--seeds 0 1 2] [--output runs/self_explore]

Every stage is a `harness` command that is printed before it runs; from RFT on two lanes run side by side. Run it again
after an interruption: finished stages are skipped, the others continue where they stopped.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from statistics import fmean, stdev

from harness.stages import Stage, final_accuracy, interruptible, own_configs, run
from harness.store import write_bytes

RECIPE = Path(__file__).resolve().parent
DEFAULT_OUTPUT = "runs/self_explore"
WITH_NLL = ("--model.init_args.losses", '{"sigmoid": 1.0, "nll": 1.0}')
POLICIES = {
    "10_sft": "SFT",
    "30_rft": "RFT",
    "50_dpo_outcome": "DPO, outcome pairs",
    "51_dpo_first_pit": "DPO, first-pit pairs (Self-Explore)",
    "50_dpo_outcome_nll": "DPO + NLL, outcome pairs",
    "51_dpo_first_pit_nll": "DPO + NLL, first-pit pairs",
    "52_nll_only": "NLL only, chosen of the outcome pairs",
}


def stages(output: Path, seed: int) -> tuple[list[Stage], list[list[Stage]]]:
    """The stages that come first, and the lanes that then run side by side."""
    configs = own_configs(RECIPE, DEFAULT_OUTPUT, output)

    def stage(command: str, name: str, config: str, *options: str) -> Stage:
        return Stage(name, (command, "--config", str(configs / f"{config}.yaml"), *options), output / name / "done")

    def fit(name: str, config: str = "", *options: str) -> list[Stage]:
        fixed = ("--seed_everything", str(seed), "--run_dir", str(output / name), "--ckpt_path", "last")
        return [stage("fit", name, config or name, *fixed, *options), evaluate(name)]

    def evaluate(name: str) -> Stage:
        task = ("eval", "--task", str(output / "data/test.jsonl"), "--model", str(output / name / "hf"))
        fixed = ("--protocol", "arithmetic", "--max_tokens", "48", "--engine.max_model_len", "128")
        result = output / name / "eval"
        return Stage(f"{name} evaluation", (*task, *fixed, "--output", str(result)), result / "results.json")

    sampling = ("--sampling.seed", str(seed))
    prepare = ("prepare", "--output", str(output / "data"), "--seed", str(seed))
    first = [
        Stage("data", prepare, output / "data/base/config.json"),
        *fit("10_sft"),
        stage("rollout", "20_rollout", "20_rollout", *sampling),
        *fit("30_rft"),
        stage("explore", "40_explore", "40_explore", *sampling),
    ]
    lanes = [
        [*fit("50_dpo_outcome"), *fit("50_dpo_outcome_nll", "50_dpo_outcome", *WITH_NLL), *fit("52_nll_only")],
        [*fit("51_dpo_first_pit"), *fit("51_dpo_first_pit_nll", "51_dpo_first_pit", *WITH_NLL)],
    ]
    return first, lanes


def table(folders: list[Path]) -> str:
    """Held-out accuracy of each policy as Markdown: one column a seed with its 95 % interval, then mean and spread."""
    lines = [
        "| policy | " + " | ".join(folder.name.replace("_", " ") for folder in folders) + " | mean ± sd |",
        "|---" * (len(folders) + 2) + "|",
    ]
    for name, title in POLICIES.items():
        rows = [final_accuracy(folder / name) for folder in folders]
        cells = [f"{r['accuracy']:.1%} ({r['accuracy_low']:.1%} to {r['accuracy_high']:.1%})" for r in rows]
        values = [row["accuracy"] for row in rows]
        spread = f" ± {stdev(values):.1%}" if len(values) > 1 else ""
        lines.append(f"| {title} | {' | '.join(cells)} | {fmean(values):.1%}{spread} |")
    return "\n".join([*lines, "", *map(explored, folders)])


def explored(folder: Path) -> str:
    """What exploring found and cost, in one line."""
    manifest = json.loads((folder / "40_explore/pairs.json").read_text())
    cost = manifest["cost"]
    return (
        f"{folder.name}: {manifest['num_explored']} responses explored, {manifest['num_rows']} pairs, dropped "
        f"{manifest['dropped']}; {cost['generations']} continuations and {cost['tokens']} tokens, a plain scan "
        f"{cost['plain_generations']} and {cost['plain_tokens']}; pits at step {manifest['pits_at_step']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folders = [options.output / f"seed_{seed}" for seed in options.seeds]
    with interruptible():
        for seed, folder in zip(options.seeds, folders, strict=True):
            first, lanes = stages(folder, seed)
            run([first], folder)
            run(lanes, folder)
    result = table(folders)
    write_bytes(options.output / "table.md", (result + "\n").encode())
    print(f"\n{result}")


if __name__ == "__main__":
    main()
