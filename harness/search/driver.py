"""The loop that keeps many searches in flight, each moving on as soon as its own request is answered."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from harness.protocols import Search, Serve
from harness.types import Reply, Response


def drive(
    searches: Iterable[tuple[str, Search]], serve: Serve, max_in_flight: int = 4096
) -> Iterator[tuple[str, list[Response]]]:
    """Run the searches, at most `max_in_flight` at a time; yield each key and its responses as it completes.

    There is no barrier between searches: an answered search asks its next question while others still wait.
    """
    waiting = iter(searches)
    live: dict[str, Search] = {}

    def advance(key: str, reply: Reply | None) -> list[Response] | None:
        try:
            request = next(live[key]) if reply is None else live[key].send(reply)
        except StopIteration as done:
            del live[key]
            return done.value
        serve.submit(key, request)
        return None

    while True:
        for key, search in itertools.islice(waiting, max_in_flight - len(live)):
            live[key] = search
            if (found := advance(key, None)) is not None:
                yield key, found
        if not serve.pending:
            return
        key, reply = serve.next()
        if (found := advance(key, reply)) is not None:
            yield key, found
