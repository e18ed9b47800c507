"""A process that stands by in the state a program reached, and what it says of the step it ran."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
from typing import Any

from harness.sandbox import zygote
from harness.sandbox.output import CappedOutput
from harness.sandbox.wire import Closed

KILL_TIMEOUT = 5.0
STATUSES = ("ok", "error", "memory", "incomplete", "syntax")
"""What a process may report of itself."""


class Snapshot:
    """A process that stands by in the state it reached, and what the program had printed until there."""

    def __init__(self, control: socket.socket, pid: int, output: CappedOutput) -> None:
        self.control, self.pid, self.output = control, pid, output
        self.seconds = 0.0
        try:
            self.handle = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self.handle = -1

    def kill(self, wait: bool = True) -> None:
        """End the process and its group, even if it does not cooperate, and `wait` until it is gone."""
        if self.handle >= 0:
            # The group is the process and, only where seccomp is missing, what it started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, signal.SIGKILL)
            if wait:
                select.select([self.handle], [], [], KILL_TIMEOUT)
            os.close(self.handle)
            self.handle = -1
        self.control.close()


def ended(status: str, error: str, seconds: float = 0.0) -> dict[str, Any]:
    return {"status": status, "error": error, "seconds": seconds}


def report(data: bytes) -> dict[str, Any]:
    """Read the report of a process that ran generated code; raises `Closed` for anything but a whole, valid one."""
    status, seconds, error = [*data.decode("utf-8", "replace").split("\n", 2), "", ""][:3]
    if status not in STATUSES or not re.fullmatch(r"\d+\.\d+(e-\d+)?", seconds):
        raise Closed("not a report")
    return ended(status, error[: 2 * zygote.MAX_ERROR], float(seconds))
