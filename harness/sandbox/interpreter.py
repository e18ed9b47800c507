"""A warm interpreter behind all layers of isolation, whose forks run programs; seen from the fork server's side."""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import socket
import stat
import struct
import tempfile
import time
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from harness.sandbox import namespaces, seccomp, zygote
from harness.sandbox.kernel import PR_SET_PDEATHSIG, prctl
from harness.sandbox.limits import Limits
from harness.sandbox.output import CappedOutput
from harness.sandbox.snapshot import Snapshot, ended, report
from harness.sandbox.wire import Closed, receive, send

STARTUP_TIMEOUT = 120.0
WORTH_KEEPING = 0.002
"""Seconds of running from which a state is kept; below, a fork and the page faults it causes cost more."""
REMEMBERED = 4096
CREDENTIALS = struct.calcsize("3i")


Steps = tuple[str, ...]


class Interpreter:
    """Runs programs one after the other: has forks made, watches the clock, kills, and keeps snapshots.

    Args:
        client: for whom; only to hear that it is gone.
        limits: what a program may use.
        modules: imported before any program starts.
        packages: whether programs may import installed packages, beside the standard library.
        base: directory for directories of its own.
        output: bytes of output kept of a program.
        snapshots: states kept.
    """

    def __init__(
        self,
        client: socket.socket,
        limits: Limits,
        modules: Sequence[str],
        packages: bool,
        base: str,
        output: int,
        snapshots: int,
    ) -> None:
        self.client, self.limits, self.modules, self.packages, self.base = client, limits, modules, packages, base
        self.output_limit, self.max_snapshots = output, snapshots
        self.snapshots: OrderedDict[Steps, Snapshot] = OrderedDict()
        self.seconds: OrderedDict[Steps, float] = OrderedDict()
        """How long programs took, all their steps together."""
        self.layers: dict[str, str] = {}
        self._start()

    def _start(self) -> None:
        """Fork the warm process, in namespaces of its own."""
        self.directory = tempfile.mkdtemp(dir=self.base)
        self.stdout, stdout = os.pipe()
        os.set_blocking(self.stdout, False)
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        first = os.fork()
        if not first:
            try:
                _close_all_but(theirs.fileno(), stdout)
                self._become_zygote(theirs, stdout)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self.guardian = first
        theirs.close()
        os.close(stdout)
        ours.settimeout(STARTUP_TIMEOUT)
        pid = self._hello(ours)
        # Room for more than two, for the sender's credentials come along.
        self.layers, descriptors = receive(ours, 16)
        self.scratch, self.listener = (*descriptors, -1)[:2]
        self.zygote = Snapshot(ours, pid, CappedOutput(self.output_limit))

    def _become_zygote(self, control: socket.socket, stdout: int) -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        missing = namespaces.enter()
        # Only children enter a new pid namespace; the first is its init, with whose end all in it end.
        child = os.fork()
        if child:
            control.close()
            os.close(stdout)
            os.waitpid(child, 0)
            return
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        control.send(b"+")
        processes = self.max_snapshots + 16
        zygote.main(control, stdout, self.limits, self.modules, self.packages, self.directory, missing, processes)

    @staticmethod
    def _hello(control: socket.socket) -> int:
        """Wait for a new process's first byte; return its pid, for which the kernel vouches."""
        byte, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(CREDENTIALS))
        for level, kind, data in ancillary:
            if byte and level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                return struct.unpack("3i", data[:CREDENTIALS])[0]
        raise Closed("no first byte")

    def stop(self) -> None:
        """End all processes."""
        for snapshot in self.snapshots.values():
            snapshot.kill()
        self.snapshots.clear()
        self.zygote.kill()
        os.waitpid(self.guardian, 0)
        for descriptor in (self.stdout, self.scratch, self.listener):
            if descriptor >= 0:
                os.close(descriptor)

    def run(self, steps: Steps) -> tuple[str, str, str]:
        """Run a program; return status, output and error.

        Where the earlier steps took long, the state after them is kept or made again; where they did not, they are run
        again together with the last, which costs less than keeping a process.
        """
        earlier = steps[:-1]
        if earlier and earlier not in self.snapshots and self.seconds.get(earlier, math.inf) > WORTH_KEEPING:
            outcome = self._from_start(earlier)
            if outcome[0] not in ("ok", "incomplete"):
                return outcome
        if earlier in self.snapshots:
            self.snapshots.move_to_end(earlier)
            outcome = self._extend(self.snapshots[earlier], steps, steps[-1:])
            if outcome[0] not in ("syntax", "broken"):
                return outcome
        return self._from_start(steps)

    def _from_start(self, steps: Steps) -> tuple[str, str, str]:
        """Run all steps, one by one; or as one piece, where one is not valid by itself but makes the whole valid.

        Such is the second half of a loop's body. Where the whole is not valid either, the steps before had their run.
        """
        outcome = self._from_warm(steps, steps)
        if outcome[0] == "syntax" and len(steps) > 1:
            whole = self._from_warm(steps, ("".join(map(ended_line, steps)),))
            if whole[0] != "syntax":
                return whole
        return ("error" if outcome[0] == "syntax" else outcome[0]), *outcome[1:]

    def _from_warm(self, steps: Steps, sources: Steps) -> tuple[str, str, str]:
        outcome = self._extend(self.zygote, steps, sources)
        if outcome[0] == "broken":
            self.restart()
            outcome = self._extend(self.zygote, steps, sources)
        if outcome[0] == "broken":
            raise RuntimeError("the sandbox's first process does not fork")
        return outcome

    def restart(self) -> None:
        """Replace the warm process and its namespaces; all snapshots are lost."""
        self.stop()
        self._start()

    def _extend(self, parent: Snapshot, steps: Steps, sources: Steps) -> tuple[str, str, str]:
        """Run `sources` in a fork of `parent`, and keep the fork as the snapshot after `steps` if that is worth it.

        Status "syntax" says that one of the sources is not valid, "broken" that the parent did not fork.
        """
        control, theirs = socket.socketpair()
        control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        output = parent.output.copy()
        try:
            send(parent.control, list(map(ended_line, sources)), [theirs.fileno()])
        except Closed:
            control.close()
            self._forget(parent)
            return "broken", "", ""
        finally:
            theirs.close()
        child, result = self._watch(parent, control, output)
        if child is None:
            control.close()
            self._forget(parent)
            return "broken", "", ""
        status = result["status"]
        seconds = parent.seconds + result["seconds"]
        # Files are not part of a snapshot: a program that left some runs anew when it is continued.
        files = bool(os.listdir(self.scratch))
        child.seconds = seconds
        self._remember(steps, 0.0 if files else seconds)
        if status in ("ok", "incomplete") and not files and self.max_snapshots and seconds > WORTH_KEEPING:
            self._keep(steps, child)
        else:
            child.kill(wait=status in ("timeout", "killed"))
            self._drain(output)
            if files:
                self._clean_scratch()
        return status, output.text(), result["error"]

    def _watch(
        self, parent: Snapshot, control: socket.socket, output: CappedOutput
    ) -> tuple[Snapshot | None, dict[str, Any]]:
        """Answer forks and gather output until the new process reports, ends, or its time is over."""
        poller = select.poll()
        for descriptor in (control.fileno(), self.stdout, self.listener):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        poller.register(self.client, 0)  # only to hear that it is gone
        deadline = time.monotonic() + self.limits.timeout
        child: Snapshot | None = None
        forker = parent.pid
        result: dict[str, Any] | None = None
        while result is None:
            for descriptor, event in poller.poll(max(0.0, deadline - time.monotonic()) * 1000 + 1):
                if descriptor == self.listener:
                    if seccomp.answer(self.listener, forker):
                        forker = -1
                elif descriptor == self.stdout:
                    self._drain(output)
                elif descriptor == self.client.fileno() and event & (select.POLLHUP | select.POLLERR):
                    raise Closed("the client is gone")
                elif descriptor == control.fileno():
                    try:
                        if child is None:
                            child = Snapshot(control, self._hello(control), output)
                        else:
                            result = report(control.recv(1 << 16))
                    except (Closed, OSError):
                        if child is None:
                            return None, {}
                        result = ended("killed", "ProcessExit: the program ended its own process")
            if result is None and time.monotonic() >= deadline:
                if child is None:
                    return None, {}
                result = ended("timeout", f"TimeoutError: a step ran longer than {self.limits.timeout:g} s")
        self._drain(output)
        return child, result

    def _drain(self, output: CappedOutput) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):  # bounded: a program may print faster than this reads
                output.add(os.read(self.stdout, 1 << 16))

    def _clean_scratch(self) -> None:
        try:
            for name in os.listdir(self.scratch):
                if stat.S_ISDIR(os.stat(name, dir_fd=self.scratch, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=self.scratch)
                else:
                    os.unlink(name, dir_fd=self.scratch)
        except (OSError, RecursionError):
            self.restart()  # the program made it hard to remove; a new file system is not

    def _keep(self, steps: Steps, child: Snapshot) -> None:
        if steps in self.snapshots:
            self.snapshots.pop(steps).kill(wait=False)
        self.snapshots[steps] = child
        if len(self.snapshots) > self.max_snapshots:
            self.snapshots.popitem(last=False)[1].kill(wait=False)

    def _remember(self, steps: Steps, seconds: float) -> None:
        self.seconds[steps] = seconds
        if len(self.seconds) > REMEMBERED:
            self.seconds.popitem(last=False)

    def _forget(self, snapshot: Snapshot) -> None:
        for steps, kept in list(self.snapshots.items()):
            if kept is snapshot:
                self.snapshots.pop(steps).kill()


def _close_all_but(*kept: int) -> None:
    """Close what the fork server has open for itself and for other interpreters, beyond the standard streams."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # that of the list itself is closed already
                os.close(descriptor)


def ended_line(step: str) -> str:
    return step if step.endswith("\n") else step + "\n"
