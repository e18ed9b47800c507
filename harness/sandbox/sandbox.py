"""The harness's side of the sandbox: programs go out to fork servers, outcomes come back in whatever order."""

from __future__ import annotations

import logging
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import InputError
from harness.sandbox.limits import Limits
from harness.sandbox.steps import digest
from harness.sandbox.wire import Closed, receive, send
from harness.sandbox.zygote import MAX_ERROR
from harness.types import Execution

Program = tuple[str, ...]
Level = Literal["strict", "standard"]

PIPELINED = (2, 32)
"""Programs sent to a worker ahead: at least so many, that it need not wait for the next, and at most so many, that it
has work while whoever asked is busy; between them as many as `BUFFERED` characters of source and output allow."""
BUFFERED = 1 << 16
"""Characters that both directions of a worker's channel hold in any case, so that neither side waits for the other."""
MAX_SOURCE = 1 << 20
"""Characters in a program; a longer one is an error without being run."""
ATTEMPTS = 3
"""Times that a program is run when the fork server ends under it."""
REMEMBERED = 4096
"""Programs of which it is remembered which worker ran them, for that one may hold their snapshot."""
BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); from harness.sandbox.forkserver import main; "
    "main(int(sys.argv[2]), sys.argv[3])"
)
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "LD_BIND_NOW": "1",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONMALLOC": "malloc",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
"""All that a fork server and programs inherit.

One thread each, for threads would not survive a fork. Symbols bound at the start, not by each fork for itself. Memory
in one piece, so that nearly all of it fits in huge pages, which halves the cost of a fork.
"""

logger = logging.getLogger(__name__)


class Sandbox:
    """Runs generated Python away from the harness, behind every layer of isolation the machine has.

    A program is a tuple of steps, executed one after the other in one interpreter. The state after the steps that ran
    before is kept as a forked process where memory allows, so extending a program costs one step; what a program does
    is never seen by another, also where they share steps. Its output is what `python` would print for the steps joined.
    Random numbers (`random`, `numpy.random`) start from seed 0 and hashes of strings are fixed, so outcomes repeat.

    Call it with programs to wait for all of them, or `submit` and `poll`. Not safe for use by several threads. A fork
    server that ends (the kernel ends processes where memory is short) is replaced, and what it had is run again.

    Args:
        workers: fork servers, each running one program at a time.
        limits: what a program may use.
        level: "strict" raises `InputError` when a layer of isolation is missing, "standard" logs what is missing.
        modules: imported before any program starts, where they are packages in a second interpreter of each worker,
            which runs the programs that import any; other installed packages can be imported but cost their time.
        output_limit: bytes of output kept of a program; of longer output the middle is cut and marked.
        snapshots: states kept by each interpreter; 0 runs every program from its first step.
        snapshot_memory: bytes that all states kept may hold, those of all workers together, each counted with what it
            shares with others; by default twice `limits.memory`.
    """

    def __init__(
        self,
        workers: int = 1,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        level: Level = "standard",
        modules: Sequence[str] = ("math", "sympy", "numpy"),
        output_limit: int = 1024,
        snapshots: int = 32,
        snapshot_memory: int | None = None,
    ) -> None:
        if sys.platform != "linux":
            raise InputError(f"the sandbox needs Linux; this is {sys.platform}.")
        if workers < 1:
            raise InputError(f"sandbox workers {workers}: give at least 1.")
        self.limits, self.level = limits, level
        self._ahead = min(PIPELINED[1], max(PIPELINED[0], BUFFERED // (output_limit + MAX_ERROR)))
        self._base = tempfile.mkdtemp(prefix="harness-sandbox-")
        self._waiting: deque[_Job] = deque()
        self._finished: deque[tuple[str, Execution]] = deque()
        self._last_worker: OrderedDict[bytes, _Worker] = OrderedDict()
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _remove, self._workers, self._base)
        memory = 2 * limits.memory if snapshot_memory is None else snapshot_memory
        self._settings = {
            "limits": asdict(limits),
            "modules": list(modules),
            "output_limit": output_limit,
            "snapshots": snapshots,
            "snapshot_memory": memory // workers,
        }
        self.layers: dict[str, str] = {}
        """For each layer of isolation "" where it is in place, else why it is missing."""
        try:
            self._workers += [_Worker(self._base, self._settings) for _ in range(workers)]
            for worker in self._workers:
                self._await(worker)
            self._require(level)
        except BaseException:
            self.close()
            raise

    def identity(self) -> dict[str, Any]:
        """What the outcomes of programs depend on; not how many run at a time, nor what is kept to save time."""
        kept = ("snapshots", "snapshot_memory")
        return {name: value for name, value in self._settings.items() if name not in kept}

    def _await(self, worker: _Worker) -> None:
        """Wait until a worker is ready, and note its layers."""
        try:
            layers = worker.layers()
        except Closed:
            raise RuntimeError("a fork server of the sandbox does not start; its message is on stderr") from None
        self.layers |= {name: why for name, why in layers.items() if why or name not in self.layers}

    def _require(self, level: Level) -> None:
        missing = "; ".join(f"{name} ({why})" for name, why in self.layers.items() if why)
        if missing and level == "strict":
            raise InputError(f"sandbox level strict: this machine lacks {missing}; allow it with level standard.")
        if missing:
            logger.warning("sandbox: generated programs run without these layers of isolation: %s", missing)

    def submit(self, key: str, program: Program) -> None:
        """Queue a program; `poll` returns its outcome under `key`."""
        if not program or sum(map(len, program)) > MAX_SOURCE:
            error = f"ValueError: a program has 1 to {MAX_SOURCE} characters" if program else ""
            self._finished.append((key, Execution("", error, "error" if error else "ok")))
        else:
            # As Python does with a file's mark of its byte order.
            self._waiting.append(_Job(key, (program[0].removeprefix("\ufeff"), *program[1:])))
            self._dispatch()

    @property
    def process_ids(self) -> list[int]:
        """The fork servers, each the leader of a session of its own."""
        return [worker.process.pid for worker in self._workers]

    @property
    def num_pending(self) -> int:
        """Programs submitted and not yet returned."""
        return len(self._waiting) + len(self._finished) + sum(len(worker.running) for worker in self._workers)

    def poll(self, timeout: float | None = None) -> list[tuple[str, Execution]]:
        """Return the outcomes that are there, after waiting at most `timeout` seconds for one (None: without end)."""
        if not self._finished and any(worker.running for worker in self._workers):
            busy = {worker.fileno(): worker for worker in self._workers if worker.running}
            poller = select.poll()
            for descriptor in busy:
                poller.register(descriptor, select.POLLIN)
            for descriptor, _ in poller.poll(None if timeout is None else 1000 * timeout):
                try:
                    self._finished.append(busy[descriptor].result())
                except Closed:
                    self._replace(busy[descriptor])
            self._dispatch()
        found = list(self._finished)
        self._finished.clear()
        return found

    def __call__(self, programs: Sequence[Program]) -> list[Execution]:
        """Run programs and return their outcomes in order; nothing may be pending."""
        if self.num_pending:
            raise ValueError("programs submitted before are still pending; poll them first")
        for index, program in enumerate(programs):
            self.submit(str(index), program)
        outcomes: dict[str, Execution] = {}
        while len(outcomes) < len(programs):
            outcomes.update(self.poll())
        return [outcomes[str(index)] for index in range(len(programs))]

    def _dispatch(self) -> None:
        """Give waiting programs to free workers, to the one that ran their earlier steps if it is free."""
        while self._waiting:
            size = self._waiting[0].size
            free = [worker for worker in self._workers if worker.has_room(size, self._ahead)]
            if not free:
                return
            job = self._waiting.popleft()
            known = self._last_worker.get(digest(job.program[:-1]))
            worker = known if known in free else min(free, key=lambda candidate: len(candidate.running))
            try:
                worker.start(job)
            except Closed:
                self._replace(worker)
                continue
            self._last_worker[digest(job.program)] = worker
            if len(self._last_worker) > REMEMBERED:
                self._last_worker.popitem(last=False)

    def _replace(self, worker: _Worker) -> None:
        """Start another fork server for one that has ended, and queue its programs again; the first was being run."""
        logger.warning("sandbox: fork server %d ended; starting another", worker.process.pid)
        worker.stop()
        jobs = [*worker.running]
        jobs[0].attempts += 1
        if jobs[0].attempts == ATTEMPTS:
            error = f"ForkServerLost: the sandbox's process ended {ATTEMPTS} times while this ran"
            self._finished.append((jobs.pop(0).key, Execution("", error, "killed")))
        self._waiting.extendleft(reversed(jobs))
        new = _Worker(self._base, self._settings)
        self._workers[self._workers.index(worker)] = new
        self._await(new)
        if self.level == "strict":
            self._require("strict")

    def close(self) -> None:
        """End all processes and remove the scratch directory; the sandbox cannot be used again."""
        self._finalizer()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class _Job:
    """A program that waits or runs."""

    key: str
    program: Program
    attempts: int = 0
    """Fork servers that ended while they ran it."""

    @property
    def size(self) -> int:
        """Characters of source."""
        return sum(map(len, self.program))


class _Worker:
    """A fork server and the programs sent to it."""

    def __init__(self, base: str, settings: dict[str, object]) -> None:
        self.channel, theirs = socket.socketpair()
        self.running: deque[_Job] = deque()
        root = str(Path(__file__).parents[2])
        inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-c", BOOTSTRAP, root, str(theirs.fileno()), base],
                env=ENVIRONMENT | inherited,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
            )
        send(self.channel, settings)

    def fileno(self) -> int:
        return self.channel.fileno()

    def layers(self) -> dict[str, str]:
        """Wait until it is ready; return the layers of isolation."""
        return receive(self.channel)[0]

    def has_room(self, size: int, ahead: int) -> bool:
        """Whether a program of so many characters can be sent beside those that run or wait."""
        running = len(self.running)
        return running < PIPELINED[0] or (running < ahead and sum(job.size for job in self.running) + size <= BUFFERED)

    def start(self, job: _Job) -> None:
        """Send a program; raises `Closed`, with the program among those running, if the fork server has ended."""
        self.running.append(job)
        send(self.channel, job.program)

    def result(self) -> tuple[str, Execution]:
        """Wait for the outcome of the first program; raises `Closed` if the fork server has ended."""
        status, output, error = receive(self.channel)[0]
        return self.running.popleft().key, Execution(output, error, status)

    def stop(self) -> None:
        """It ends by itself, and its processes with it, when it finds the channel closed."""
        self.channel.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _remove(workers: list[_Worker], base: str) -> None:
    for worker in workers:
        worker.stop()
    shutil.rmtree(base, ignore_errors=True)
