"""Held-out accuracy by iteration of eight methods on the built-in task, three seeds, equal budgets of samples.

    python benchmarks/bstar_arithmetic.py [--seeds 0 1 2] [--output runs/bstar_arithmetic] [--docs docs]
    python benchmarks/bstar_arithmetic.py --report        only the table and the plot, from what is there

Every stage is a `harness` command, run two at a time with one thread each. Run it again after an interruption: finished
stages are skipped, the others go on. B-STaR's probes count: the methods with fixed settings get as many more training
problems in each iteration as the probes cost it samples. STaR draws one response to each of all training problems,
which is all it can use. Writes `bstar_arithmetic.md` and `bstar_arithmetic.png` to --docs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from harness.store import write_bytes

RECIPE = Path(__file__).parents[1] / "configs/recipes/bstar/arithmetic"
RECIPE_OUTPUT = "runs/arithmetic"
METHODS = {
    "24_rest_em": "ReST-EM",
    "23_iterative_rft": "Iterative RFT",
    "21_online_rft": "Online RFT",
    "28_online_rft_answer_only": "Online RFT, answer only",
    "25_star": "STaR",
    "20_bstar": "B-STaR",
    "26_bstar_trained_reward": "B-STaR, trained reward",
    "22_more_sft": "more SFT, as many steps",
}
FIXED = ("24_rest_em", "23_iterative_rft", "21_online_rft", "28_online_rft_answer_only")
NUM_ITERATIONS = 3
NUM_PROBE = 100


@dataclass(frozen=True)
class Stage:
    """A command, the stages before it, and the file that is there once it has succeeded."""

    name: str
    arguments: tuple[str, ...]
    done: Path
    after: tuple[str, ...] = ()


def stages(folder: Path, seed: int) -> list[Stage]:
    """All stages of one seed."""
    configs = write_configs(folder)
    found: list[Stage] = []

    def add(name: str, arguments: Sequence[str], *after: str) -> None:
        found.append(Stage(f"seed {seed}: {name}", tuple(arguments), folder / "done" / name, after))

    def fit(name: str, *after: str) -> None:
        config = str(configs / f"{name}.yaml")
        add(name, ("fit", "--config", config, "--seed_everything", str(seed), "--ckpt_path", "last"), *after)

    def rollout(name: str, *after: str) -> None:
        add(name, ("rollout", "--config", str(configs / f"{name}.yaml")), *after)

    prepare = ("prepare", "--output", str(folder / "data"), "--seed", str(seed), "--num_probe", str(NUM_PROBE))
    add("data", prepare)
    fit("10_sft", "data")
    rollout("12_rollout", "10_sft")
    rollout("14_prm_labels", "12_rollout")
    fit("16_prm", "14_prm_labels")
    for name in METHODS:
        fit(name, "16_prm" if name == "26_bstar_trained_reward" else "10_sft")
    task = ("eval", "--task", str(folder / "data/test.jsonl"), "--model", str(folder / "22_more_sft/hf"))
    options = ("--protocol", "arithmetic", "--max_tokens", "48", "--output", str(folder / "22_more_sft/eval"))
    add("22_more_sft evaluation", task + options, "22_more_sft")
    return found


def write_configs(folder: Path) -> Path:
    """The recipe's configs with their paths under `folder` and equal budgets of samples."""
    [temperatures] = re.findall(r"temperatures: \[(.+)\]", (RECIPE / "20_bstar.yaml").read_text())
    probed = len(temperatures.split(",")) * NUM_PROBE  # each costs as many samples as a training problem
    for config in RECIPE.glob("*.yaml"):
        text = config.read_text().replace(RECIPE_OUTPUT, str(folder))
        if config.stem in FIXED:
            [size] = re.findall(r"problems_per_iteration: (\d+)", text)
            text = text.replace(f"problems_per_iteration: {size}", f"problems_per_iteration: {int(size) + probed}")
        write_bytes(folder / "configs" / config.name, text.encode())
    return folder / "configs"


def run(todo: list[Stage], logs: Path, at_once: int = 2) -> None:
    """Run the stages whose predecessors are done, `at_once` at a time; stop everything if one fails."""
    waiting = [stage for stage in todo if not stage.done.exists()]
    running: dict[Stage, tuple[subprocess.Popen, float]] = {}
    try:
        while waiting or running:
            for stage in [s for s in waiting if all((s.done.parent / name).exists() for name in s.after)]:
                if len(running) < at_once:
                    waiting.remove(stage)
                    running[stage] = start(stage, logs), time.monotonic()
            for stage, (process, started) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[stage]
                if process.returncode:
                    raise SystemExit(f"error: '{stage.name}' ended with status {process.returncode}; see {logs}.")
                stage.done.parent.mkdir(parents=True, exist_ok=True)
                stage.done.touch()
                print(f"[{stage.name}] done in {time.monotonic() - started:.0f} s", flush=True)
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()


def start(stage: Stage, logs: Path) -> subprocess.Popen:
    logs.mkdir(parents=True, exist_ok=True)
    print(f"[{stage.name}] harness {shlex.join(stage.arguments)}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "WANDB_MODE": "offline"}
    with open(logs / f"{stage.name.replace(':', '').replace(' ', '_')}.log", "a") as log:
        command = [sys.executable, "-m", "harness", *stage.arguments]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def accuracies(run_folder: Path) -> dict[int, float]:
    """Greedy held-out accuracy by iteration; 0 is the SFT policy."""
    found = {}
    for path in sorted(run_folder.glob("rollouts/eval_[0-9][0-9][0-9].json")):
        data = json.loads(path.read_text())
        found[data["iteration"]] = data["accuracy"]
    if (results := run_folder / "eval/results.json").exists():
        [task] = json.loads(results.read_text())["tasks"]
        found[NUM_ITERATIONS] = task["metrics"]["accuracy"]["value"]
    return found


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and half the width of its 95 % interval by Student's t; NaN for one seed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, float("nan")
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


def num_samples(run_folder: Path) -> int:
    """Responses sampled in all iterations, probes included."""
    total = 0
    for path in run_folder.glob("rollouts/iter_[0-9][0-9][0-9]*.jsonl"):
        if not path.name.endswith(".train.jsonl"):
            with open(path) as lines:
                total += sum(len(json.loads(line).get("responses", ())) for line in lines)
    return total


def collected(output: Path) -> tuple[dict[str, dict[int, list[float]]], dict[str, list[int]]]:
    """For each method accuracies by iteration, and samples, over the seeds that have them."""
    values: dict[str, dict[int, list[float]]] = {}
    samples: dict[str, list[int]] = {}
    for folder in sorted(output.glob("seed[0-9]*")):
        for name in METHODS:
            for iteration, accuracy in accuracies(folder / name).items():
                values.setdefault(name, {}).setdefault(iteration, []).append(accuracy)
            if drawn := num_samples(folder / name):
                samples.setdefault(name, []).append(drawn)
    return values, samples


def table(output: Path) -> str:
    """The accuracies as Markdown: mean over seeds with a 95 % interval."""
    values, samples = collected(output)
    last = max((max(rows) for rows in values.values()), default=0)
    lines = [
        "| method | samples | SFT | " + " | ".join(f"iteration {i}" for i in range(1, last + 1)) + " |",
        "|---|---|" + "---|" * (last + 1),
    ]
    for name, label in METHODS.items():
        if name not in values:
            continue
        cells = []
        for iteration in range(last + 1):
            found = values[name].get(iteration)
            if not found:
                cells.append("")
                continue
            mean, half = mean_and_half_width(found)
            cells.append(f"{mean:.1%}" + (f" ± {100 * half:.1f}" if half == half else ""))
        drawn = f"{statistics.mean(samples[name]):,.0f}" if name in samples else "0"
        lines.append(f"| {label} | {drawn} | " + " | ".join(cells) + " |")
    seeds = len(list(output.glob("seed[0-9]*")))
    note = f"mean over {seeds} seeds ± half a 95 % interval (Student's t)"
    lines += ["", f"Greedy accuracy on 500 held-out problems, {note}."]
    return "\n".join(lines)


def plot(output: Path, path: Path) -> None:
    """Accuracy by iteration of every method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values, _ = collected(output)
    figure, axes = pyplot.subplots(figsize=(7, 4.5), constrained_layout=True)
    for shift, (name, label) in enumerate(METHODS.items()):
        rows = values.get(name, {})
        points = [(iteration, *mean_and_half_width(rows[iteration])) for iteration in sorted(rows)]
        if points:
            x, y, half = zip(*points, strict=True)
            moved = [value + 0.02 * (shift - len(METHODS) / 2) for value in x]  # so that intervals do not overlap
            axes.errorbar(moved, y, half if half[0] == half[0] else None, marker="o", capsize=3, label=label)
    axes.set(xlabel="iteration", ylabel="held-out greedy accuracy", title="Arithmetic, 500 held-out problems")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/bstar_arithmetic"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        todo = [stage for seed in options.seeds for stage in stages(options.output / f"seed{seed}", seed)]
        try:
            run(todo, options.output / "logs")
        except KeyboardInterrupt:
            raise SystemExit("interrupted; run it again to continue.") from None
    result = table(options.output)
    options.docs.mkdir(parents=True, exist_ok=True)
    plot(options.output, options.docs / "bstar_arithmetic.png")
    text = f"# Self-improvement on the built-in task\n\n{result}\n\n![accuracy by iteration](bstar_arithmetic.png)\n"
    write_bytes(options.docs / "bstar_arithmetic.md", text.encode())
    print(result)


if __name__ == "__main__":
    main()
