"""Answers the requests of searches: samples from an engine, scores from a reward, outputs from a sandbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from harness.grading import PROTOCOLS, grade_many
from harness.prompts import PromptTemplate
from harness.protocols import Engine, Reward
from harness.store import stable_hash
from harness.types import (
    Completion,
    Execute,
    Execution,
    Generate,
    GenerationRequest,
    Judge,
    Problem,
    Reply,
    Request,
    SamplingConfig,
)

Executor = Callable[[Sequence[tuple[str, ...]]], list[Execution]]
"""Runs programs, each given as its code steps, in order."""


class Server:
    """Implements `harness.protocols.Serve` over one engine.

    Every sample's seed follows from the sampling seed, the problem, and the position of its request in its search, so
    the samples do not depend on the order in which the engine finishes.

    Args:
        engine: draws the samples.
        tokenizer: turns prompts into token ids.
        template: turns problems into prompts.
        reward: answers `Judge`; a search that judges needs it.
        executor: answers `Execute`; a search that runs code needs it.
        grader: name of the grader that decides whether a finished response is right when it is judged.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Any,
        template: PromptTemplate,
        reward: Reward | None = None,
        executor: Executor | None = None,
        grader: str = "strict",
    ) -> None:
        self.engine, self.tokenizer, self.template = engine, tokenizer, template
        self.reward, self.executor, self.grader = reward, executor, grader
        self.num_tokens = 0
        """Tokens sampled so far."""
        self._num_requests: dict[str, int] = {}
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._samples: dict[str, list[tuple[Completion, ...] | None]] = {}
        self._answered: deque[tuple[str, Reply]] = deque()
        self._judgements: list[tuple[str, Judge]] = []
        self._executions: list[tuple[str, Execute]] = []

    @property
    def pending(self) -> bool:
        return bool(self._samples or self._answered or self._judgements or self._executions)

    def prompt_ids(self, problem: Problem) -> tuple[int, ...]:
        """Token ids of a problem's prompt, built once."""
        if problem.id not in self._prompts:
            self._prompts[problem.id] = self.template.encode(problem, self.tokenizer)
        return self._prompts[problem.id]

    def submit(self, key: str, request: Request) -> None:
        match request:
            case Generate():
                self._generate(key, request)
            case Judge():
                if self.reward is None:
                    raise ValueError("this search asks for rewards, but no reward was given")
                self._judgements.append((key, request))
            case Execute():
                if self.executor is None:
                    raise ValueError("this search runs code, but no executor was given")
                self._executions.append((key, request))

    def _generate(self, key: str, request: Generate) -> None:
        number = self._num_requests[key] = self._num_requests.get(key, -1) + 1
        prompt = self.prompt_ids(request.problem)
        self._samples[key] = [None] * len(request.prefixes)
        for index, prefix in enumerate(request.prefixes):
            seed = sample_seed(request.sampling, request.problem, number, index)
            stop = request.sampling.stop or self.template.stop
            sampling = replace(request.sampling, seed=seed + request.sampling.first, stop=stop)
            self.engine.submit(GenerationRequest(f"{index}/{key}", prompt + prefix.token_ids, sampling))

    def next(self) -> tuple[str, Reply]:
        while not self._answered:
            if self._executions:
                self._execute()
            elif self._judgements:
                self._judge()
            else:
                self._collect_samples()
        return self._answered.popleft()

    def _collect_samples(self) -> None:
        for result in self.engine.poll():
            index, _, key = result.key.partition("/")
            samples = self._samples[key]
            samples[int(index)] = result.completions
            self.num_tokens += sum(len(completion.token_ids) for completion in result.completions)
            if all(completions is not None for completions in samples):
                del self._samples[key]
                self._answered.append((key, [list(completions or ()) for completions in samples]))

    def _judge(self) -> None:
        assert self.reward is not None
        waiting, self._judgements = self._judgements, []
        pairs = [(request.problem, response) for _, request in waiting for response in request.responses]
        problems, responses = [problem for problem, _ in pairs], [response for _, response in pairs]
        finished = [i for i, response in enumerate(responses) if response.finished]
        verdicts = grade_many(
            [responses[i].text for i in finished],
            [problems[i].answer for i in finished],
            grader=self.grader,
            protocol=PROTOCOLS[self.template.answer_protocol],
        )
        correct = [False] * len(pairs)
        for i, verdict in zip(finished, verdicts, strict=True):
            correct[i] = verdict.correct
        scores = iter(self.reward(problems, responses, correct))
        for key, request in waiting:
            self._answered.append((key, [next(scores) for _ in request.responses]))

    def _execute(self) -> None:
        assert self.executor is not None
        waiting, self._executions = self._executions, []
        results = iter(self.executor([program for _, request in waiting for program in request.programs]))
        for key, request in waiting:
            self._answered.append((key, [next(results) for _ in request.programs]))


def sample_seed(sampling: SamplingConfig, problem: Problem, number: int = 0, index: int = 0) -> int:
    """Seed of the first sample that continues prefix `index` of the search's request `number`; later ones add 1."""
    return stable_hash(sampling.seed, problem.id, number, index, bits=48)


def greedy(max_tokens: int) -> SamplingConfig:
    """One sample at temperature 0."""
    return SamplingConfig(n=1, temperature=0.0, max_tokens=max_tokens)
