"""What the pieces promise one another; standard library only."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from harness.types import (
    GenerationRequest,
    GenerationResult,
    PolicyExample,
    PreferencePair,
    Problem,
    Reply,
    Request,
    Response,
    Rollout,
    RolloutConfig,
    SamplingConfig,
    Score,
    SFTExample,
    StepExample,
)


@runtime_checkable
class Engine(Protocol):
    """Draws samples from a causal language model: token ids in, token ids out."""

    name: str
    """Such as "vllm" or "transformers", with its version; goes into every result."""
    version: str
    """Fingerprint of the weights in use; "" until weights are loaded."""
    dtype: str
    """Number format of the weights and of what is computed with them, such as "bfloat16", or "fp8" where linear layers
    have eight bits and all else bfloat16; "" if it is not known."""
    max_context: int
    """Longest prompt plus response, in tokens."""

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request. Raises `InputError` for a prompt that is empty, too long, or has an unknown token id."""

    def poll(self) -> list[GenerationResult]:
        """Work until at least one queued request is finished; return those that are, [] when none is queued."""

    @property
    def num_pending(self) -> int:
        """Requests submitted and not yet returned."""

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        """Take new weights (name, tensor) in memory and forget all cached prefixes. A failed sync is fatal."""

    def sleep(self) -> None:
        """Free what training needs (accelerator memory); nothing may be pending.

        An engine that gives its weights up has the version "" from then on, and needs a `sync` to go on.
        """

    def wake(self) -> None:
        """Undo `sleep`, but for weights that were given up."""

    def close(self) -> None:
        """Release everything; the engine cannot be used again."""


class Reward(Protocol):
    """Scores responses, finished or partial.

    A class may say how it uses the gold answer, by an attribute `answer_weight`: a score minus that much for a right
    answer does not depend on the gold. It is 0.0 for a reward that never looks at it, such as a reward model. Without
    it, or with None, the two cannot be told apart, and the reward counts as one that sees the gold (`answer_weight`).
    """

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        """Return one score for each (problem, response) pair; higher is better.

        Called by one thread at a time, which may be another one while the engine samples in the main thread. `correct`
        holds the grader's verdicts (False for partial responses).
        """


@runtime_checkable
class Sleeps(Protocol):
    """Holds accelerator memory that it can do without for a while, such as a reward that is a model."""

    def sleep(self) -> None:
        """Free the memory; the next use takes it back."""


def put_to_sleep(thing: object) -> None:
    """Have something free its accelerator memory, if it can."""
    if isinstance(thing, Sleeps):
        thing.sleep()


def answer_weight(reward: Reward | None) -> float | None:
    """What a reward gives for a right answer apart from all else; None if nobody says, or there is no reward."""
    return getattr(reward, "answer_weight", None)


@runtime_checkable
class Identified(Protocol):
    """What says itself on what its results depend, where its constructor's arguments say too little or too much.

    Such as a reward whose weights lie behind a path, and which scores alike whatever the size of its batches.
    """

    def identity(self) -> Mapping[str, Any]:
        """Everything that decides results, by name; values as `harness.provenance.identity` takes them."""


@dataclass(frozen=True)
class Parallel:
    """A search asks to run searches side by side; the reply is the list of what they returned, in order."""

    searches: tuple[Generator[Any, Any, Any], ...]


Search = Generator[Request | Parallel, Reply | list[Any], list[Response]]
"""A search in progress: it yields requests, is sent replies and returns finished responses."""


class Dispatch(Protocol):
    """Answers the requests of many searches in whatever order they become answerable."""

    def submit(self, key: str, request: Request) -> None:
        """Take a request of the search `key`; a search has at most one request at a time."""

    def next(self) -> tuple[str, Reply]:
        """Work until some request is answered; return its key and reply. Only called while `pending`."""

    @property
    def pending(self) -> bool: ...


class SearchMethod(Protocol):
    """Starts a search for responses to the problem of a rollout, whose responses so far it may extend.

    A class with `judges = False` says that its searches yield no `Judge` and leave `step_values` empty: what they find
    does not depend on reward or grader, and can be graded again when those change.
    """

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search: ...


class Selector(Protocol):
    """Chooses the training rows from scored rollouts."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        """Return training rows and counts; `render` gives the prompt text of a problem."""


@runtime_checkable
class Refilling(Protocol):
    """A selector that wants problems which teach nothing replaced by others (dynamic sampling, arXiv:2503.14476)."""

    @property
    def max_rounds(self) -> int:
        """How often further problems may be sampled for that, as many as an iteration begins with; 0 is never."""

    def teaches(self, rollout: Rollout, config: RolloutConfig) -> bool:
        """Whether a problem need not be replaced."""


@runtime_checkable
class Demanding(Protocol):
    """A selector that can say before anything is sampled whether it could learn from it."""

    def check_sampling(self, sampling: SamplingConfig) -> None:
        """Raise `InputError` if nothing could be learnt from independent samples drawn so."""


Selection = tuple[Sequence[SFTExample | PreferencePair | StepExample | PolicyExample], Mapping[str, float]]
"""Training rows, and numbers that describe them for the log."""


class Probe(Protocol):
    """Samples and scores problems that are held out for comparing sampling settings."""

    @property
    def num_problems(self) -> int: ...

    def __call__(self, sampling: SamplingConfig, start: int = 0, stop: int | None = None) -> Sequence[Rollout]:
        """Return the rollouts of problems `start` to `stop`; what was sampled before is not sampled again."""


Decision = tuple[RolloutConfig, Mapping[str, Any]]
"""A configuration and a JSON-ready account of why it was chosen."""


class SamplingScheduler(Protocol):
    """Decides how an iteration samples and selects."""

    def decide(self, iteration: int, probe: Probe) -> Decision:
        """Choose before the training problems are sampled."""

    def refine(self, decision: Decision, rollouts: Sequence[Rollout]) -> Decision:
        """Choose again what needs no new samples, now that the training problems are sampled and scored."""
