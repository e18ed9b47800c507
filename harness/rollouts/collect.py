"""The verb of the house: problems become scored rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.grading import PROTOCOLS, grade_many
from harness.protocols import Reward, SearchMethod
from harness.rewards.outcome import Outcome
from harness.rollouts.server import Server
from harness.search import Sampling, drive
from harness.types import Problem, Rollout, SamplingConfig, ScoredResponse


def collect(
    problems: Sequence[Problem],
    server: Server,
    sampling: SamplingConfig,
    *,
    search: SearchMethod | None = None,
    reward: Reward | None = None,
    grader: str = "strict",
    iteration: int = 0,
    group_size: int = 64,
) -> Iterator[Rollout]:
    """Search for responses to every problem and yield the scored rollouts, in the order in which they finish.

    Args:
        problems: their ids must be distinct.
        server: answers the searches; its template also says where answers and steps are.
        sampling: passed to the search; its seed and a problem's id fix the samples.
        search: default `Sampling`, independent samples.
        reward: default `Outcome`, the grader's verdict.
        grader: name of the grader.
        iteration: written to the rollouts.
        group_size: finished problems that are graded and scored together.
    """
    method = search or Sampling()
    by_id = {problem.id: problem for problem in problems}
    if len(by_id) != len(problems):
        raise ValueError("the problems' ids are not distinct")
    searches = ((problem.id, method(Rollout(problem), sampling)) for problem in problems)
    steps = server.template.steps
    finished: list[Rollout] = []
    for key, responses in drive(searches, server):
        cut = [replace(r, steps=steps.split(r.text)) if len(r.steps) == 1 else r for r in responses]
        scored = tuple(ScoredResponse(response) for response in cut)
        finished.append(Rollout(by_id[key], scored, sampling, iteration, server.engine.version))
        if len(finished) >= group_size:
            yield from score(finished, server, reward, grader)
            finished = []
    yield from score(finished, server, reward, grader)


def score(
    rollouts: Sequence[Rollout], server: Server, reward: Reward | None = None, grader: str = "strict"
) -> list[Rollout]:
    """Grade all responses and give each its reward; generates nothing."""
    pairs = [(rollout.problem, scored.response) for rollout in rollouts for scored in rollout.responses]
    problems, responses = [problem for problem, _ in pairs], [response for _, response in pairs]
    verdicts = grade_many(
        [response.text for response in responses],
        [problem.answer for problem in problems],
        grader=grader,
        protocol=PROTOCOLS[server.template.answer_protocol],
    )
    correct = [verdict.correct for verdict in verdicts]
    scores = (reward or Outcome())(problems, responses, correct)
    rows = iter(
        ScoredResponse(
            replace(response, step_values=score.steps), verdict.answer, verdict.correct, score.value, verdict.status
        )
        for response, verdict, score in zip(responses, verdicts, scores, strict=True)
    )
    return [replace(rollout, responses=tuple(next(rows) for _ in rollout.responses)) for rollout in rollouts]
