"""The search for temperature and threshold: its speed beside a plain version, and what halving saves.

    python benchmarks/balance.py [--cells 100]                       speed, at the size of B-STaR's fine grid
    python benchmarks/balance.py --runs runs/arithmetic/20_bstar     halving against the full grid, on stored samples

The plain version is `tests/rollouts/plain_balance.py`, which the tests hold the vectorised one equal to. It would take
minutes for the whole grid, so some cells of it are timed, their results compared, and the time is scaled to all cells.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.rollouts.balance import BalancedSampling, released_code_thresholds, score_thresholds
from harness.rollouts.iteration import IterationFiles
from harness.rollouts.pool import build_pool
from harness.rollouts.replay import StoredProbe
from harness.store import from_dict, read_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse
from tests.rollouts.plain_balance import balance

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


class Counted:
    """A probe that counts the samples it hands out."""

    def __init__(self, probe: StoredProbe) -> None:
        self.probe, self.num_samples = probe, 0

    @property
    def num_problems(self) -> int:
        return self.probe.num_problems

    def __call__(self, sampling: SamplingConfig, start: int = 0, stop: int | None = None) -> Sequence[Rollout]:
        rollouts = self.probe(sampling, start, stop)
        self.num_samples += sum(len(rollout.responses) for rollout in rollouts)
        return rollouts


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
    thresholds = options["thresholds"]
    made = from_dict(BalancedSampling, options)
    return replace(
        made,
        temperatures=tuple(options["temperatures"]),
        thresholds=thresholds if isinstance(thresholds, str) else tuple(thresholds),
        halving=False,
    )


def compare_halving(runs: Sequence[Path]) -> None:
    """Print for each iteration what the full grid and halving choose, and the samples they need."""
    print("| run | iteration | full grid | halving | score lost | samples saved |")
    print("|---|---|---|---|---|---|")
    saved, same = [], []
    for run in runs:
        scheduler = scheduler_of(run)
        for path in sorted((run / "rollouts").glob("iter_[0-9][0-9][0-9].probe.jsonl")):
            iteration = int(path.name[5:8])
            rollouts = read_rows(IterationFiles(run / "rollouts", iteration).probe, Rollout)
            whole, halved = (Counted(StoredProbe(rollouts, path)) for _ in range(2))
            full, account = scheduler.decide(iteration, whole)
            part, _ = replace(scheduler, halving=True).decide(iteration, halved)
            row = scheduler.temperatures.index(part.sampling.temperature)
            column = list(scheduler.levels).index(part.reward_threshold)
            lost = account["balance_score"] - account["balance_scores"][row][column]
            saved.append(1 - halved.num_samples / whole.num_samples)
            same.append(part == full)
            chosen = [f"{c.sampling.temperature:g}, {c.reward_threshold:g}" for c in (full, part)]
            print(f"| {run} | {iteration} | {chosen[0]} | {chosen[1]} | {lost:.4f} | {saved[-1]:.0%} |")
    if saved:
        print(f"\nthe same choice in {sum(same)} of {len(same)}; {statistics.mean(saved):.0%} of the samples saved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100, help="cells of the grid that the plain version computes")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run directories with probe samples")
    options = parser.parse_args()
    if options.runs:
        compare_halving(options.runs)
    else:
        measure_speed(options.cells)


if __name__ == "__main__":
    main()
