"""Answers the requests of searches: samples from an engine, scores from a reward, outputs from a sandbox."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from harness.errors import InputError
from harness.grading.answer_protocols import find_answer_protocol
from harness.grading.graders import named as find_grader
from harness.models.checkpoints import tokenizer_fingerprint
from harness.prompts.chats import encode_continuations
from harness.prompts.templates import PromptTemplate
from harness.protocols import Engine, Reward
from harness.provenance import UNKNOWN, Provenance, identity
from harness.rewards.outcome import Outcome
from harness.rollouts.verdicts import grade_pairs
from harness.search.sampling import Sampling
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
    Response,
    SamplingConfig,
)

Executor = Callable[[Sequence[tuple[str, ...]]], list[Execution]]
"""Runs programs, each given as its code steps, in order."""


@runtime_checkable
class BackgroundExecutor(Protocol):
    """An executor that runs programs while the engine samples, as `harness.sandbox.Sandbox` does."""

    def submit(self, key: str, program: tuple[str, ...]) -> None: ...

    def poll(self, timeout: float | None = None) -> list[tuple[str, Execution]]:
        """Outcomes that are there, after waiting at most `timeout` seconds for one (None: without end)."""


INDEPENDENT = "independent samples"
"""What an account of a run without a search calls it."""
JUDGE_SHARE = 0.25
"""Judgements wait for one another until they are this share of the engine's requests: a reward scores a batch in little
more time than one response, and few searches are kept waiting."""

PATIENCE = 0.02
"""Seconds to wait for a program where more searches wait for one than for the engine: its next batch gets fuller."""
REMEMBERED = 1 << 16
"""Programs whose outcome is remembered."""
REPEATABLE = ("ok", "incomplete", "error")
"""Ways to end that do not hang on what else the machine does."""


class Dispatcher:
    """Implements `harness.protocols.Dispatch` over one engine.

    Every sample's seed follows from the sampling seed, the problem, and the position of its request in its search, so
    the samples do not depend on the order in which the engine finishes. A program that was run before is not run again.

    Args:
        engine: draws the samples.
        tokenizer: turns prompts into token ids.
        template: turns problems into prompts.
        reward: answers `Judge`; a search that judges needs it.
        executor: answers `Execute`; a search that runs code needs it. A `BackgroundExecutor` works beside the engine.
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
        self._executions: dict[str, list[Execution | None]] = {}
        self._outcomes: OrderedDict[tuple[str, ...], Execution] = OrderedDict()
        self._running: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        self._programs: dict[str, tuple[str, ...]] = {}
        self.seconds = {"generate": 0.0, "judge": 0.0, "execute": 0.0, "score": 0.0}
        """Time spent waiting for the engine, for the reward of a search, for programs with nothing else to do, and for
        the verdicts and rewards of what `collect` yields, as far as they did not come while something else was done."""
        self.rewarding = threading.Lock()
        """Held while a reward scores, which need not know of threads: `collect` scores in one of its own."""
        self._pending_seconds = 0.0

    @property
    def pending(self) -> bool:
        return bool(self._samples or self._answered or self._judgements or self._executions)

    @property
    def mean_pending(self) -> float:
        """Requests that the engine had at a time, averaged over the time it worked."""
        return self._pending_seconds / self.seconds["generate"] if self.seconds["generate"] else 0.0

    def provenance(
        self, search: object = None, *, reward: Reward | None = None, grader: str = "", **further: Any
    ) -> Provenance:
        """All that decides what a search draws here, and how that is judged.

        Of independent samples and of searches with `judges = False` reward, grader and answer protocol only judge; of
        all others they decide what is drawn.

        Args:
            search: default is independent samples.
            reward: of the finished responses; default is the dispatcher's, and without one the outcome.
            grader: of the finished responses; default is the dispatcher's.
            further: what else decides the draws, by name.
        """
        independent = search is None or isinstance(search, Sampling)
        judges = not independent and getattr(search, "judges", True)
        template, kind = self.template, self.engine.name.partition(" ")[0]
        seeds = getattr(self.engine, "seeds", "request")
        known = (
            self.engine.version
            if kind != "server" or not self.engine.version.startswith("server:")
            else {UNKNOWN: f"a server only names its model: {self.engine.version}"}
        )
        drawn: dict[str, Any] = {
            "weights": known,
            "engine": {
                "kind": kind,
                "dtype": getattr(self.engine, "dtype", ""),
                "max_context": self.engine.max_context,
                **({} if seeds == "request" else {"seeds": seeds}),  # files of earlier versions lack it
            },
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "template": {name: identity(getattr(template, name)) for name in template.prompting},
            "search": INDEPENDENT if independent else identity(search),
            **{name: identity(value) for name, value in further.items()},
        }
        judged: dict[str, Any] = {
            "reward": identity(reward or self.reward or Outcome()),
            "grader": find_grader(grader or self.grader).label,
            "answer_protocol": identity(find_answer_protocol(template.answer_protocol)),
        }
        steps = {"steps": identity(template.steps)}
        if independent:
            judged |= steps
        else:
            drawn |= steps | {"executor": identity(self.executor)}
        if judges:
            return Provenance(drawn | judged)
        shown = ("answer",) if "{answer}" in template.user else ()
        return Provenance(drawn, judged, ("question", "choices", *shown))

    def begin(self) -> None:
        """Have the searches that start now draw what they would draw on a fresh dispatcher."""
        self._num_requests.clear()

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
                    raise InputError("this search asks for rewards; name one (such as --reward Outcome).")
                self._judgements.append((key, request))
            case Execute():
                self._execute(key, request)

    def _generate(self, key: str, request: Generate) -> None:
        number = self._num_requests[key] = self._num_requests.get(key, -1) + 1
        number = number if request.number is None else request.number
        prompt = self.prompt_ids(request.problem)
        samples = self._samples[key] = [None] * len(request.prefixes)
        for index, prefix in enumerate(request.prefixes):
            seed = problem_seed(request.sampling, request.problem, number, index)
            stop = request.sampling.stop or self.template.stop
            sampling = replace(request.sampling, seed=seed + request.sampling.first, stop=stop)
            ids = prompt + self.response_ids(prefix)
            if prefix.steps and len(ids) >= self.engine.max_context:
                # A problem that does not fit is bad input; a search that grew too long is a dead end.
                samples[index] = (Completion("", finish_reason="length"),) * sampling.n
            else:
                self.engine.submit(GenerationRequest(f"{index}/{key}", ids, sampling))
        self._answer_samples(key)

    def response_ids(self, response: Response) -> tuple[int, ...]:
        """Token ids of a partial response: those sampled, and between them those of inserted texts."""
        ids: list[int] = []
        done = 0
        for position, text in response.inserted:
            ids += response.token_ids[done:position]
            ids += encode_continuations([text], self.tokenizer)[0]
            done = position
        return (*ids, *response.token_ids[done:])

    def next(self) -> tuple[str, Reply]:
        while not self._answered:
            if self._executions:
                self._collect_executions(self._patience())
            if self._answered:
                break
            if self._judgements and len(self._judgements) >= JUDGE_SHARE * self.engine.num_pending:
                self._judge()
            elif self._samples:
                self._collect_samples()
        return self._answered.popleft()

    def _collect_samples(self) -> None:
        start, pending = time.monotonic(), self.engine.num_pending
        results = self.engine.poll()
        seconds = time.monotonic() - start
        self.seconds["generate"] += seconds
        self._pending_seconds += pending * seconds
        for result in results:
            index, _, key = result.key.partition("/")
            self._samples[key][int(index)] = result.completions
            self.num_tokens += sum(len(completion.token_ids) for completion in result.completions)
            self._answer_samples(key)

    def _answer_samples(self, key: str) -> None:
        samples = self._samples[key]
        if all(completions is not None for completions in samples):
            del self._samples[key]
            self._answered.append((key, [list(completions or ()) for completions in samples]))

    def _judge(self) -> None:
        assert self.reward is not None
        start = time.monotonic()
        waiting, self._judgements = self._judgements, []
        pairs = [(request.problem, response) for _, request in waiting for response in request.responses]
        finished = [i for i, (_, response) in enumerate(pairs) if response.finished]
        texts = [(pairs[i][0], pairs[i][1].text) for i in finished]
        correct = [False] * len(pairs)
        ended = [pairs[i][1].finish_reason != "length" for i in finished]
        verdicts = grade_pairs(texts, self.template.answer_protocol, self.grader, ended)
        for i, verdict in zip(finished, verdicts, strict=True):
            correct[i] = verdict.correct
        with self.rewarding:
            found = self.reward([problem for problem, _ in pairs], [response for _, response in pairs], correct)
        scores = iter(found)
        for key, request in waiting:
            self._answered.append((key, [next(scores) for _ in request.responses]))
        self.seconds["judge"] += time.monotonic() - start

    def _execute(self, key: str, request: Execute) -> None:
        if self.executor is None:
            raise InputError("this search runs code and needs a sandbox; give one (--sandbox Sandbox).")
        if not isinstance(self.executor, BackgroundExecutor) or not request.programs:
            self._answered.append((key, self.executor(request.programs) if request.programs else []))
            return
        self._executions[key] = [None] * len(request.programs)
        for index, program in enumerate(request.programs):
            if program in self._outcomes:
                self._outcome(key, index, self._outcomes[program])
            elif program in self._running:
                self._running[program].append((key, index))
            else:
                self._running[program] = [(key, index)]
                name = f"{index}/{key}"
                self._programs[name] = program
                self.executor.submit(name, program)

    def _outcome(self, key: str, index: int, execution: Execution) -> None:
        """Note the outcome of one program of a request, which is answered when all have theirs."""
        outcomes = self._executions[key]
        outcomes[index] = execution
        if all(outcome is not None for outcome in outcomes):
            del self._executions[key]
            self._answered.append((key, [outcome for outcome in outcomes if outcome is not None]))

    def _patience(self) -> float | None:
        """How long to wait for a program; None: until one has ended."""
        if not self._samples and not self._judgements:
            return None
        return PATIENCE if len(self._executions) > len(self._samples) else 0.0

    def _collect_executions(self, timeout: float | None) -> None:
        assert isinstance(self.executor, BackgroundExecutor)
        start = time.monotonic()
        for name, execution in self.executor.poll(timeout):
            program = self._programs.pop(name)
            if execution.status in REPEATABLE:
                self._outcomes[program] = execution
                if len(self._outcomes) > REMEMBERED:
                    self._outcomes.popitem(last=False)
            for key, index in self._running.pop(program):
                self._outcome(key, index, execution)
        self.seconds["execute"] += time.monotonic() - start


def problem_seed(sampling: SamplingConfig, problem: Problem, number: int = 0, index: int = 0) -> int:
    """Seed of the first sample that continues prefix `index` of the search's request `number`; later ones add 1."""
    return stable_hash(sampling.seed, problem.id, number, index, bits=48)
