"""Measures the policy between iterations with the engine that samples its rollouts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.metrics.intervals import mean_interval
from harness.metrics.monitors import monitors
from harness.problems import read_all_problems
from harness.rewards import Outcome
from harness.rollouts.collect import collect, grade_again
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.log import RolloutLog
from harness.store import write_json
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

    def load(self) -> list[Problem]:
        return read_all_problems(self.problems)

    def result_file(self, folder: Path, iteration: int) -> Path:
        """Where the numbers of the policy after an iteration are; the rollouts lie beside it."""
        return folder / f"eval_{iteration:03d}.json"

    def run(self, iteration: int, folder: Path, dispatcher: Dispatcher, grader: str) -> dict[str, float]:
        """Sample, grade and write the numbers; return them."""
        problems = self.load()
        result = self.result_file(folder, iteration)
        greedy = SamplingConfig(n=1, temperature=0.0, max_tokens=self.max_tokens, seed=self.seed)

        def sample(sampling: SamplingConfig) -> list[Rollout]:
            return log.chunk(
                problems,
                sampling,
                lambda chunk: collect(chunk, dispatcher, sampling, grader=grader, iteration=iteration),
            )

        made_by = dispatcher.provenance(reward=Outcome(), grader=grader)
        with RolloutLog(
            result.with_suffix(".jsonl"), made_by, lambda rows: grade_again(rows, dispatcher, grader=grader)
        ) as log:
            rollouts = sample(greedy)
            accuracy = mean_interval([float(rollout.responses[0].correct) for rollout in rollouts])
            metrics = {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
            if self.num_samples:
                drawn = monitors(sample(replace(greedy, n=self.num_samples, temperature=self.temperature)))
                metrics |= {"pass@1": drawn["accuracy"], f"pass@{self.num_samples}": drawn["solved"]}
                metrics |= {name: drawn[name] for name in ("distinct_correct", "entropy", "mean_tokens")}
        write_json(result, {"iteration": iteration, "weights": dispatcher.engine.version, **metrics})
        return metrics
