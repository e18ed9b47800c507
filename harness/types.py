"""The data that passes between the stages: frozen, without behaviour of their own, standard library only.

Names of axes in docstrings: N samples per problem, K steps in a response, B rows in a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

FLOAT32: Mapping[str, Any] = MappingProxyType({"packed": "f"})
"""Metadata of a field of many numbers: files hold them as 32-bit floats in base64 text (see `harness.store`)."""

FinishReason = Literal["stop", "length", "step"]
"""Why a sample ended: "stop" at EOS or a stop string, "length" at the token limit, "step" at the end of a step."""


@dataclass(frozen=True)
class UnitTest:
    """What a program has to do."""

    input: str = ""
    """What it reads from standard input; where `function` is given, a JSON list of arguments."""
    output: str = ""
    """What it must print; where `function` is given, the result as JSON."""
    function: str = ""
    """Name of the function, or of the method of a class `Solution`, to call instead of running the program."""
    check: str = ""
    """Source of assertions about what the program defines, by its names; they run beside it and must not raise."""
    seconds: float = 0.0
    """That it may take, where it needs more than the others of its benchmark."""


@dataclass(frozen=True)
class Instruction:
    """Something about the form of a response that a program checks (`harness.grading.instructions`)."""

    name: str
    """Such as `punctuation:no_comma`."""
    arguments: str = "{}"
    """A JSON object."""


@dataclass(frozen=True)
class Problem:
    """A question with its gold final answer."""

    id: str
    question: str
    answer: str = ""
    """Gold final answer as text."""
    solution: str = ""
    """A worked solution written by a person, or ""."""
    source: str = ""
    level: str = ""
    subject: str = ""
    cluster: str = ""
    """What it has in common with other problems, such as the one they were made from; those are not independent."""
    choices: tuple[str, ...] = ()
    """Options of a multiple-choice question, in order."""
    accepted_answers: tuple[str, ...] = ()
    """Further golds, any one of which is right."""
    tests: tuple[UnitTest, ...] = ()
    """Of a programming problem; they decide whether a response is right, there is no gold answer."""
    instructions: tuple[Instruction, ...] = ()
    """A response is right that follows all of them; there is no gold answer."""

    @property
    def gradable(self) -> bool:
        """Whether anything says which responses are right."""
        return bool(self.answer or self.tests or self.instructions)


NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0, "thinking_budget": None}
"""Fields of `SamplingConfig` that earlier versions lack, with the values that change nothing."""


@dataclass(frozen=True)
class SamplingConfig:
    """How to draw samples; hashable, so that requests can be grouped by it."""

    n: int = 1
    """Samples per prompt."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is off."""
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Strings that end a sample; the matched string is not part of the text."""
    step_stop: tuple[str, ...] = ()
    """Strings that end a step; the matched string stays in the text and the finish reason is "step"."""
    seed: int = 0
    """Sample j of a request is drawn with seed + j."""
    first: int = 0
    """Index of the first sample, so that samples can be added to those drawn before; a `Server` adds it to the seed."""
    min_p: float = 0.0
    """Leaves out tokens less likely than this share of the likeliest one's probability, after the temperature."""
    repetition_penalty: float = 1.0
    """Divides positive logits, and multiplies negative ones, of tokens that prompt or sample hold (CTRL,
    arXiv:1909.05858); 1 is off."""
    thinking_budget: int | None = None
    """Tokens of a thought, from `<think>` on, after which `</think>` is forced; None is as many as the model likes."""

    def identity(self) -> dict[str, Any]:
        """All that decides the draws. What is off is left out where files of earlier versions lack it."""
        return {name: value for name, value in asdict(self).items() if name not in NEUTRAL or value != NEUTRAL[name]}


@dataclass(frozen=True)
class RolloutConfig:
    """All that a scheduler may change between iterations."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    reward_threshold: float = 0.0
    """Responses with a reward above it (strictly) may be trained on."""


@dataclass(frozen=True)
class Completion:
    """One raw sample of an engine."""

    text: str
    token_ids: tuple[int, ...] = ()
    """Sampled tokens, an EOS that ended the sample included."""
    logp: float = 0.0
    """Sum over the sampled tokens of their log-probabilities at temperature 1, in nats."""
    finish_reason: FinishReason = "stop"
    token_logps: tuple[float, ...] = ()
    """The summands of `logp`, one for each of `token_ids`; () from a server that gives none. They are the model's own,
    whatever temperature, top-p or top-k shaped the distribution that the tokens were drawn from."""


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt of token ids for an engine, answered under its key."""

    key: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingConfig


@dataclass(frozen=True)
class GenerationResult:
    """The samples drawn for one request, in sample order."""

    key: str
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Response:
    """A response cut in steps; the steps joined are its text exactly."""

    steps: tuple[str, ...] = ()
    finish_reason: FinishReason = "step"
    token_ids: tuple[int, ...] = ()
    """The tokens as sampled; a prefix of the response is always a prefix of these."""
    logp: float = 0.0
    """Sum of the log-probabilities of `token_ids` under the policy that drew them, in nats."""
    step_values: tuple[float, ...] = ()
    """K process rewards, or none."""
    inserted: tuple[tuple[int, str], ...] = ()
    """Text that no policy sampled, such as a program's output: (number of `token_ids` before it, text)."""
    step_ends: tuple[int, ...] = ()
    """How many of `token_ids` make up the first 1, 2, ... steps, -1 where a token crosses the end of a step; or ()."""
    token_logps: tuple[float, ...] = field(default=(), metadata=FLOAT32)
    """Log-probability of each of `token_ids` at temperature 1; () where an engine or an older file gives none."""

    @property
    def text(self) -> str:
        return "".join(self.steps)

    @property
    def finished(self) -> bool:
        """Whether nothing more can be appended."""
        return self.finish_reason != "step"

    def prefix(self, num_steps: int) -> Response:
        """The first steps, unfinished: as the tokens that were sampled where `step_ends` tells them, else as text."""
        steps = self.steps[:num_steps]
        end = self.step_ends[num_steps - 1] if self.step_ends and num_steps else -1
        if end < 0 or self.inserted:
            return Response(steps=steps, inserted=((0, "".join(steps)),) if steps else ())
        return Response(steps=steps, token_ids=self.token_ids[:end], token_logps=self.token_logps[:end])

    def extend(self, completion: Completion) -> Response:
        """Append one sampled completion as the next step."""
        token_ids, token_logps = self.token_ids + completion.token_ids, self.token_logps + completion.token_logps
        return replace(
            self,
            steps=(*self.steps, completion.text),
            finish_reason=completion.finish_reason,
            token_ids=token_ids,
            logp=self.logp + completion.logp,
            token_logps=token_logps if len(token_logps) == len(token_ids) else (),
        )

    def insert(self, text: str) -> Response:
        """Append text to the last step that the policy did not sample but will see."""
        return replace(
            self,
            steps=(*self.steps[:-1], "".join(self.steps[-1:]) + text),
            inserted=(*self.inserted, (len(self.token_ids), text)),
        )


@dataclass(frozen=True)
class Score:
    """What a reward says of one response."""

    value: float
    steps: tuple[float, ...] = ()
    """K process rewards, or none."""


AnswerStatus = Literal["ok", "no_answer", "parse_failure", "timeout"]
"""Whether an answer was found and could be compared; anything but "ok" is counted apart from a wrong answer."""


@dataclass(frozen=True)
class ScoredResponse:
    """A response with its verdict and its reward."""

    response: Response
    answer: str | None = None
    """The final answer found in the text; None if there was none."""
    correct: bool = False
    reward: float = 0.0
    status: AnswerStatus = "ok"


@dataclass(frozen=True)
class Rollout:
    """A problem and the responses sampled for it; a fresh problem has none."""

    problem: Problem
    responses: tuple[ScoredResponse, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    iteration: int = 0
    weights: str = ""
    """Fingerprint of the policy's weights that drew the responses."""
    provenance: str = ""
    """Hash of all that decided the draws and their verdicts (`harness.provenance`), in files that can be continued."""

    @property
    def accuracy(self) -> float:
        """Share of the responses that are right; 0 if there are none."""
        return sum(row.correct for row in self.responses) / max(len(self.responses), 1)


@dataclass(frozen=True)
class SFTExample:
    """One row of supervised fine-tuning, whoever wrote it."""

    prompt: str
    """The exact text the model saw."""
    response: str
    weight: float = 1.0
    problem_id: str = ""


@dataclass(frozen=True)
class PolicyExample:
    """One row of policy-gradient training: a response as it was sampled, and its advantage."""

    prompt: str
    """The exact text the model saw."""
    response: str
    """Text of `token_ids`, for people; never tokenised."""
    token_ids: tuple[int, ...]
    """Tokens as sampled, an EOS that ended the response included."""
    advantage: float
    token_logps: tuple[float, ...] = field(default=(), metadata=FLOAT32)
    """The engine's log-probability of each of `token_ids`, at temperature 1; () where it gave none."""
    reward: float = 0.0
    """What the advantage was made of, penalties included."""
    correct: bool = False
    """The grader's verdict."""
    temperature: float = 1.0
    """Of the distribution that the tokens were drawn from."""
    problem_id: str = ""
    weights: str = ""
    """Fingerprint of the weights that drew the response."""


@dataclass(frozen=True)
class PreferencePair:
    """Two continuations of one prompt, the first preferred."""

    prompt: str
    """The exact text the model saw; in a step pair it ends with the shared steps."""
    chosen: str
    rejected: str
    weight: float = 1.0
    """Keeps a problem with many pairs from outweighing the others."""
    problem_id: str = ""


@dataclass(frozen=True)
class StepExample:
    """One row of pointwise process supervision."""

    prompt: str
    """The exact text the policy saw."""
    steps: tuple[str, ...]
    labels: tuple[float, ...]
    """For each step from 0 to 1: can the right answer still be reached after it, or how likely is that?"""
    weight: float = 1.0
    """Of each step of the row."""
    problem_id: str = ""


@dataclass(frozen=True)
class Generate:
    """A search asks for samples that continue each prefix; the reply holds one list of completions per prefix."""

    problem: Problem
    prefixes: tuple[Response, ...]
    sampling: SamplingConfig
    number: int | None = None
    """Which request of its search this is, for the seed of its samples; counted if not given. Requests that share a
    number draw on from one another by `sampling.first`."""


@dataclass(frozen=True)
class Judge:
    """A search asks for the rewards of `responses`, finished or not; the reply holds one `Score` each."""

    problem: Problem
    responses: tuple[Response, ...]


ExecutionStatus = Literal["ok", "incomplete", "error", "memory", "timeout", "killed"]
"""How a program ended: "incomplete" is no failure but waits for more lines, "killed" is by its own doing."""


@dataclass(frozen=True)
class Execution:
    """What running a program gave."""

    output: str
    """What it printed, cut at the executor's limit."""
    error: str = ""
    """Name and message of the exception that ended the program, or ""."""
    status: ExecutionStatus = "ok"

    @property
    def failed(self) -> bool:
        return self.status not in ("ok", "incomplete")


@dataclass(frozen=True)
class Execute:
    """A search asks to run programs; each is a list of code steps of which all but the last may have run before."""

    problem: Problem
    programs: tuple[tuple[str, ...], ...]


Request = Generate | Judge | Execute
Reply = list[list[Completion]] | list[Score] | list[Execution]
