"""The search for temperature and threshold: its speed beside a plain version, and what halving saves.

    python benchmarks/balance.py [--cells 100]                       speed, at the size of B-STaR's fine grid
    python benchmarks/balance.py --runs runs/arithmetic/20_bstar     fewer probe samples against all stored ones

The plain version is `tests/selection/plain_balance.py`, which the tests hold the vectorised one equal to. It would take
minutes for the whole grid, so some cells of it are timed, their results compared, and the time is scaled to all cells.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.commands.replay import StoredProbe
from harness.protocols import Probe
from harness.selection.balance import BalancedSampling, released_code_thresholds, score_thresholds
from harness.selection.ranked import build_pool
from harness.store import from_dict, read_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse
from tests.selection.plain_balance import balance

NUM_QUERIES, NUM_SAMPLES, NUM_TEMPERATURES = 600, 64, 15
TARGET, N_STAR = 3550, 6

Query = list[tuple[str, float, bool]]
"""(text, reward, correct) of each sample."""


def queries_of(rng: random.Random) -> list[Query]:
    """Queries of all degrees of difficulty whose correct samples have higher rewards, with some copies among them."""
    queries = []
    for _ in range(NUM_QUERIES):
        ease = rng.random()
        known: dict[str, tuple[float, bool]] = {}
        rows = []
        for _ in range(NUM_SAMPLES):
            text = str(rng.randrange(2 * NUM_SAMPLES))
            right = rng.random() < ease
            reward, right = known.setdefault(text, (right + rng.uniform(-1, 1), right))
            rows.append((text, reward, right))
        queries.append(rows)
    return queries


def rollouts_of(queries: Sequence[Query]) -> list[Rollout]:
    return [
        Rollout(
            Problem(str(index), "q"),
            tuple(ScoredResponse(Response((text,), "stop"), "", right, reward) for text, reward, right in rows),
        )
        for index, rows in enumerate(queries)
    ]


def measure_speed(num_cells: int) -> None:
    """Print the seconds of both versions for the grid of 15 temperatures and 200 thresholds."""
    rng = random.Random(0)
    thresholds = released_code_thresholds()
    grid = [queries_of(rng) for _ in range(NUM_TEMPERATURES)]
    collected = [rollouts_of(queries) for queries in grid]
    started = time.process_time()
    pools = [build_pool(rollouts) for rollouts in collected]
    ranked = time.process_time()
    scores = [score_thresholds(pool, thresholds, target=TARGET, n_star=N_STAR) for pool in pools]
    done = time.process_time()
    plain = []
    for _ in range(num_cells):
        t, column = rng.randrange(NUM_TEMPERATURES), rng.randrange(len(thresholds))
        begun = time.process_time()
        value, cap = balance(grid[t], thresholds[column], TARGET, N_STAR, "before_cap", "zero")
        plain.append(time.process_time() - begun)
        assert np.isclose(value, scores[t].mean[column])
        assert cap == scores[t].cap[column]
    cells = NUM_TEMPERATURES * len(thresholds)
    whole = statistics.mean(plain) * cells
    search, ranking = done - ranked, done - started
    size = (NUM_TEMPERATURES, len(thresholds), NUM_QUERIES, NUM_SAMPLES)
    print("{} temperatures x {} thresholds x {} queries x {} samples".format(*size))
    print(f"plain       {whole:9.1f} CPU-seconds, scaled up from {num_cells} of {cells} cells")
    print(f"vectorised  {search:9.3f} CPU-seconds for the search, {whole / search:.0f} times faster")
    print(f"            {ranking:9.3f} CPU-seconds with ranking the samples, {whole / ranking:.0f} times faster")


class Shuffled:
    """A probe that serves stored samples in another order of problems, and counts the problems it serves."""

    def __init__(self, probe: StoredProbe, order: Sequence[int]) -> None:
        self.probe, self.order, self.num_served = probe, order, 0

    @property
    def num_problems(self) -> int:
        return len(self.order)

    def __call__(self, sampling: SamplingConfig, start: int = 0, stop: int | None = None) -> Sequence[Rollout]:
        rows = self.probe(sampling)
        chosen = [rows[i] for i in self.order[start:stop]]
        self.num_served += len(chosen)
        return chosen


class Halves(BalancedSampling):
    """Successive halving by rank (arXiv:1502.07943): the better half of the temperatures goes on each time."""

    def _probe(self, probe: Probe) -> dict[float, Sequence[Rollout]]:
        live, start = list(self.temperatures), 0
        found: dict[float, Sequence[Rollout]] = dict.fromkeys(live, ())
        for left in range(math.ceil(math.log2(len(live))), -1, -1):
            stop = math.ceil(probe.num_problems / 2**left)
            for t in live:
                found[t] = [*found[t], *probe(replace(self.sampling, temperature=t), start, stop)]
            ranked = sorted(live, key=lambda t: -self.scores(found[t]).mean.max())
            live, start = sorted(ranked[: math.ceil(len(live) / 2)]), stop
            if len(live) == 1:
                return found
        return found


def scheduler_of(run: Path) -> BalancedSampling:
    """The scheduler of a run, from the configuration it keeps."""
    found: list[dict[str, Any]] = []

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if str(node.get("class_path", "")).endswith("BalancedSampling"):
                found.append(node["init_args"])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(yaml.safe_load((run / "config.yaml").read_text()))
    options = found[0]
    thresholds = options["thresholds"]  # numbers, or "released_code"
    made = from_dict(BalancedSampling, options)
    return replace(
        made,
        temperatures=tuple(options["temperatures"]),
        thresholds="released_code" if isinstance(thresholds, str) else tuple(thresholds),
        halving=False,
    )


def rules_of(scheduler: BalancedSampling) -> dict[str, tuple[BalancedSampling, float]]:
    """Ways to probe with fewer samples: the scheduler, and the share of the probe problems it may use."""
    options = {field: getattr(scheduler, field) for field in scheduler.__dataclass_fields__}
    rules: dict[str, tuple[BalancedSampling, float]] = {}
    for confidence in (2.58, 1.64, 1.0):
        for first in (16, 25):
            bound = replace(scheduler, halving=True, confidence=confidence, first_round=first)
            rules[f"halving, confidence {confidence:g}, first round {first}"] = bound, 1.0
    rules["the better half of the temperatures each round"] = Halves(**options), 1.0
    rules["half of the problems"] = scheduler, 0.5
    rules["a quarter of the problems"] = scheduler, 0.25
    return rules


def compare_halving(runs: Sequence[Path], num_orders: int) -> None:
    """Print what each rule chooses and needs, over random orders of the stored probe problems."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for run in runs:
        scheduler = scheduler_of(run)
        for path in sorted((run / "rollouts").glob("iter_[0-9][0-9][0-9].probe.jsonl")):
            stored = StoredProbe(read_rows(path, Rollout), path)
            count, rng = stored.num_problems, random.Random(0)
            full, account = scheduler.decide(int(path.name[5:8]), stored)
            grid, best = account["balance_scores"], account["balance_score"]
            rules = rules_of(scheduler)
            for order in (rng.sample(range(count), count) for _ in range(num_orders)):
                for name, (rule, share) in rules.items():
                    probe = Shuffled(stored, order[: round(share * count)])
                    chosen, _ = rule.decide(1, probe)
                    row = scheduler.temperatures.index(chosen.sampling.temperature)
                    column = list(scheduler.levels).index(chosen.reward_threshold)
                    needed = probe.num_served / (count * len(scheduler.temperatures))
                    found[name].append((chosen == full, 1 - needed, 1 - grid[row][column] / best))
    print(f"{len(next(iter(found.values()), []))} probes: {num_orders} orders of each iteration's problems\n")
    print("| probed with | same choice | samples saved | balance score lost |\n|---|---|---|---|")
    for name, values in found.items():
        same, saved, lost = (statistics.mean(column) for column in zip(*values, strict=True))
        print(f"| {name} | {same:.0%} | {saved:.0%} | {lost:.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100, help="cells of the grid that the plain version computes")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run directories with probe samples")
    parser.add_argument("--orders", type=int, default=20, help="orders of the probe problems")
    options = parser.parse_args()
    if options.runs:
        compare_halving(options.runs, options.orders)
    else:
        measure_speed(options.cells)


if __name__ == "__main__":
    main()
