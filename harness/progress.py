"""The one owner of progress output: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0
"""Seconds between two plain lines."""


def track(total: int | None, label: str) -> Progress:
    """Follow a phase of `total` units (None if unknown) from entering the returned context to leaving it.

    Output goes to standard error; processes of a rank above 0 say nothing. The environment variable HARNESS_PROGRESS
    may be "bar", "lines" or "off" instead of "auto".
    """
    style = _style()
    if style == "off":
        return Progress(total, label)
    if style == "bar" or (style != "lines" and sys.stderr.isatty()):
        return Bar(total, label)
    return Lines(total, label)


def tell(sentence: str) -> None:
    """Say where progress is shown that something begins which cannot be followed."""
    if _style() != "off":
        print(sentence, file=sys.stderr, flush=True)


def _style() -> str:
    """What HARNESS_PROGRESS says; "off" on ranks above 0."""
    rank = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if os.environ.get(name)), "0")
    return os.environ.get("HARNESS_PROGRESS", "auto") if rank == "0" else "off"


class Progress:
    """Counts and shows nothing; the base of what shows something. Use as a context manager."""

    def __init__(self, total: int | None, label: str) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self.started = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the next `advance` will show its fields; lets a caller skip costly ones."""
        return False

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Count `n` more units as done; `fields` (such as accuracy=0.4) are shown beside the count."""
        self.done += n

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None


class Bar(Progress):
    """A tqdm bar."""

    def __init__(self, total: int | None, label: str) -> None:
        super().__init__(total, label)
        self.bar = tqdm(total=total, desc=label, file=sys.stderr, dynamic_ncols=True, mininterval=0.2)

    @property
    def due(self) -> bool:
        return time.time() - self.bar.last_print_t >= self.bar.mininterval

    def advance(self, n: int = 1, **fields: Any) -> None:
        super().advance(n)
        if fields:
            self.bar.set_postfix({key: shown(value) for key, value in fields.items()}, refresh=False)
        self.bar.update(n)

    def __exit__(self, *_: object) -> None:
        self.bar.close()


class Lines(Progress):
    """A line every `LINE_SECONDS`, and one at the end."""

    def __init__(self, total: int | None, label: str) -> None:
        super().__init__(total, label)
        self.last_line = self.started
        self.fields: dict[str, Any] = {}

    @property
    def due(self) -> bool:
        last_unit = self.total is not None and self.done + 1 >= self.total
        return last_unit or time.monotonic() - self.last_line >= LINE_SECONDS

    def advance(self, n: int = 1, **fields: Any) -> None:
        super().advance(n)
        self.fields.update(fields)
        if time.monotonic() - self.last_line >= LINE_SECONDS:
            self.say("")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.say("stopped at " if kind else "")

    def say(self, prefix: str) -> None:
        now = time.monotonic()
        self.last_line = now
        seconds = now - self.started
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        parts = [f"{self.label}: {prefix}{count}", f"{seconds:.1f} s"]
        if self.total and 0 < self.done < self.total:
            parts.append(f"{seconds * (self.total - self.done) / self.done:.0f} s left")
        parts += [f"{key}={shown(value)}" for key, value in self.fields.items()]
        print(", ".join(parts), file=sys.stderr, flush=True)


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
