"""The verb of the house: problems become scored rollouts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from harness.grading import Verdict
from harness.protocols import Reward, SearchMethod
from harness.rewards.outcome import Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.verdicts import grade_pairs
from harness.search import Sampling, drive
from harness.search.driver import AnySearch
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

MAX_WAITING_GROUPS = 8
"""Groups that may wait for their verdicts and rewards before sampling waits for them."""
GROUP_RESPONSES = 256
"""Responses that make a group, however few problems they answer."""
GROUP_TOKENS = 1 << 20
"""Tokens of responses that make a group, so that long ones do not wait in memory for others."""


def collect(
    problems: Iterable[Problem],
    dispatcher: Dispatcher,
    sampling: SamplingConfig,
    *,
    search: SearchMethod | None = None,
    reward: Reward | None = None,
    grader: str = "strict",
    iteration: int = 0,
    group_size: int = 64,
    start: Mapping[str, Rollout] | None = None,
    max_in_flight: int = 4096,
) -> Iterator[Rollout]:
    """Search for responses to every problem and yield the scored rollouts, in the order in which they finish.

    Grading and rewards run beside the sampling, in a thread of their own; the order and all values are those of scoring
    in between. Only the first group is waited for, since a reward's model may be loaded by it, which changes settings
    of torch that the engine sees too.

    Args:
        problems: their ids must be distinct; each is taken when there is room for it.
        dispatcher: answers the searches; its template also says where answers and steps are.
        sampling: passed to the search; its seed and a problem's id fix the samples.
        search: default `Sampling`, independent samples.
        reward: default `Outcome`, the grader's verdict.
        grader: name of the grader.
        iteration: written to the rollouts.
        group_size: finished problems that are graded and scored together; fewer where they have many responses.
        start: rollouts by problem id that the searches extend; only the new responses are yielded.
        max_in_flight: problems searched at a time.
    """
    dispatcher.begin()
    method, begun, steps = search or Sampling(), start or {}, dispatcher.template.steps
    by_id: dict[str, Problem] = {}

    def searches() -> Iterator[tuple[str, AnySearch]]:
        for problem in problems:
            if problem.id in by_id:
                raise ValueError(f"the problems' ids are not distinct: '{problem.id}' comes twice")
            by_id[problem.id] = problem
            yield problem.id, method(begun.get(problem.id, Rollout(problem)), sampling)

    def waited_for(group: Future[list[Rollout]]) -> list[Rollout]:
        started = time.monotonic()
        found = group.result()
        dispatcher.seconds["score"] += time.monotonic() - started
        return found

    finished: list[Rollout] = []
    groups: deque[Future[list[Rollout]]] = deque()
    most_waiting = 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="scoring")
    try:
        for key, responses in drive(searches(), dispatcher, max_in_flight):
            # What a search has valued has the steps that it valued.
            whole = [len(r.steps) == 1 and not r.step_values for r in responses]
            cut = [replace(r, steps=steps.split(r.text)) if one else r for r, one in zip(responses, whole, strict=True)]
            scored = tuple(ScoredResponse(response) for response in cut)
            finished.append(Rollout(by_id[key], scored, sampling, iteration, dispatcher.engine.version))
            num_responses = sum(len(row.responses) for row in finished)
            full = len(finished) >= group_size or num_responses >= GROUP_RESPONSES
            if full or num_tokens(finished) >= GROUP_TOKENS:
                groups.append(pool.submit(score, finished, dispatcher, reward, grader))
                finished = []
            while groups and (groups[0].done() or len(groups) > most_waiting):
                yield from waited_for(groups.popleft())
                most_waiting = MAX_WAITING_GROUPS
        if finished:
            groups.append(pool.submit(score, finished, dispatcher, reward, grader))
        for group in groups:
            yield from waited_for(group)
    finally:
        pool.shutdown(cancel_futures=True)  # only what was stopped, such as by Ctrl-C, has any left


def num_tokens(rollouts: Iterable[Rollout]) -> int:
    """Tokens of all responses."""
    return sum(len(scored.response.token_ids) for rollout in rollouts for scored in rollout.responses)


def grade_again(
    rollouts: Sequence[Rollout],
    dispatcher: Dispatcher,
    *,
    search: SearchMethod | None = None,
    reward: Reward | None = None,
    grader: str = "strict",
) -> list[Rollout]:
    """Stored rollouts with the steps, verdicts and rewards that they would have if they were sampled now.

    For independent samples and searches that do not judge; what others draw depends on verdicts and rewards.
    """
    split = dispatcher.template.steps.split
    independent = search is None or isinstance(search, Sampling)

    def bare(response: Response) -> Response:
        return replace(response, steps=split(response.text) if independent else response.steps, step_values=())

    undecided = [
        replace(rollout, responses=tuple(ScoredResponse(bare(scored.response)) for scored in rollout.responses))
        for rollout in rollouts
    ]
    return score(undecided, dispatcher, reward, grader) if undecided else []


def score(
    rollouts: Sequence[Rollout], dispatcher: Dispatcher, reward: Reward | None = None, grader: str = "strict"
) -> list[Rollout]:
    """Grade all responses and give each its reward; generates nothing."""
    found = verdicts(rollouts, dispatcher, grader)
    with dispatcher.rewarding:
        return with_verdicts(rollouts, found, reward)


def verdicts(rollouts: Sequence[Rollout], dispatcher: Dispatcher, grader: str) -> list[Verdict]:
    """The grader's verdict on every response, in order."""
    pairs = [(rollout.problem, scored.response.text) for rollout in rollouts for scored in rollout.responses]
    finished = [scored.response.finish_reason != "length" for rollout in rollouts for scored in rollout.responses]
    return grade_pairs(pairs, dispatcher.template.answer_protocol, grader, finished)


def with_verdicts(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], reward: Reward | None) -> list[Rollout]:
    """Give every response its verdict and its reward."""
    pairs = [(rollout.problem, scored.response) for rollout in rollouts for scored in rollout.responses]
    problems, responses = [problem for problem, _ in pairs], [response for _, response in pairs]
    correct = [verdict.correct for verdict in verdicts]
    scores = (reward or Outcome())(problems, responses, correct)
    rows = iter(
        ScoredResponse(
            replace(response, step_values=score.steps or response.step_values),
            verdict.answer,
            verdict.correct,
            score.value,
            verdict.status,
        )
        for response, verdict, score in zip(responses, verdicts, scores, strict=True)
    )
    return [replace(rollout, responses=tuple(next(rows) for _ in rollout.responses)) for rollout in rollouts]
