"""Work in a thread beside the caller's, such as the sampling of the next iteration while the present one is trained."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Made = TypeVar("Made")

STOP_SECONDS = 10.0
"""What work is given to end once it was told to; an engine that draws a long sample may need longer."""


class Stopped(Exception):
    """The work was told to stop; nobody waits for it any more."""


class Ahead(Generic[Made]):
    """One piece of work at a time in a thread of its own; whatever it raises is raised again in the caller's thread.

    The thread does not outlive the process: work must leave what it has finished on disk, as a killed process must.
    """

    def __init__(self) -> None:
        self._work: Future[Made] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._begun = self._ended = 0.0
        self.hidden = 0.0
        """Seconds that the last piece of work had taken when somebody began to wait for it, or when it ended."""

    @property
    def under_way(self) -> bool:
        """Whether there is work that nobody has waited for yet."""
        return self._work is not None

    def start(self, work: Callable[[], Made]) -> None:
        if self._work is not None:
            raise RuntimeError("the work before has not been waited for")
        self._stopping.clear()
        self._begun, future = time.perf_counter(), Future[Made]()

        def run() -> None:
            try:
                made = work()
            except BaseException as error:
                self._ended = time.perf_counter()
                future.set_exception(error)
            else:
                self._ended = time.perf_counter()
                future.set_result(made)

        self._work, self._thread = future, threading.Thread(target=run, name="ahead", daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Called by the work now and then: raises `Stopped` once it is to end."""
        if self._stopping.is_set():
            raise Stopped

    def check(self) -> None:
        """Raise what the work has raised, if it has, without waiting for it."""
        if self._work is not None and self._work.done():
            self._work.result()

    def wait(self) -> Made | None:
        """What the work has made, once it is through; None if there is none that was not waited for."""
        if self._work is None:
            return None
        called, made = time.perf_counter(), self._work.result()
        self.hidden = min(called, self._ended) - self._begun
        self._work = self._thread = None
        return made

    def stop(self) -> None:
        """Have the work end between two of its steps, and wait for that a little; what it raises then says nothing."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(STOP_SECONDS)
            self._work = self._thread = None
