"""The whole loop on this machine: SFT, reward model, B-STaR and its controls, evaluation, a table and a plot.

    python configs/recipes/bstar/arithmetic/demo.py [--seed 0] [--output runs/arithmetic] [--online_rft] [--quick]

`harness demo` does the same, from any folder.

Every stage is a `harness` command that is printed before it runs. Two lanes run side by side, one thread each. Run it
again after an interruption: finished stages are skipped, the others continue where they stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from harness.stages import Stage, final_accuracy, interruptible, own_configs, run
from harness.store import read_yaml, write_bytes, write_json

RECIPE = Path(__file__).resolve().parent
DEFAULT_OUTPUT, QUICK_OUTPUT = "runs/arithmetic", "runs/arithmetic_quick"
QUICK_DATA = ("--levels", "[2]", "--num_sft", "300", "--num_train", "200", "--num_probe", "20", "--num_test", "100")
QUICK_SIZES: dict[str, Any] = {
    "total_steps": 95,
    "cycle_steps": 20,
    "batches_per_epoch": 20,
    "problems_per_iteration": 100,
    "temperatures": [0.8, 1.0],
    "engine": {"kind": "transformers", "max_model_len": 128, "dtype": "float32"},
}


def shrink(node: Any) -> Any:
    """A config with the sizes of `--quick`."""
    if isinstance(node, list):
        return [shrink(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: QUICK_SIZES[key] if key in QUICK_SIZES else shrink(value) for key, value in node.items()}


def quick_configs(configs: Path) -> None:
    """Rewrite a copy of the configs with the sizes of `--quick`."""
    for path in configs.glob("*.yaml"):
        config = shrink(read_yaml(path))
        if "trainer" in config:
            config["trainer"]["max_epochs"] = 5 if path.stem == "10_sft" else 1
        write_bytes(path, yaml.safe_dump(config, sort_keys=False).encode())


def stages(output: Path, seed: int, online_rft: bool, quick: bool) -> tuple[list[Stage], list[list[Stage]]]:
    """The stages that come first, and the lanes that then run side by side."""
    configs = own_configs(RECIPE, DEFAULT_OUTPUT, output)
    engine = ("--engine.kind", "transformers") if quick else ()
    if quick:
        quick_configs(configs)

    def fit(name: str) -> Stage:
        arguments = ("fit", "--config", str(configs / f"{name}.yaml"), "--seed_everything", str(seed))
        return Stage(name, (*arguments, "--ckpt_path", "last"), output / name / "demo_done")

    def rollout(name: str) -> Stage:
        return Stage(name, ("rollout", "--config", str(configs / f"{name}.yaml")), output / name / "pairs.jsonl")

    def evaluate(name: str, policy: str, *options: str) -> Stage:
        task = ("eval", "--task", str(output / "data/test.jsonl"), "--model", str(output / policy / "hf"))
        fixed = ("--protocol", "arithmetic", "--max_tokens", "48", "--engine.max_model_len", "128", *engine)
        result = output / name / "eval"
        return Stage(f"{name} evaluation", (*task, *fixed, "--output", str(result), *options), result / "results.json")

    reward = ("--reward", "harness.rewards.RewardModel", "--reward.checkpoint", str(output / "15_reward/hf"))
    best_of_8 = ("--n", "8", "--k", "1,8", "--temperature", "1.0", *reward, "--reward.template", "arithmetic")

    prepare = ("prepare", "--output", str(output / "data"), "--seed", str(seed), *(QUICK_DATA if quick else ()))
    first = [Stage("data", prepare, output / "data/demo_done"), fit("10_sft")]
    control = [fit("22_more_sft"), evaluate("22_more_sft", "22_more_sft")]
    reward_model = [rollout("13_rollout_held_out"), rollout("12_rollout"), fit("15_reward")]
    reward_model.append(evaluate("15_reward", "10_sft", *best_of_8))
    lanes = [[fit("20_bstar")], control if quick else [*reward_model, *control]]
    if online_rft:
        lanes[0].append(fit("21_online_rft"))
    return first, lanes


def iterations(folder: Path) -> list[dict]:
    """Accuracy after each iteration of a run, with the decision that led to it."""
    rows = []
    for file in sorted(folder.glob("rollouts/eval_*.json")):
        row = json.loads(file.read_text())
        manifest = folder / f"rollouts/iter_{row['iteration']:03d}.json"
        if manifest.exists():
            decided = json.loads(manifest.read_text())
            row["temperature"] = decided["config"].get("sampling", {}).get("temperature", 1.0)
            row["threshold"] = decided["config"].get("reward_threshold", 0.0)
            row["balance_score"] = decided["decision"].get("balance_score")
        rows.append(row)
    return rows


def table(output: Path) -> str:
    """The result as Markdown."""
    lines = [
        "| policy | held-out accuracy, greedy | 95 % interval | temperature | threshold | balance score |",
        "|---|---|---|---|---|---|",
    ]

    def line(name: str, row: dict) -> str:
        accuracy = f"{row['accuracy']:.1%} | {row['accuracy_low']:.1%} to {row['accuracy_high']:.1%}"
        score = row.get("balance_score")
        chosen = [f"{row[key]:g}" if key in row else "" for key in ("temperature", "threshold")]
        return f"| {name} | {accuracy} | {chosen[0]} | {chosen[1]} | {'' if score is None else f'{score:.3f}'} |"

    bstar, online = iterations(output / "20_bstar"), iterations(output / "21_online_rft")
    lines.append(line("SFT", bstar[0]))
    lines += [line(f"B-STaR, iteration {row['iteration']}", row) for row in bstar[1:]]
    lines += [line(f"Online RFT, iteration {row['iteration']}", row) for row in online[1:]]
    lines.append(line("more SFT, as many steps", final_accuracy(output / "22_more_sft")))
    if (output / "15_reward/eval/results.json").exists():
        lines += ["", reward_line(output)]
    return "\n".join(lines)


def reward_line(output: Path) -> str:
    """How well the trained reward model ranks the SFT policy's responses to held-out problems."""
    with open(output / "15_reward/metrics.csv", newline="") as file:
        accuracies = [float(row["val/accuracy"]) for row in csv.DictReader(file) if row.get("val/accuracy")]
    metrics = json.loads((output / "15_reward/eval/results.json").read_text())["metrics"]
    shown = {name: f"{metric['value']:.1%}" for name, metric in metrics.items() if "8" in name or name == "pass@1"}
    return (
        f"Reward model (scalar head, measured, not used above): it ranks {accuracies[-1]:.1%} of held-out pairs right; "
        f"of 8 samples of the SFT policy: {', '.join(f'{name} {value}' for name, value in shown.items())}."
    )


def plot(output: Path) -> Path:
    """Accuracy by iteration of B-STaR, Online RFT and the control."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, axes = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    for name, label in (("20_bstar", "B-STaR"), ("21_online_rft", "Online RFT")):
        if not (rows := iterations(output / name)):
            continue
        x, y = [row["iteration"] for row in rows], [row["accuracy"] for row in rows]
        low = [row["accuracy"] - row["accuracy_low"] for row in rows]
        high = [row["accuracy_high"] - row["accuracy"] for row in rows]
        axes.errorbar(x, y, [low, high], marker="o", capsize=3, label=label)
    control = final_accuracy(output / "22_more_sft")
    axes.axhline(control["accuracy"], linestyle="--", color="grey", label="more SFT, as many steps")
    axes.set(xlabel="iteration", ylabel="held-out greedy accuracy", title="Arithmetic, 500 held-out problems")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    path = output / "accuracy.png"
    figure.savefig(path, dpi=120)
    return path


def demo(output: Path | None = None, seed: int = 0, online_rft: bool = False, quick: bool = False) -> None:
    """Run what has not run yet, write the table and the plot, and print them."""
    output = output or Path(QUICK_OUTPUT if quick else DEFAULT_OUTPUT)
    started = time.monotonic()
    first, lanes = stages(output, seed, online_rft, quick)
    with interruptible():
        run([first], output)
        run(lanes, output)
    result = table(output)
    write_bytes(output / "table.md", (result + "\n").encode())
    write_json(output / "seconds.json", {"this_run": round(time.monotonic() - started, 1)})
    print(f"\n{result}\n\n{plot(output)}; {time.monotonic() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help=f"default is {DEFAULT_OUTPUT}, or {QUICK_OUTPUT}")
    parser.add_argument("--online_rft", action="store_true", help="also run the fixed sampling setting beside B-STaR")
    parser.add_argument("--quick", action="store_true", help="a minute, to see that everything runs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    demo(options.output, options.seed, options.online_rft, options.quick)


if __name__ == "__main__":
    main()
