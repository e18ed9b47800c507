"""What all engines agree on: which requests are valid, what text tokens are, and where a sample ends."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.errors import EngineError, InputError
from harness.prompts.chats import END_OF_THOUGHT, THOUGHT
from harness.store import shared_ints
from harness.types import Completion, FinishReason, GenerationRequest, SamplingConfig

SEEDS = 2**62
CHANNEL = "<|channel|>"
"""Of OpenAI's harmony format, which GPT-OSS speaks."""
CONTEXT_TOKENS = 6
"""Tokens before a sample that are decoded with it, so that a tokenizer that joins words with spaces keeps the first."""


def check_request(request: GenerationRequest, max_context: int, vocab_size: int | None, queued: Container[str]) -> None:
    """Raise `InputError` for a request that no engine could answer as asked, or whose key is among those queued."""
    key, ids, sampling = request.key, request.prompt_ids, request.sampling
    if key in queued:
        raise InputError(f"request '{key}' is already queued; give each request a key of its own.")
    if not ids:
        raise InputError(f"request '{key}': the prompt is empty; give at least one token.")
    if len(ids) >= max_context:
        raise InputError(
            f"request '{key}': the prompt has {len(ids)} tokens and leaves no room in a context of {max_context}; "
            "shorten it or raise max_model_len."
        )
    if vocab_size is not None and not (min(ids) >= 0 and max(ids) < vocab_size):
        bad = next(token for token in ids if not 0 <= token < vocab_size)
        raise InputError(f"request '{key}': token id {bad} is not in the vocabulary of {vocab_size} tokens.")
    check_sampling(sampling, f"request '{key}': ")


def check_sampling(sampling: SamplingConfig, place: str = "") -> None:
    """Raise `InputError` for a setting that no engine could follow; `place` begins the sentence."""
    for name, valid, allowed in (
        ("n", sampling.n >= 1, "at least 1"),
        # vLLM rejects more than 2 and silently raises what is below 0.01.
        ("temperature", sampling.temperature == 0 or 0.01 <= sampling.temperature <= 2, "0 or from 0.01 to 2"),
        ("top_p", 0 < sampling.top_p <= 1, "above 0, at most 1"),
        ("top_k", sampling.top_k >= 0, "at least 1, or 0 for off"),
        ("min_p", 0 <= sampling.min_p <= 1, "from 0 to 1"),
        ("repetition_penalty", 0 < sampling.repetition_penalty < math.inf, "above 0, and 1 for off"),
        ("thinking_budget", sampling.thinking_budget is None or sampling.thinking_budget >= 0, "at least 0"),
        ("max_tokens", sampling.max_tokens >= 1, "at least 1"),
        ("stop", all(sampling.stop), "without empty strings"),
        ("step_stop", all(sampling.step_stop), "without empty strings"),
    ):
        if not valid:
            raise InputError(f"{place}{name} is {getattr(sampling, name)!r}; it must be {allowed}.")


def token_limit(request: GenerationRequest, max_context: int) -> int:
    """Tokens a sample may have: `max_tokens`, or what the context leaves if that is less."""
    return min(request.sampling.max_tokens, max_context - len(request.prompt_ids))


def sample_seed(sampling: SamplingConfig, index: int = 0) -> int:
    """Seed of sample `index`: `seed + index`, within the range that every random generator takes."""
    return (sampling.seed + index) % SEEDS


def stop_strings(sampling: SamplingConfig) -> list[str]:
    """Both kinds of stop strings."""
    return [*sampling.stop, *sampling.step_stop]


@dataclass
class Thought:
    """Follows a sample through its thoughts, token by token."""

    start: int
    """Token that begins a thought."""
    end: int
    is_open: bool = False
    length: int = 0
    """Tokens of the last thought so far, without the two that enclose it; those of the prompt behind `start` count."""

    def read(self, token: int) -> None:
        if self.is_open:
            self.is_open = token != self.end
            self.length += self.is_open
        elif token == self.start:
            self.is_open, self.length = True, 0


def thought_tokens(tokenizer: Any) -> tuple[int, int] | None:
    """Ids of `<think>` and `</think>`, or None where they are no tokens of the tokenizer's."""
    vocabulary = tokenizer.get_vocab()
    return (vocabulary[THOUGHT], vocabulary[END_OF_THOUGHT]) if {THOUGHT, END_OF_THOUGHT} <= vocabulary.keys() else None


@dataclass(frozen=True)
class Decoder:
    """Turns the tokens of a sample into a `Completion`."""

    tokenizer: Any
    eos_ids: frozenset[int]

    @cached_property
    def thought(self) -> tuple[int, int] | None:
        return thought_tokens(self.tokenizer)

    def check_budget(self, request: GenerationRequest) -> None:
        """Raise `InputError` if thoughts are to be limited and the tokenizer does not mark them."""
        if request.sampling.thinking_budget is not None and self.thought is None:
            raise InputError(
                f"thinking_budget is {request.sampling.thinking_budget}, but the tokenizer has no tokens {THOUGHT} and "
                f"{END_OF_THOUGHT}; leave it out, or limit whole responses by max_tokens."
            )

    def follow(self, request: GenerationRequest, token_ids: Sequence[int] = ()) -> Thought | None:
        """Where a sample of these tokens stands in its thoughts; None without a budget."""
        if request.sampling.thinking_budget is None or self.thought is None:
            return None
        thought = Thought(*self.thought)
        for token in (*request.prompt_ids, *token_ids):
            thought.read(token)
        return thought

    def _check_held(self, request: GenerationRequest, token_ids: Sequence[int]) -> None:
        budget, thought = request.sampling.thinking_budget, self.follow(request)
        if budget is None or thought is None:
            return
        for token in token_ids:
            thought.read(token)
            if thought.is_open and thought.length > budget:
                raise EngineError(
                    f"request '{request.key}': a thought went on beyond the thinking_budget of {budget} tokens; the "
                    "engine does not hold it, so leave it out."
                )

    @cached_property
    def leaves_out_special(self) -> bool:
        """Whether special tokens are left out of texts; harmony's stay, which are the channels of a response."""
        return CHANNEL not in self.tokenizer.get_added_vocab()

    def text(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> str:
        """The text that the tokens add to the prompt's text; special tokens add none, but for channels."""
        context = list(prompt_ids[-CONTEXT_TOKENS:])
        before = self.decode(context)
        both = self.decode([*context, *token_ids])
        if both.startswith(before):
            return both[len(before) :]
        return self.decode(token_ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens that stand by themselves."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=self.leaves_out_special)

    def completion(
        self,
        request: GenerationRequest,
        token_ids: Sequence[int],
        logp: float,
        matched: str | None = None,
        token_logps: Sequence[float] = (),
    ) -> Completion:
        """Cut the text where the sample ends and say why it ended.

        A string of `stop` and all after it is cut from the text, while `token_ids` keeps every sampled token. At a
        string of `step_stop` nothing is cut: the text runs to the end of the token that completed the string, so that
        the text is exactly that of `token_ids`, and the prompt with these tokens continues the very sequence sampled.
        Where one token completes a string of both kinds, `stop` wins.

        Args:
            matched: the stop string the engine saw, needed only if it read the tokens' text differently.
            token_logps: log-probability of each token, where the engine gives them.
        """
        sampling, ids = request.sampling, shared_ints(token_ids)
        self._check_held(request, ids)
        at_eos = bool(ids) and ids[-1] in self.eos_ids
        text = self.text(request.prompt_ids, ids[:-1] if at_eos else ids)
        found = [start for stop in sampling.stop if (start := text.find(stop)) >= 0]
        reason: FinishReason = "stop" if at_eos else "length"
        if found:
            text, reason = text[: min(found)], "stop"
        elif at_eos:
            pass
        elif any(stop in text for stop in sampling.step_stop) or matched in sampling.step_stop:
            reason = "step"
        elif matched is not None:
            reason = "stop"
        return Completion(text, ids, logp, reason, tuple(token_logps))
