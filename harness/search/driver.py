"""The loop that keeps many searches in flight, each moving on as soon as its own request is answered."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from harness.protocols import Dispatch, Parallel
from harness.types import SamplingConfig

AnySearch = Generator[Any, Any, Any]
"""A search in progress: yields requests or a `Parallel`, is sent replies, returns what it found."""


@dataclass
class _Family:
    """A search that waits for the searches it started."""

    key: str
    results: list[Any]
    waiting: int
    numbers: dict[str, int] = field(default_factory=dict)


def drive(
    searches: Iterable[tuple[str, AnySearch]], serve: Dispatch, max_in_flight: int = 4096
) -> Iterator[tuple[str, Any]]:
    """Run the searches, at most `max_in_flight` at a time; yield each key and what it returned as it completes.

    There is no barrier between searches: an answered search asks its next question while others still wait. The
    searches that one starts with `Parallel` have the keys "key.0", "key.1" and so on, and only the starter waits.
    """
    waiting = iter(searches)
    live: dict[str, AnySearch] = {}
    family: dict[str, _Family] = {}
    num_live = 0

    def advance(key: str, reply: Any) -> Iterator[tuple[str, Any]]:
        """Take a search to its next request; yield what is complete by that."""
        queue = [(key, reply)]
        while queue:
            key, reply = queue.pop()
            try:
                request = live[key].send(reply)
            except StopIteration as done:
                del live[key]
                if (mother := family.pop(key, None)) is None:
                    yield key, done.value
                    continue
                mother.results[mother.numbers[key]] = done.value
                mother.waiting -= 1
                if not mother.waiting:
                    queue.append((mother.key, mother.results))
                continue
            if not isinstance(request, Parallel):
                serve.submit(key, request)
                continue
            count = len(request.searches)
            mother = _Family(key, [None] * count, count)
            for number, search in enumerate(request.searches):
                child = f"{key}.{number}"
                live[child], family[child], mother.numbers[child] = search, mother, number
            queue += [(child, None) for child in reversed(mother.numbers)] or [(key, [])]

    while True:
        started = False
        for key, search in itertools.islice(waiting, max_in_flight - num_live):
            started = True
            num_live += 1
            live[key] = search
            for found in advance(key, None):
                num_live -= 1
                yield found
        if not (started or serve.pending):
            return
        if serve.pending:
            for found in advance(*serve.next()):
                num_live -= 1
                yield found


def own_seed(sampling: SamplingConfig, *names: str | int) -> SamplingConfig:
    """The same settings with a seed of one's own, which follows from the seed and the names."""
    digest = hashlib.sha256(repr((sampling.seed, *names)).encode()).digest()
    return replace(sampling, seed=int.from_bytes(digest[:6], "big"))
