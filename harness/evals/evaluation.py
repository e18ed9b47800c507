"""What an evaluation consists of; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.evals.contamination import Overlap
from harness.evals.rows import TaskData
from harness.evals.task import Task
from harness.metrics.summary import MetricConfig
from harness.protocols import Reward, SearchMethod
from harness.types import SamplingConfig

TooLong = Literal["error", "skip"]
"""What a prompt is that leaves no room in the model's context: an error, or left out and counted."""


@dataclass(frozen=True)
class Until:
    """When the accuracy is known well enough."""

    half_width: float
    """Half the width of its interval below which no more problems are asked (`harness.evals.until`)."""

    def __str__(self) -> str:
        return f"half_width<{self.half_width:g}"


@dataclass(frozen=True)
class Evaluation:
    """All that decides what results.json says, beside the weights and the protocol."""

    task: Task
    data: TaskData
    metrics: MetricConfig = MetricConfig()
    sampling: SamplingConfig = SamplingConfig(temperature=0.0)
    search: SearchMethod | None = None
    """None is independent samples."""
    reward: Reward | None = None
    """Ranks the responses; None is the verdict alone, and leaves the metrics of rewards out."""
    grader: str = "strict"
    until: Until | None = None
    """When no more problems are asked, which come in a random order; None is all of them."""
    budgets: tuple[int, ...] = ()
    """Numbers of tokens at which responses are cut as well (`harness.evals.budgets`)."""
    force_answer: str = ""
    """What is put behind a response that a budget cut before its answer, so that it gives one; "" is nothing."""
    contamination: Overlap | None = None
    """What the training rows share with the problems; None if none were given."""
