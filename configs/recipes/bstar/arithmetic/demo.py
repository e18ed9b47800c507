"""The whole loop on this machine: SFT, reward model, B-STaR and its controls, evaluation, a table and a plot.

    python configs/recipes/bstar/arithmetic/demo.py [--seed 0] [--output runs/arithmetic] [--online_rft]

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

from harness.stages import Stage, final_accuracy, own_configs, run
from harness.store import write_bytes, write_json

RECIPE = Path(__file__).resolve().parent
DEFAULT_OUTPUT = "runs/arithmetic"


def stages(output: Path, seed: int, online_rft: bool) -> tuple[list[Stage], list[list[Stage]]]:
    """The stages that come first, and the lanes that then run side by side."""
    configs = own_configs(RECIPE, DEFAULT_OUTPUT, output)

    def fit(name: str) -> Stage:
        arguments = ("fit", "--config", str(configs / f"{name}.yaml"), "--seed_everything", str(seed))
        return Stage(name, (*arguments, "--ckpt_path", "last"), output / name / "demo_done")

    def rollout(name: str) -> Stage:
        return Stage(name, ("rollout", "--config", str(configs / f"{name}.yaml")), output / name / "pairs.jsonl")

    def evaluate(name: str, policy: str, *options: str) -> Stage:
        task = ("eval", "--task", str(output / "data/test.jsonl"), "--model", str(output / policy / "hf"))
        fixed = ("--protocol", "arithmetic", "--max_tokens", "48", "--engine.max_model_len", "128")
        result = output / name / "eval"
        return Stage(f"{name} evaluation", (*task, *fixed, "--output", str(result), *options), result / "results.json")

    reward = ("--reward", "harness.rewards.RewardModel", "--reward.checkpoint", str(output / "15_reward/hf"))
    best_of_8 = ("--n", "8", "--k", "1,8", "--temperature", "1.0", *reward, "--reward.template", "arithmetic")

    prepare = ("prepare", "--output", str(output / "data"), "--seed", str(seed))
    first = [Stage("data", prepare, output / "data/demo_done"), fit("10_sft")]
    control = [fit("22_more_sft"), evaluate("22_more_sft", "22_more_sft")]
    reward_model = [rollout("13_rollout_held_out"), rollout("12_rollout"), fit("15_reward")]
    lanes = [[fit("20_bstar")], [*reward_model, evaluate("15_reward", "10_sft", *best_of_8), *control]]
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
    return "\n".join([*lines, "", reward_line(output)])


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
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    path = output / "accuracy.png"
    figure.savefig(path, dpi=120)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_OUTPUT))
    parser.add_argument("--online_rft", action="store_true", help="also run the fixed sampling setting beside B-STaR")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    first, lanes = stages(options.output, options.seed, options.online_rft)
    try:
        run([first], options.output)
        run(lanes, options.output)
    except KeyboardInterrupt:
        print("interrupted; run it again to continue.", file=sys.stderr)
        raise SystemExit(130) from None
    result = table(options.output)
    write_bytes(options.output / "table.md", (result + "\n").encode())
    write_json(options.output / "seconds.json", {"this_run": round(time.monotonic() - started, 1)})
    print(f"\n{result}\n\n{plot(options.output)}; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
