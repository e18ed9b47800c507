"""Measures the policy between iterations with the engine that samples its rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.grading.graders import named as find_grader
from harness.metrics.intervals import control_variate, mean_interval
from harness.metrics.monitors import monitors
from harness.metrics.sequential import random_order
from harness.problems import read_all_problems
from harness.prompts.templates import PromptTemplate
from harness.provenance import contents, identity
from harness.rewards import Outcome
from harness.rollouts.collect import collect, grade_again
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.log import RolloutLog
from harness.rollouts.team import Block, Draw, Team
from harness.store import file_hash, sealed, stable_hash, stream_rows, write_json
from harness.types import Problem, Rollout, SamplingConfig

OF_A_PART = ("part", "whole_every")
"""Fields that decide nothing where all problems are measured always; files of earlier versions lack them."""


@dataclass(frozen=True)
class HeldOutAccuracy:
    """Greedy accuracy, and pass@n if samples are asked for, on held-out problems."""

    problems: list[str]
    """JSONL files of problems; none of them may be a training problem."""
    max_tokens: int = 512
    num_samples: int = 0
    """Samples per problem beside the greedy one, for pass@1 and pass@n."""
    temperature: float = 1.0
    """Of the samples."""
    seed: int = 0
    every: int = 1
    """Measure after every so many iterations, and before the first and after the last."""
    part: int | None = None
    """Measure on so many of the problems, random ones anew each time, but for every `whole_every`-th measurement, the
    first among them, which is of all. What the policy of the last whole one did sharpens the accuracy
    (`harness.metrics.intervals.control_variate`). None is all, always."""
    whole_every: int = 4
    """With `part`, every so many measurements one is of all problems."""

    def __post_init__(self) -> None:
        if self.part is not None and self.part < 4:
            raise InputError(f"evaluation: part is {self.part}; it must be at least 4 problems, or left out for all.")
        if self.whole_every < 1:
            raise InputError(f"evaluation: whole_every is {self.whole_every}; it must be at least 1.")

    def load(self) -> list[Problem]:
        problems = read_all_problems(self.problems)
        if self.part is not None and self.part >= len(problems):
            raise InputError(
                f"evaluation: part is {self.part} of {len(problems)} problems; give fewer, or leave it out for all."
            )
        return problems

    def result_file(self, folder: Path, iteration: int) -> Path:
        """Where the numbers of the policy after an iteration are; the rollouts lie beside it."""
        return folder / f"eval_{iteration:03d}.json"

    def result_files(self, folder: Path) -> list[Path]:
        """The result files that are there, in the order of the iterations."""
        return sorted(folder.glob("eval_[0-9][0-9][0-9].json"))

    def asked(self, template: PromptTemplate, grader: str) -> dict[str, Any]:
        """All that decides the numbers but the policy and its engine, as JSON."""
        return {
            "template": identity(template),
            "problems": contents(self.load()),
            "grader": find_grader(grader).label,
            **{
                f.name: identity(getattr(self, f.name))
                for f in fields(self)
                if f.name != "problems" and (f.name not in OF_A_PART or self.part is not None)
            },
        }

    def whole_before(self, folder: Path, iteration: int) -> Path | None:
        """The rollouts of the last measurement of all problems before that of an iteration, if this is to be of a part.

        None where it is one of all: its turn has come, or the file of the last one is gone.
        """
        turns = iteration // self.every % self.whole_every
        path = self.result_file(folder, iteration - turns * self.every)
        if self.part is None or not turns or not path.exists():
            return None
        return path.with_suffix(".jsonl")

    def run(
        self, iteration: int, folder: Path, dispatcher: Dispatcher, grader: str, team: Team | None = None
    ) -> dict[str, float]:
        """Sample, grade and write the numbers; return them.

        Args:
            team: who samples; default is this process alone. The other ranks of a team call `follow` meanwhile.
        """
        problems = self.load()
        result = self.result_file(folder, iteration)
        before = self.whole_before(folder, iteration)
        if before is not None:
            problems = self._random_part(problems, iteration)
        greedy = SamplingConfig(n=1, temperature=0.0, max_tokens=self.max_tokens, seed=self.seed)

        def sample(sampling: SamplingConfig) -> Sequence[Rollout]:
            draw = _draw(dispatcher, sampling, grader, iteration)
            return log.block(problems, sampling, draw, kind="measure", iteration=iteration, width=sampling.n)

        made_by = dispatcher.provenance(reward=Outcome(), grader=grader)
        with RolloutLog(
            result.with_suffix(".jsonl"),
            made_by,
            lambda rows: grade_again(rows, dispatcher, grader=grader),
            team,
            lambda: dispatcher.num_tokens,
        ) as log:
            rollouts = sample(greedy)
            shares = {rollout.problem.id: float(rollout.responses[0].correct) for rollout in rollouts}
            accuracy = mean_interval(list(shares.values()))
            of_part = {}
            if before is not None:
                of_part = {"accuracy_of_part": accuracy.value, "num_problems": len(shares)}
                known = pass_rates(before)
                accuracy = control_variate(
                    list(shares.values()), [known[name] for name in shares], list(known.values())
                )
            metrics = {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
            metrics |= of_part
            if self.num_samples:
                drawn = monitors(sample(replace(greedy, n=self.num_samples, temperature=self.temperature)))
                metrics |= {"pass@1": drawn["accuracy"], f"pass@{self.num_samples}": drawn["solved"]}
                metrics |= {name: drawn[name] for name in ("distinct_correct", "entropy", "mean_tokens")}
        about = {"weights": dispatcher.engine.version, "asked": self.asked(dispatcher.template, grader)}
        hashes = {log.path.name: file_hash(log.path)}
        write_json(result, sealed({"iteration": iteration, **about, **metrics, "hashes": hashes}))
        return metrics

    def _random_part(self, problems: Sequence[Problem], iteration: int) -> list[Problem]:
        by_id = {problem.id: problem for problem in problems}
        return [by_id[name] for name in random_order(list(by_id), stable_hash(self.seed, iteration))[: self.part]]

    def follow(self, block: Block, folder: Path, dispatcher: Dispatcher, grader: str, team: Team) -> None:
        """On another rank than the first: take part in a block that `run` has announced there."""
        key = dispatcher.provenance(reward=Outcome(), grader=grader).key
        draw = _draw(dispatcher, block.sampling, grader, block.iteration)
        by_id = {problem.id: problem for problem in self.load()}
        for _ in team.take_part(block, by_id, folder / block.file, key, draw, lambda: dispatcher.num_tokens):
            pass


def pass_rates(path: Path) -> dict[str, float]:
    """Of each problem in a file of graded rollouts the share of right responses, however they were sampled."""
    right: dict[str, list[float]] = {}
    for rollout in stream_rows(path, Rollout):
        right.setdefault(rollout.problem.id, []).extend(float(row.correct) for row in rollout.responses)
    return {name: sum(rows) / len(rows) for name, rows in right.items()}


def _draw(dispatcher: Dispatcher, sampling: SamplingConfig, grader: str, iteration: int) -> Draw:
    def draw(problems: Iterable[Problem], window: int) -> Iterable[Rollout]:
        return collect(problems, dispatcher, sampling, grader=grader, iteration=iteration, max_in_flight=window)

    return draw
