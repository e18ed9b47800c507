"""Measures the policy between iterations with the engine that samples its rollouts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.grading.graders import named as find_grader
from harness.metrics.intervals import mean_interval
from harness.metrics.monitors import monitors
from harness.problems import read_all_problems
from harness.prompts.templates import PromptTemplate
from harness.provenance import contents, identity
from harness.rewards import Outcome
from harness.rollouts.collect import collect, grade_again
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.log import RolloutLog
from harness.rollouts.team import Block, Draw, Team
from harness.store import file_hash, sealed, write_json
from harness.types import Problem, Rollout, SamplingConfig


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

    def load(self) -> list[Problem]:
        return read_all_problems(self.problems)

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
            **{f.name: identity(getattr(self, f.name)) for f in fields(self) if f.name != "problems"},
        }

    def run(
        self, iteration: int, folder: Path, dispatcher: Dispatcher, grader: str, team: Team | None = None
    ) -> dict[str, float]:
        """Sample, grade and write the numbers; return them.

        Args:
            team: who samples; default is this process alone. The other ranks of a team call `follow` meanwhile.
        """
        problems = self.load()
        result = self.result_file(folder, iteration)
        greedy = SamplingConfig(n=1, temperature=0.0, max_tokens=self.max_tokens, seed=self.seed)

        def sample(sampling: SamplingConfig) -> list[Rollout]:
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
            accuracy = mean_interval([float(rollout.responses[0].correct) for rollout in rollouts])
            metrics = {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
            if self.num_samples:
                drawn = monitors(sample(replace(greedy, n=self.num_samples, temperature=self.temperature)))
                metrics |= {"pass@1": drawn["accuracy"], f"pass@{self.num_samples}": drawn["solved"]}
                metrics |= {name: drawn[name] for name in ("distinct_correct", "entropy", "mean_tokens")}
        about = {"weights": dispatcher.engine.version, "asked": self.asked(dispatcher.template, grader)}
        hashes = {log.path.name: file_hash(log.path)}
        write_json(result, sealed({"iteration": iteration, **about, **metrics, "hashes": hashes}))
        return metrics

    def follow(self, block: Block, folder: Path, dispatcher: Dispatcher, grader: str, team: Team) -> None:
        """On another rank than the first: take part in a block that `run` has announced there."""
        key = dispatcher.provenance(reward=Outcome(), grader=grader).key
        draw = _draw(dispatcher, block.sampling, grader, block.iteration)
        by_id = {problem.id: problem for problem in self.load()}
        for _ in team.take_part(block, by_id, folder / block.file, key, draw, lambda: dispatcher.num_tokens):
            pass


def _draw(dispatcher: Dispatcher, sampling: SamplingConfig, grader: str, iteration: int) -> Draw:
    def draw(problems: Iterable[Problem], window: int) -> Iterable[Rollout]:
        return collect(problems, dispatcher, sampling, grader=grader, iteration=iteration, max_in_flight=window)

    return draw
