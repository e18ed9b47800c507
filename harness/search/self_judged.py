"""Responses that the policy judges itself, by a question about each of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from statistics import fmean
from typing import cast

from harness.protocols import Parallel, Search
from harness.search.driver import own_seed
from harness.search.sampling import Sampling
from harness.types import Completion, Generate, Problem, Response, Rollout, SamplingConfig

QUESTION = (
    "Below is a question and a response to it. Give the response one point for each of these that is true: it is "
    "about the question; it answers a substantial part of it; it answers all of it; its reasoning is complete and "
    "easy to follow; it holds no mistake.\n\nQuestion:\n{question}\n\nResponse:\n{response}\n\nSay in a few sentences "
    'which points you give and why, and end with "Score: " and the number of points from 0 to 5.'
)


@dataclass(frozen=True)
class SelfJudged:
    """Independent samples, each valued by what the same policy says of it (arXiv:2401.10020, section 2).

    The value is the mean score over `samples` judgements and stands in `step_values`, where the reward `SearchValue`
    reads it; a response without a single valid score is left out. The question is put through the run's prompt
    template, which should add nothing that belongs to problems alone. Judgements are no responses: neither graded nor
    kept.
    """

    question: str = QUESTION
    """Of a judgement, with {question} and {response}."""
    samples: int = 3
    """Judgements of each response."""
    score: str = r"[Ss]core:?\W*(\d+(?:\.\d+)?)"
    """Regular expression whose first group is the score; the last match in a judgement counts."""
    most: float = 5.0
    """Largest score; a larger number is none."""
    max_tokens: int = 512
    """Of a judgement."""

    def __post_init__(self) -> None:
        if "{question}" not in self.question or "{response}" not in self.question:
            raise ValueError(f"`question` of a judgement must hold {{question}} and {{response}}: {self.question!r}")

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        drawn = yield from Sampling()(rollout, sampling)
        # A question is a problem of its own, so that its prompt and its seeds are.
        texts = {response.text: f"{rollout.problem.id}/judged/{number}" for number, response in enumerate(drawn)}
        asked = replace(own_seed(sampling, "judge"), n=self.samples, first=0, max_tokens=self.max_tokens)
        judged = yield Parallel(tuple(self._judge(rollout.problem, text, name, asked) for text, name in texts.items()))
        values = dict(zip(texts, cast(list[float | None], judged), strict=True))
        return [
            replace(response, step_values=(value,))
            for response in drawn
            if (value := values[response.text]) is not None
        ]

    def _judge(self, problem: Problem, text: str, name: str, sampling: SamplingConfig) -> Search:
        question = self.question.replace("{question}", problem.question).replace("{response}", text)
        [completions] = cast(list[list[Completion]], (yield Generate(Problem(name, question), (Response(),), sampling)))
        scores = [score for completion in completions if (score := self.score_of(completion.text)) is not None]
        return fmean(scores) if scores else None  # type: ignore[return-value]

    def score_of(self, judgement: str) -> float | None:
        """The score that a judgement ends in; None where there is no valid one."""
        found = re.findall(self.score, judgement)
        return float(found[-1]) if found and float(found[-1]) <= self.most else None
