"""The steps of a program."""

from __future__ import annotations

import hashlib

Steps = tuple[str, ...]


def digest(steps: Steps) -> bytes:
    """What stands for steps where they are remembered; the sources may be long."""
    found = hashlib.blake2b(digest_size=16)
    for step in steps:
        source = step.encode(errors="surrogatepass")
        found.update(b"%d:" % len(source))
        found.update(source)
    return found.digest()


def ended_line(step: str) -> str:
    """The step with a line end."""
    return step if step.endswith("\n") else step + "\n"
