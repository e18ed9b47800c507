"""Ctrl-C ends a command within seconds, wherever it is: an interrupt can come late, or be lost, in what others wrote.

Python raises `KeyboardInterrupt` in the main thread when that is next in Python. It is not while a library starts an
engine or computes, and an exception raised inside a `__del__` is dropped. So a thread hears of each interrupt too and
ends the process when `GRACE` is over. Nothing finished is lost by that: every file is written so that a killed process
leaves it whole.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from typing import Any, NoReturn

INTERRUPTED = 130
"""Exit status, as a shell has it of a program that SIGINT ended."""
GRACE = 1.5
"""Seconds after Ctrl-C for what unwinds on the way out; a second Ctrl-C ends them."""
SENTENCE = "error: interrupted."


def end_by_interrupts() -> None:
    """From now on SIGINT ends this process after `GRACE`, and a second one at once, if it has not ended by itself.

    Called in the main thread of a command. Where interrupts are ignored or handled otherwise, it changes nothing.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, _interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The handler in C writes the number of a signal there at once, whatever Python is busy with.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A forked process has signals of its own, and would write to the pipe of this one.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    sys.unraisablehook = _unless_interrupted
    threading.Thread(target=_end_after_interrupt, args=(reader,), name="interrupts", daemon=True).start()


def listen_on(*_: Any) -> None:
    """Handle SIGINT by this function, which leaves it to the thread; a signal that is ignored does not get there."""
    signal.signal(signal.SIGINT, listen_on)


def leave() -> NoReturn:
    """End an interrupted process by its exit functions, and without taking Python down, which takes torch a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(INTERRUPTED)


def _interrupt(*_: Any) -> None:
    signal.signal(signal.SIGINT, listen_on)
    raise KeyboardInterrupt


def _unless_interrupted(dropped: sys.UnraisableHookArgs) -> None:
    """Print an exception that Python has dropped, but no interrupt, which the thread has heard of."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)


def _end_after_interrupt(reader: int) -> None:
    while os.read(reader, 1)[0] != signal.SIGINT:
        pass
    end = time.monotonic() + GRACE
    while (left := end - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0] and os.read(reader, 1)[0] == signal.SIGINT:
            break
    os.write(2, f"{SENTENCE}\n".encode())
    os._exit(INTERRUPTED)
