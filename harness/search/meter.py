"""What a search costs, counted from outside."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from harness.protocols import Parallel
from harness.types import Generate


@dataclass
class Meter:
    """Counts while a search runs."""

    tokens: int = 0
    """Tokens sampled for it, those of continuations that it dropped included."""


def metered(search: Generator[Any, Any, Any], meter: Meter) -> Generator[Any, Any, Any]:
    """The same search, with what it and the searches it starts are sent counted."""
    reply: Any = None
    while True:
        try:
            request = search.send(reply)
        except StopIteration as done:
            return done.value
        if isinstance(request, Parallel):
            request = Parallel(tuple(metered(inner, meter) for inner in request.searches))
        reply = yield request
        if isinstance(request, Generate):
            meter.tokens += sum(len(completion.token_ids) for samples in reply for completion in samples)
