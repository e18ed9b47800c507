"""How long ranks take to sample an iteration, and how much of their time they use, by the number of devices: computed.

    python benchmarks/dealing.py [--devices 8 32 128 1024] [--skew 2]

The problems are dealt out by the code of a run (`harness.rollouts.team.Team`); engines and time are a model. An engine
draws up to 256 samples at a time, one token of each in a step of 7.5 ms + 0.037 ms a sample: a 7B in bfloat16 on an
H100, 4.5 ms to read its weights at 3.35 TB/s and 3 ms around that, 15,000 tokens a second when it is full. Lengths are
log-normal and cut at a limit, those of one problem alike. Ranks begin within `--skew` seconds. A full engine all the
time would be 100 %. Beside what a run does (in its first iteration, and in later ones, where the longest problems of
the one before come first) stand one engine for all devices, and shares of the problems that are fixed beforehand.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from harness.ranks import Ranks
from harness.rollouts.team import Block, Team
from harness.types import Problem, SamplingConfig

STEP, SAMPLE, SLOTS = 7.5e-3, 3.7e-5, 256
FULL = SLOTS / (STEP + SAMPLE * SLOTS)


@dataclass
class Work:
    """What is sampled: responses to every problem, by the problem's name."""

    title: str
    lengths: dict[str, list[int]]
    guesses: dict[str, int]
    """Tokens of each problem in the iteration before."""

    @property
    def num_samples(self) -> int:
        return sum(map(len, self.lengths.values()))

    @property
    def num_tokens(self) -> int:
        return sum(map(sum, self.lengths.values()))


def make_work(title: str, problems: int, n: int, mean: float, spread: float, limit: int) -> Work:
    rng = np.random.default_rng(0)

    def cut(lengths: np.ndarray) -> np.ndarray:
        return np.minimum(lengths, limit).astype(int) + 1

    typical = cut(rng.lognormal(np.log(mean) - spread**2 / 2, 0.8 * spread, problems))
    drawn = cut(typical[:, None] * rng.lognormal(0, 0.6 * spread, (problems, n)))
    before = typical * n * rng.lognormal(0, 0.3, problems)
    names = [str(number) for number in range(problems)]
    return Work(
        title, dict(zip(names, drawn.tolist(), strict=True)), dict(zip(names, before.astype(int).tolist(), strict=True))
    )


@dataclass
class Store:
    """What a `Team` needs of its ranks, within one process."""

    rank: int
    size: int
    counters: Counter[str]

    def add(self, key: str, amount: int) -> int:
        self.counters[key] += amount
        return self.counters[key]

    def set(self, key: str, value: str) -> None:
        """The other ranks know the block already."""


def draw(names: Iterable[str], window: int, lengths: dict[str, list[int]], now: float = 0.0) -> Iterator[float]:
    """The seconds at which one engine takes or has finished a problem; it takes the next one when it has room.

    Args:
        names: of the problems that it is dealt.
        window: problems that it may have in flight.
        lengths: tokens of the samples of each problem.
        now: when it begins.
    """
    left: Counter[str] = Counter()
    running: list[tuple[int, str]] = []  # the step at which a sample ends
    waiting: deque[tuple[int, str]] = deque()
    coming, step = iter(names), 0
    yield now
    while True:
        while len(left) < window and (name := next(coming, None)) is not None:
            left[name] = len(lengths[name])
            waiting.extend((length, name) for length in lengths[name])
            yield now  # the others take one too
        while waiting and len(running) < SLOTS:
            length, name = waiting.popleft()
            heapq.heappush(running, (step + length, name))
        if not running:
            return
        end = running[0][0]
        now, step = now + (end - step) * (STEP + SAMPLE * len(running)), end
        done = 0
        while running and running[0][0] == end:
            name = heapq.heappop(running)[1]
            left[name] -= 1
            if not left[name]:
                del left[name]
                done += 1
        if done:
            yield now


def makespan(engines: list[Iterator[float]]) -> float:
    """Seconds until the last one is done; problems are taken in the order of time."""
    turns = itertools.count()  # at the same time, whose turn was the longest ago
    events, last = [(0.0, next(turns), engine) for engine in engines], 0.0
    while events:
        last, _, engine = heapq.heappop(events)
        if (then := next(engine, None)) is not None:
            heapq.heappush(events, (then, next(turns), engine))
    return last


def dealt(work: Work, devices: int, known: bool, skew: float) -> float:
    """As a run deals them, with or without knowing how long the responses of the iteration before were."""
    starts = np.random.default_rng(1).uniform(0, skew, devices).tolist()
    counters: Counter[str] = Counter()
    teams = [Team(cast(Ranks, Store(rank, devices, counters)), SLOTS) for rank in range(devices)]
    n = len(next(iter(work.lengths.values())))
    block = Block("", "sample", 1, SamplingConfig(n=n), tuple(work.lengths), width=n)
    if known:
        teams[0]._lengths = dict(work.guesses)
    block = teams[0].announce(block)
    problems = {name: Problem(name, "", "") for name in work.lengths}
    engines: list[Any] = []
    for team, start in zip(teams, starts, strict=True):
        team._number = teams[0]._number
        names = (problem.id for problem in team._dealt(block, problems))
        engines.append(draw(names, team._window(block), work.lengths, start))
    return makespan(engines)


def fixed(work: Work, devices: int) -> float:
    names = list(work.lengths)
    return makespan([draw(names[number::devices], len(names), work.lengths) for number in range(devices)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 32, 128, 1024])
    parser.add_argument("--skew", type=float, default=2.0, help="seconds within which the ranks begin")
    options = parser.parse_args()
    works = (
        make_work("n=32, at most 1,024 tokens", 12000, 32, 300, 0.5, 1024),
        make_work("n=16, at most 32,768 tokens", 6000, 16, 6000, 0.8, 32768),
    )
    print("| samples | devices | one engine | fixed shares | a run, first iteration | a run, later ones |")
    print("|---|---|---|---|---|---|")
    for work in works:
        title = f"{work.num_samples:,}, {work.num_tokens / work.num_samples:,.0f} tokens on average ({work.title})"
        alone = fixed(work, 1)
        for devices in options.devices:
            runs = (dealt(work, devices, known, options.skew) for known in (False, True))
            times = (alone, fixed(work, devices), *runs)
            best = work.num_tokens / FULL / devices
            cells = (f"{seconds / 60:.1f} min, {100 * best / seconds:.1f} %" for seconds in times)
            print(f"| {title} | {devices:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
