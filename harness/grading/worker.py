"""The worker process: answers comparison jobs on its standard streams until they close. It never imports torch.

Started as `python -m harness.grading.worker`, so nothing of the parent is forked or imported again.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import sys
from functools import cache
from typing import Any, BinaryIO

MEMORY_LIMIT = 4 << 30
"""Bytes of address space."""
ORPHAN_SECONDS = 120
"""Processor seconds one job may take before the kernel ends a worker whose parent is gone."""


def write_message(stream: BinaryIO, message: Any) -> None:
    """One message, length first."""
    data = pickle.dumps(message)
    stream.write(struct.pack("<I", len(data)) + data)
    stream.flush()


def read_message(stream: BinaryIO) -> Any:
    """The next message. Raises EOFError when the other side is gone."""
    header = stream.read(4)
    if len(header) < 4:
        raise EOFError
    data = stream.read(struct.unpack("<I", header)[0])
    return pickle.loads(data)


def answer(kind: str, payload: Any) -> Any:
    """What a job asks for: "algebra" proves pairs of trees, "decide" runs on pairs of strings what stands before it."""
    if kind == "algebra":
        from harness.grading.symbolic import prove_same

        return prove_same(payload)
    from harness.grading.equivalence import decide_fully

    return [decide_fully(gold, answer) for gold, answer in payload]


def main() -> None:
    """Serve jobs: a "started" message before each result marks where its deadline begins."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    if "algebra" in sys.argv[1:]:
        _load_algebra()
    while True:
        try:
            kind, payload = read_message(requests)
        except EOFError:
            return
        if kind == "algebra":
            _load_algebra()
        used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + ORPHAN_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (used, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            write_message(replies, "started")
            reply = _reply(kind, payload)
            write_message(replies, reply)
        except BrokenPipeError:
            return


@cache
def _load_algebra() -> None:
    """Import sympy and what it imports at its first integral and simplification, before any clock starts."""
    import sympy

    x = sympy.Symbol("x")
    sympy.simplify(sympy.integrate(x * sympy.sin(x), (x, 0, 1)) - sympy.Sum(x, (x, 1, 3)).doit())


def _reply(kind: str, payload: Any) -> tuple[str, Any]:
    try:
        return "ok", answer(kind, payload)
    except (MemoryError, RecursionError, OverflowError) as error:
        return "failed", repr(error)


if __name__ == "__main__":
    main()
