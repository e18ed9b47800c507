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
from harness.sandbox.snapshot import FORGED, STATUSES, Kept, Snapshot, ended, private_memory, report
from harness.sandbox.steps import Steps, digest, ended_line
from harness.sandbox.wire import Closed, receive, send

STARTUP_TIMEOUT = 120.0
REMEMBERED = 4096
OWN_DESCRIPTORS = 4
"""What a process has open by itself: the standard streams, and its channel."""
CREDENTIALS = struct.calcsize("3i")
TIME = struct.Struct("@ll")
"""Seconds and microseconds, as the kernel takes them."""


class Interpreter:
    """Runs programs one after the other: has forks made, watches the clock, kills, and keeps snapshots.

    Args:
        client: for whom; only to hear that it is gone.
        limits: what a program may use.
        modules: imported before any program starts.
        packages: whether programs may import installed packages, beside the standard library.
        base: directory for directories of its own.
        output: bytes of output kept of a program.
        kept: the states that stand by, those of other interpreters included.
    """

    def __init__(
        self,
        client: socket.socket,
        limits: Limits,
        modules: Sequence[str],
        packages: bool,
        base: str,
        output: int,
        kept: Kept,
    ) -> None:
        self.client, self.limits, self.modules, self.packages, self.base = client, limits, modules, packages, base
        self.output_limit, self.kept = output, kept
        self.seconds: OrderedDict[bytes, float] = OrderedDict()
        """How long programs took whose state can be kept, all their steps together; 0 for others."""
        self.layers: dict[str, str] = {}
        self._start()

    def _start(self) -> None:
        """Fork the warm process, in namespaces of its own."""
        self.directory = tempfile.mkdtemp(dir=self.base)
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        first = os.fork()
        if not first:
            try:
                _close_all_but(theirs.fileno())
                self._become_zygote(theirs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self.guardian = first
        theirs.close()
        ours.settimeout(STARTUP_TIMEOUT)
        pid = self._hello(ours)
        # Room for more than two, for the sender's credentials come along.
        self.layers, descriptors = receive(ours, 16)
        self.scratch, self.listener = (*descriptors, -1)[:2]
        self.forkers: dict[int, _Run] = {}
        """Processes that were asked to fork and have not done so, and for what."""
        self.spare: _Run | None = None
        """A fork of the warm process that waits for its sources, made while the program before it ran."""
        self.zygote = Snapshot(ours, pid, CappedOutput(self.output_limit))
        self.zygote.size = private_memory(pid)
        self.empty = self._scratch_use()

    def _become_zygote(self, control: socket.socket) -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        missing = namespaces.enter()
        # Only children enter a new pid namespace; the first is its init, with whose end all in it end.
        child = os.fork()
        if child:
            control.close()
            os.waitpid(child, 0)
            return
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        control.send(b"+")
        processes = self.kept.number + 16
        zygote.main(control, self.limits, self.modules, self.packages, self.directory, missing, processes)

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
        self.kept.forget(self)
        if self.spare is not None:
            self.spare.control.close()
            os.close(self.spare.stdout)
        self.zygote.kill()
        self.zygote.close()
        os.waitpid(self.guardian, 0)
        for descriptor in (self.scratch, self.listener):
            if descriptor >= 0:
                os.close(descriptor)

    def run(self, steps: Steps) -> tuple[str, str, str]:
        """Run a program; return status, output and error.

        Where the earlier steps took long, the state after them is kept or made again; where they did not, they are run
        again together with the last, which costs less than keeping a process.
        """
        earlier = steps[:-1]
        if not earlier or not self.kept.number:
            return self._from_start(steps)
        key = digest(earlier)
        snapshot = self.kept.get(self, key)
        if snapshot is None and self.seconds.get(key, math.inf) > zygote.WORTH_KEEPING:
            outcome = self._from_start(earlier)
            if outcome[0] not in ("ok", "incomplete"):
                return outcome
            snapshot = self.kept.get(self, key)
        if snapshot is not None:
            outcome = self._extend(snapshot, steps, steps[-1:])
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

        Before the outcome is returned the fork and its parent are gone or stand still, so that neither can print into
        what others print or touch their files. Status "syntax" says that one of the sources is not valid, "broken" that
        the parent did not fork.
        """
        if parent is self.zygote and self.spare is not None:
            run, self.spare = self.spare, None
        else:
            if parent is not self.zygote:
                parent.go_on()
            run = self._fork(parent)
        try:
            if not run.broken:
                self._watch(parent, run, [*map(ended_line, sources)])
            return self._settle(parent, steps, run)
        finally:
            os.close(run.stdout)

    def _fork(self, parent: Snapshot) -> _Run:
        """Ask a process for a fork; `_watch` lets it go on."""
        control, theirs = socket.socketpair()
        control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # A process that does not read what it is sent must not hold this one up.
        control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIME.pack(int(self.limits.timeout) + 1, 0))
        stdout, written = os.pipe()
        os.set_blocking(stdout, False)
        run = _Run(control, stdout, parent.output.copy())
        try:
            send(parent.control, None, [theirs.fileno(), written])
        except Closed:
            run.broken = True
        finally:
            theirs.close()
            os.close(written)
        self.forkers[parent.pid] = run
        return run

    def _settle(self, parent: Snapshot, steps: Steps, run: _Run) -> tuple[str, str, str]:
        """Keep the process that ran, or end it and what it left; return status, output and error."""
        child, result = run.child, run.result
        if parent is not self.zygote:
            self.forkers.pop(parent.pid, None)
        if child is None or result is None:
            run.control.close()
            if parent is not self.zygote and run.forked:
                self.restart()  # a fork that nobody knows is somewhere in the namespaces, and ends only with them
            elif parent is not self.zygote:
                self.kept.forget(self, parent)
            return "broken", "", ""
        still = parent is self.zygote or parent.stop()
        child.seconds = parent.seconds + result["seconds"]
        kept = (
            result["status"] in ("ok", "incomplete")
            and child.seconds > zygote.WORTH_KEEPING
            and not run.shares
            and result["descriptors"] == OWN_DESCRIPTORS
            and still
            and self._keep(steps, child)
        )
        gone = kept or child.kill()
        run.drain()
        if result["status"] in STATUSES and child.says_more():
            result = ended("killed", FORGED)
            self.kept.forget(self, child)
            kept = False
        self._remember(steps, child.seconds if kept else 0.0)
        if not kept:
            child.close()
        if not (still and gone):
            self.restart()
        elif self._scratch_use() != self.empty:
            self._clean_scratch()
        return result["status"], run.output.text(), result["error"]

    def _watch(self, parent: Snapshot, run: _Run, sources: list[str]) -> None:
        """Answer forks, send the new process its sources, and gather output until it reports, ends, or is too late."""
        poller = select.poll()
        for descriptor in (run.control.fileno(), run.stdout, self.listener):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        poller.register(self.client, 0)  # only to hear that it is gone
        deadline = time.monotonic() + self.limits.timeout
        start = time.monotonic()
        while run.result is None:
            for descriptor, event in poller.poll(max(0.0, deadline - time.monotonic()) * 1000 + 1):
                if descriptor == self.listener:
                    asked, pid = seccomp.answer(self.listener, self.forkers)
                    if asked == "fork":
                        self.forkers.pop(pid).forked = True
                    run.shares |= asked == "share"
                elif descriptor == run.stdout:
                    if not run.drain():
                        poller.unregister(run.stdout)
                elif descriptor == self.client.fileno() and event & (select.POLLHUP | select.POLLERR):
                    raise Closed("the client is gone")
                elif descriptor == run.control.fileno():
                    try:
                        if run.child is None:
                            pid = self._hello(run.control)
                            if pid in (parent.pid, self.zygote.pid) or pid in self.kept.pids(self):
                                return  # it answers for a fork that is somewhere else
                            send(run.control, sources)
                            run.child = Snapshot(run.control, pid, run.output)
                            start = time.monotonic()
                            if parent is self.zygote:
                                self.spare = self._fork(self.zygote)
                        else:
                            run.result = report(run.control.recv(1 << 16))
                            run.result["seconds"] = min(run.result["seconds"], time.monotonic() - start)
                    except (Closed, OSError):
                        if run.child is None:
                            return
                        run.result = ended("killed", "ProcessExit: the program ended its own process")
            if run.result is None and time.monotonic() >= deadline:
                if run.child is None:
                    return
                run.result = ended("timeout", f"TimeoutError: a step ran longer than {self.limits.timeout:g} s")

    def _scratch_use(self) -> object:
        """What the scratch directory holds, in a form that can be compared: files without a name count as well."""
        if self.layers["file system of its own"]:
            return os.listdir(self.scratch)
        found = os.fstatvfs(self.scratch)
        return found.f_bfree, found.f_ffree

    def _clean_scratch(self) -> None:
        try:
            for name in os.listdir(self.scratch):
                if stat.S_ISDIR(os.stat(name, dir_fd=self.scratch, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=self.scratch)
                else:
                    os.unlink(name, dir_fd=self.scratch)
        except (OSError, RecursionError):
            self.restart()  # the program made it hard to remove; a new file system is not
        if self._scratch_use() != self.empty:
            self.restart()

    def _keep(self, steps: Steps, child: Snapshot) -> bool:
        """Keep a process if it stands still, left no files and is not too large."""
        if not self.kept.number or not child.stop() or self._scratch_use() != self.empty:
            return False
        child.size = max(0, private_memory(child.pid) - self.zygote.size)
        return self.kept.add(self, digest(steps), child)

    def _remember(self, steps: Steps, seconds: float) -> None:
        self.seconds[digest(steps)] = seconds
        if len(self.seconds) > REMEMBERED:
            self.seconds.popitem(last=False)


class _Run:
    """One fork that runs sources: its channel, its output, and what is known of it."""

    def __init__(self, control: socket.socket, stdout: int, output: CappedOutput) -> None:
        self.control, self.stdout, self.output = control, stdout, output
        self.child: Snapshot | None = None
        self.result: dict[str, Any] | None = None
        self.broken = False
        """The parent is gone."""
        self.forked = False
        """The parent was granted its fork."""
        self.shares = False
        """It asked for memory or a lock that other processes would notice, so its state is not kept."""

    def drain(self) -> bool:
        """Read what was printed; return whether more may come."""
        try:
            for _ in range(64):  # bounded: a program may print faster than this reads
                data = os.read(self.stdout, 1 << 16)
                if not data:
                    return False
                self.output.add(data)
        except BlockingIOError:
            pass
        return True


def _close_all_but(*kept: int) -> None:
    """Close what the fork server has open for itself and for other interpreters, beyond the standard streams."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # that of the list itself is closed already
                os.close(descriptor)
