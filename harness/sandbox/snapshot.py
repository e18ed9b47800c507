"""A process that stands by in the state a program reached, what it says of the step it ran, and those that are kept."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import signal
import socket
import time
from collections import OrderedDict
from typing import Any

from harness.sandbox import zygote
from harness.sandbox.output import CappedOutput
from harness.sandbox.wire import Closed

SIGNAL_TIMEOUT = 5.0
"""Seconds in which a process has to be stopped, or gone."""
STATUSES = ("ok", "error", "memory", "incomplete", "syntax")
"""What a process may report of itself."""
FORGED = "ForgedReport: the program wrote where its outcome is reported"


class Snapshot:
    """A process that stands by in the state it reached, and what the program had printed until there.

    What runs in it may be hostile. So it is stopped while nothing is asked of it.
    """

    def __init__(self, control: socket.socket, pid: int, output: CappedOutput) -> None:
        self.control, self.pid, self.output = control, pid, output
        self.seconds = 0.0
        self.size = 0
        """Bytes of memory that it is charged with."""
        try:
            self.handle = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self.handle = -1

    def stop(self) -> bool:
        """Halt the process; return whether it stands still."""
        if not self._signal(signal.SIGSTOP):
            return False
        deadline = time.monotonic() + SIGNAL_TIMEOUT
        while (state := _state(self.pid)) not in "TZX":
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0001)
        return state == "T"

    def go_on(self) -> None:
        """Let the process run again."""
        self._signal(signal.SIGCONT)

    def says_more(self) -> bool:
        """Whether anything stands on its channel beyond its report."""
        try:
            return bool(self.control.recv(1, socket.MSG_DONTWAIT))
        except OSError:
            return False

    def kill(self) -> bool:
        """End the process and its group, even if it does not cooperate; return whether it is gone."""
        gone = True
        if self.handle >= 0:
            # The group is the process and, only where seccomp is missing, what it started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._signal(signal.SIGKILL)
            poller = select.poll()
            poller.register(self.handle, select.POLLIN)
            gone = bool(poller.poll(1000 * SIGNAL_TIMEOUT))
            os.close(self.handle)
            self.handle = -1
        return gone

    def close(self) -> None:
        """Close the channel."""
        self.control.close()

    def _signal(self, number: int) -> bool:
        try:
            signal.pidfd_send_signal(self.handle, number)
        except (ProcessLookupError, OSError):
            return False
        return True


class Kept:
    """The states that the interpreters of one fork server keep: bounded in number for each, in memory for all."""

    def __init__(self, number: int, memory: int) -> None:
        self.number, self.memory = number, memory
        self._snapshots: OrderedDict[tuple[object, bytes], Snapshot] = OrderedDict()

    def get(self, owner: object, key: bytes) -> Snapshot | None:
        """The state an interpreter keeps under a key, which then counts as used last."""
        found = self._snapshots.get((owner, key))
        if found is not None:
            self._snapshots.move_to_end((owner, key))
        return found

    def add(self, owner: object, key: bytes, snapshot: Snapshot) -> bool:
        """Keep a state, in the place of those used longest ago; return False if it is too large."""
        if snapshot.size > self.memory:
            return False
        if (owner, key) in self._snapshots:
            self._drop((owner, key))
        own = [place for place in self._snapshots if place[0] is owner]
        if len(own) >= self.number:
            self._drop(own[0])
        while sum(other.size for other in self._snapshots.values()) + snapshot.size > self.memory:
            self._drop(next(iter(self._snapshots)))
        self._snapshots[owner, key] = snapshot
        return True

    def forget(self, owner: object, snapshot: Snapshot | None = None) -> None:
        """Drop one of an interpreter's states, or all."""
        for place, kept in list(self._snapshots.items()):
            if place[0] is owner and snapshot in (None, kept):
                self._drop(place)

    def pids(self, owner: object) -> set[int]:
        """Processes of an interpreter's states."""
        return {snapshot.pid for (other, _), snapshot in self._snapshots.items() if other is owner}

    def _drop(self, place: tuple[object, bytes]) -> None:
        snapshot = self._snapshots.pop(place)
        snapshot.kill()
        snapshot.close()


def private_memory(pid: int) -> int:
    """Bytes of memory of a process that no file backs, what it shares with those it was forked from included."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except OSError:  # it is gone
        return 0
    return (resident - shared) * resource.getpagesize()


def _state(pid: int) -> str:
    """The letter of a process's state, as in `ps`."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def ended(status: str, error: str, seconds: float = 0.0, descriptors: int = 0) -> dict[str, Any]:
    return {"status": status, "error": error, "seconds": seconds, "descriptors": descriptors}


def report(data: bytes) -> dict[str, Any]:
    """Read the report of a process that ran generated code; raises `Closed` for anything but a whole, valid one."""
    status, seconds, descriptors, length, error = [*data.split(b"\n", 4), b"", b"", b"", b""][:5]
    if (
        status.decode("utf-8", "replace") not in STATUSES
        or not re.fullmatch(rb"\d{1,9}\.\d{1,20}(e-\d{1,3})?", seconds)
        or not re.fullmatch(rb"\d{1,9}", descriptors)
        or length != b"%d" % len(error)
    ):
        raise Closed("not a report")
    message = error.decode("utf-8", "replace")[: 2 * zygote.MAX_ERROR]
    return ended(status.decode(), message, float(seconds), int(descriptors))
