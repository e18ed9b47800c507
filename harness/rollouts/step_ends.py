"""From responses to exact token prefixes: which sampled tokens make up each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from harness.engines.completion import Decoder
from harness.types import Response, Rollout


def with_step_ends(rollout: Rollout, prompt_ids: Sequence[int], tokenizer: Any) -> Rollout:
    """Tell which sampled tokens make up the steps of each response, so that searches continue those very tokens."""
    decoder = Decoder(tokenizer, frozenset())
    responses = (
        replace(scored, response=replace(scored.response, step_ends=step_ends(scored.response, prompt_ids, decoder)))
        for scored in rollout.responses
    )
    return replace(rollout, responses=tuple(responses))


def step_ends(response: Response, prompt_ids: Sequence[int], decoder: Decoder) -> tuple[int, ...]:
    """For each step the number of tokens up to its end, -1 where no number of tokens gives exactly the steps so far."""
    ids = response.token_ids
    ends, start = [], 0
    for length in accumulate(map(len, response.steps)):
        low, high = start, len(ids)
        while low < high:  # the text grows with the tokens, so bisection finds the fewest that hold the steps
            middle = (low + high) // 2
            enough = len(decoder.text(prompt_ids, ids[:middle])) >= length
            low, high = (low, middle) if enough else (middle + 1, high)
        exact = decoder.text(prompt_ids, ids[:low]) == response.text[:length]
        ends.append(low if exact else -1)
        start = low
    return tuple(ends)
