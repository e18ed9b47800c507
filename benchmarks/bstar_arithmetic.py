"""Held-out accuracy by iteration of eight methods on the built-in task, three seeds, equal budgets of samples.

    python benchmarks/bstar_arithmetic.py [--seeds 0 1 2] [--output runs/bstar_arithmetic] [--docs docs]
    python benchmarks/bstar_arithmetic.py --report        only the table and the plot, from what is there

Every stage is a `harness` command; after the SFT of a seed two run at a time, with one thread each. Run it again
after an interruption: finished stages are skipped, the others go on. B-STaR's probes count: the methods with fixed
settings get as many more training problems in each iteration as the probes cost it samples. STaR draws one response
to each of all training problems, which is all it can use. Writes `bstar_arithmetic.md` and `bstar_arithmetic.png` to
--docs.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from harness.stages import Stage, final_accuracy, interruptible, run
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
BASELINE = "21_online_rft"
NUM_ITERATIONS = 3
NUM_PROBE = 100


def stages(folder: Path, seed: int) -> dict[str, Stage]:
    """All stages of one seed, by name."""
    configs = write_configs(folder)
    found: dict[str, Stage] = {}

    def add(name: str, *arguments: str) -> None:
        found[name] = Stage(f"seed {seed}: {name}", arguments, folder / "done" / name)

    def fit(name: str) -> None:
        config = str(configs / f"{name}.yaml")
        add(name, "fit", "--config", config, "--seed_everything", str(seed), "--ckpt_path", "last")

    add("data", "prepare", "--output", str(folder / "data"), "--seed", str(seed), "--num_probe", str(NUM_PROBE))
    fit("10_sft")
    for name in ("12_rollout", "14_prm_labels"):
        add(name, "rollout", "--config", str(configs / f"{name}.yaml"))
    for name in ("16_prm", *METHODS):
        fit(name)
    task = ("--task", str(folder / "data/test.jsonl"), "--model", str(folder / "22_more_sft/hf"))
    options = ("--protocol", "arithmetic", "--max_tokens", "48", "--output", str(folder / "22_more_sft/eval"))
    add("22_more_sft evaluation", "eval", *task, *options)
    return found


def run_all(found: dict[str, Stage], output: Path) -> None:
    """Run one seed: what all start from, and then two lanes side by side."""
    first = ("data", "10_sft")
    one = ("12_rollout", "14_prm_labels", "16_prm", "26_bstar_trained_reward", "20_bstar", "25_star")
    other = [name for name in found if name not in (*first, *one)]
    run([[found[name] for name in first]], output)
    run([[found[name] for name in lane] for lane in (one, other)], output)


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


def accuracies(run_folder: Path) -> dict[int, float]:
    """Greedy held-out accuracy by iteration; 0 is the SFT policy."""
    found = {}
    for path in sorted(run_folder.glob("rollouts/eval_[0-9][0-9][0-9].json")):
        data = json.loads(path.read_text())
        found[data["iteration"]] = data["accuracy"]
    if (run_folder / "eval/results.json").exists():
        found[NUM_ITERATIONS] = final_accuracy(run_folder)["accuracy"]
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


def collected(output: Path) -> dict[str, dict[int, dict[int, float]]]:
    """Accuracy of each method by iteration and seed; the control has the SFT policy's as iteration 0."""
    values: dict[str, dict[int, dict[int, float]]] = {name: {} for name in METHODS}
    for folder in sorted(output.glob("seed[0-9]*")):
        finished = {name: accuracies(folder / name) for name in METHODS if (folder / "done" / name).exists()}
        starts = [found[0] for found in finished.values() if 0 in found]
        for name, found in finished.items():
            for iteration, accuracy in ({0: starts[0]} | found).items():
                values[name].setdefault(iteration, {})[int(folder.name[4:])] = accuracy
    return values


def cell(values: Sequence[float], sign: str = "") -> str:
    """Mean over seeds in per cent, and half its 95 % interval."""
    mean, half = mean_and_half_width(values)
    return f"{100 * mean:{sign}.1f}" + (f" ± {100 * half:.1f}" if half == half else "")


def table(output: Path) -> str:
    """The accuracies as Markdown: by iteration, and after the last by seed with paired differences."""
    values = {name: rows for name, rows in collected(output).items() if rows}
    iterations = range(1, NUM_ITERATIONS + 1)
    head = " | ".join(f"iteration {i}" for i in iterations)
    lines = [f"| method | samples | SFT | {head} | gain over SFT |", "|---|---|---|" + "---|" * (NUM_ITERATIONS + 1)]
    for name, rows in values.items():
        drawn = [num_samples(folder / name) for folder in output.glob("seed[0-9]*") if (folder / name).exists()]
        means = [f"{100 * statistics.mean(rows[i].values()):.1f}" if i in rows else "" for i in (0, *iterations)]
        last = rows.get(NUM_ITERATIONS, {})
        gain = cell([value - rows[0][seed] for seed, value in last.items()], "+") if last else ""
        lines.append(f"| {METHODS[name]} | {statistics.mean(drawn):,.0f} | {' | '.join(means)} | {gain} |")
    seeds = sorted({seed for rows in values.values() for seed in rows[0]})
    lines += ["", f"| after iteration {NUM_ITERATIONS} | " + " | ".join(f"seed {seed}" for seed in seeds)]
    lines[-1] += f" | beside {METHODS[BASELINE]} |"
    lines.append("|---" * (len(seeds) + 2) + "|")
    reference = values.get(BASELINE, {}).get(NUM_ITERATIONS, {})
    for name, rows in values.items():
        last = rows.get(NUM_ITERATIONS, {})
        each = [f"{100 * last[seed]:.1f}" if seed in last else "" for seed in seeds]
        shared = [last[seed] - reference[seed] for seed in seeds if seed in last and seed in reference]
        difference = cell(shared, "+") if shared and name != BASELINE else ""
        lines.append(f"| {METHODS[name]} | {' | '.join(each)} | {difference} |")
    lines += [
        "",
        "Greedy accuracy in per cent on 500 held-out problems of each seed (one value: about ± 4.3); gains and",
    ]
    lines[-1] += " differences are paired by seed, ± half a 95 % interval over seeds (Student's t)."
    return "\n".join(lines)


def plot(output: Path, path: Path) -> None:
    """Accuracy by iteration of every method, a panel a seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = collected(output)
    seeds = sorted({seed for rows in values.values() for found in rows.values() for seed in found})
    figure, panels = pyplot.subplots(
        1, len(seeds), figsize=(3.6 * len(seeds) + 2, 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, seed in zip(panels[0], seeds, strict=True):
        for number, (name, label) in enumerate(METHODS.items()):
            rows = values[name]
            points = [(i, 100 * rows[i][seed]) for i in sorted(rows) if seed in rows[i]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=f"C{number}", label=label)
        axes.set(xlabel="iteration", title=f"seed {seed}", xticks=range(NUM_ITERATIONS + 1))
        axes.errorbar(0.15, axes.get_ylim()[1] - 6, 4.3, color="black", capsize=3)
        axes.annotate("95 % of\none value", (0.25, axes.get_ylim()[1] - 8), fontsize="x-small")
        axes.grid(alpha=0.3)
    panels[0][0].set(ylabel="held-out accuracy, greedy, %")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/bstar_arithmetic"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        with interruptible():
            for seed in options.seeds:
                run_all(stages(options.output / f"seed{seed}", seed), options.output)
    result = table(options.output)
    options.docs.mkdir(parents=True, exist_ok=True)
    plot(options.output, options.docs / "bstar_arithmetic.png")
    text = f"# Self-improvement on the built-in task\n\n{result}\n\n![accuracy by iteration](bstar_arithmetic.png)\n"
    write_bytes(options.docs / "bstar_arithmetic.md", text.encode())
    print(result)


if __name__ == "__main__":
    main()
