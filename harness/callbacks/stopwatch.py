"""Where the time of an iteration goes, of which none is counted twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Seconds by name; what an inner block takes is not counted to the outer one as well."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inner: list[float] = []
        """Of each block that is open, the seconds that inner ones took."""

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            own = seconds - self._inner.pop()
            self.add(name, own)
            if self._inner:
                self._inner[-1] += seconds - own

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere, within the block that is open."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        if self._inner:
            self._inner[-1] += seconds

    def take(self) -> dict[str, float]:
        """All that was counted since it was last taken."""
        seconds, self._seconds = self._seconds, {}
        return seconds


def describe(seconds: dict[str, float]) -> str:
    """Such as "41.2 s: sample 29.0 (70 %), train 12.2 (30 %)"; the longest first."""
    total = sum(seconds.values())
    share = {name: 100 * value / (total or 1) for name, value in seconds.items()}
    parts = sorted(seconds, key=lambda name: -seconds[name])
    return f"{total:.1f} s: " + ", ".join(f"{name} {seconds[name]:.1f} ({share[name]:.0f} %)" for name in parts)
