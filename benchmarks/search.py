"""Problems per second of MCTS: all problems in flight, in lock-step over problems, and one problem at a time.

Usage: python benchmarks/search.py [CHECKPOINT] [--engine vllm] [--problems 32] [--candidates 2] ...

Without a checkpoint, the built-in arithmetic model (random weights) is written to a temporary folder; its steps end at
random, so they are of uneven length. The three ways take turns on the same engine and must find the same trees. The
time in the engine and the mean number of requests it had at a time say how full it was.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

from harness.environment import prepare_environment

prepare_environment()

import argparse
import itertools
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path

from harness.arithmetic.model import build_model, build_tokenizer
from harness.arithmetic.problems import problems
from harness.engines import EngineConfig, open_engine
from harness.models.checkpoints import load_tokenizer
from harness.prompts.templates import PromptTemplate
from harness.protocols import Engine
from harness.rewards.outcome import Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.search import MCTS, PlainSteps, drive
from harness.search.tree import SearchTree
from harness.types import Problem, Reply, Request, SamplingConfig


class LockStep:
    """Answers nobody before everybody is answered: the barrier that batched tree searches have."""

    def __init__(self, server: Dispatcher) -> None:
        self.server = server
        self._answers: deque[tuple[str, Reply]] = deque()

    def submit(self, key: str, request: Request) -> None:
        self.server.submit(key, request)

    @property
    def pending(self) -> bool:
        return bool(self._answers) or self.server.pending

    def next(self) -> tuple[str, Reply]:
        if not self._answers:
            while self.server.pending:
                self._answers.append(self.server.next())
        return self._answers.popleft()


def run(way: str, engine: Engine, tokenizer: object, rows: list[Problem], search: MCTS, sampling: SamplingConfig):
    """Search all problems; return the trees by problem, seconds, and the server with its counts."""
    server = Dispatcher(engine, tokenizer, PromptTemplate("lines"), Outcome())
    serve = LockStep(server) if way == "lock-step" else server
    searches = ((problem.id, search.grow(problem, sampling)) for problem in rows)
    start = time.perf_counter()
    found: dict[str, SearchTree] = dict(drive(searches, serve, 1 if way == "one at a time" else len(rows)))
    return found, time.perf_counter() - start, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--max-depth", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=100)
    parser.add_argument("--max-num-seqs", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.checkpoint is None:
            options.checkpoint = folder
            tokenizer = build_tokenizer()
            tokenizer.save_pretrained(folder)
            build_model(tokenizer, 0).save_pretrained(folder)
        engine = open_engine(
            Path(options.checkpoint), EngineConfig(kind=options.engine, max_num_seqs=options.max_num_seqs)
        )
        measure(engine, load_tokenizer(options.checkpoint), options)
        engine.close()


def measure(engine: Engine, tokenizer: object, options: argparse.Namespace) -> None:
    search = MCTS(
        candidates=options.candidates,
        rollouts=options.rollouts,
        max_depth=options.max_depth,
        steps=PlainSteps(("\n",)),
        score_steps=False,
        terminal_reward="sign",
    )
    sampling = SamplingConfig(max_tokens=options.max_tokens)
    rows = list(itertools.islice(problems("train", 0), options.problems))
    ways = ("in flight", "lock-step", "one at a time")
    run("in flight", engine, tokenizer, rows[:4], search, sampling)
    rates: dict[str, list[float]] = {way: [] for way in ways}
    trees: dict[str, dict[str, SearchTree]] = {}
    print(f"{engine.name}, {len(rows)} problems, {search}")
    for _ in range(options.rounds):
        for way in ways:
            trees[way], seconds, server = run(way, engine, tokenizer, rows, search, sampling)
            rates[way].append(len(rows) / seconds)
            print(
                f"{way:14} {len(rows) / seconds:7.2f} problems/s {server.num_tokens / seconds:8.0f} tokens/s"
                f" {server.mean_pending:6.1f} requests pending, engine {server.seconds['generate'] / seconds:4.0%}",
                flush=True,
            )
    same = [sum(len(tree.nodes) == len(trees[way][key].nodes) for key, tree in trees[ways[0]].items()) for way in ways]
    best = {way: max(values) for way, values in rates.items()}
    print(f"trees of the same size as in flight: {dict(zip(ways, same, strict=True))} of {len(rows)}")
    for way in ways[1:]:
        ratio = statistics.median(a / b for a, b in zip(rates["in flight"], rates[way], strict=True))
        peak = best[ways[0]] / best[way]
        print(f"in flight against {way}: {ratio:.2f} x (median of rounds), best against best {peak:.2f} x")


if __name__ == "__main__":
    main()
