"""Worker processes with a budget for each job, from any thread, without signals or forks of this process.

A worker that overruns is killed and another takes its place; no other job is lost or delayed by it.
"""

from __future__ import annotations

import os
import pickle
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DEADLINE = 2.0
"""Processor seconds a job may take from when its work starts: its worker's own, so that the load does not matter."""
PATIENCE = 30
"""Seconds on the clock, for each processor second, after which a worker that makes no progress is given up."""
_POLL = 0.02
START_SECONDS = 60.0
"""Seconds for a worker to start and import, which the deadline does not include."""


class JobTimeout(Exception):
    """The job overran its budget and its worker was killed."""


class Worker:
    """One process and the pipes to it."""

    def __init__(self, *loads: str) -> None:
        """`loads` may hold "algebra", which the worker then imports before its first job asks for it."""
        root = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.grading.worker", *loads],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )

    def run(self, kind: str, payload: Any, seconds: float) -> Any:
        """The result of a job. Raises JobTimeout; EOFError or OSError where the process died."""
        data = pickle.dumps((kind, payload))
        assert self.process.stdin is not None
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.read(time.monotonic() + START_SECONDS)  # "started"
        status, value = self.read(time.monotonic() + PATIENCE * seconds, self.processor_seconds() + seconds)
        if status == "failed":
            raise JobTimeout(value)
        return value

    def processor_seconds(self) -> float:
        """Processor time the worker has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def read(self, end: float, budget: float = float("inf")) -> Any:
        """A message. Raises JobTimeout past `end` on the clock or `budget` of the worker's processor seconds."""
        size = struct.unpack("<I", self.read_bytes(4, end, budget))[0]
        return pickle.loads(self.read_bytes(size, end, budget))

    def read_bytes(self, count: int, end: float, budget: float) -> bytes:
        assert self.process.stdout is not None
        data = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while len(data) < count:
                if not selector.select(_POLL):
                    if time.monotonic() > end or self.processor_seconds() > budget:
                        raise JobTimeout("deadline")
                    continue
                part = os.read(self.process.stdout.fileno(), count - len(data))
                if not part:
                    raise EOFError("worker ended")
                data += part
        return data

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Pool:
    """Workers started when first needed and kept for the next job."""

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self.ahead = False
        """Whether a first worker was started before there was a job."""
        self.lock = threading.Lock()

    def run(self, kind: str, payload: Any, seconds: float = DEADLINE) -> Any:
        """The result of one job, in a worker of its own for that time. Raises JobTimeout."""
        for attempt in (1, 2):
            with self.lock:
                worker = self.idle.pop() if self.idle else None
            worker = worker or Worker()
            try:
                result = worker.run(kind, payload, seconds)
            except JobTimeout:
                worker.kill()
                raise
            except (EOFError, OSError) as error:
                worker.kill()
                if attempt == 2:
                    raise JobTimeout(f"worker died twice: {error}") from error
                continue
            except BaseException:
                worker.kill()
                raise
            with self.lock:
                self.idle.append(worker)
            return result
        raise AssertionError("unreachable")

    def map(self, kind: str, payloads: Sequence[Any], num_workers: int, failed: Callable[[], Any]) -> list[Any]:
        """The results in order, `num_workers` at a time; `failed()` stands where a job overran."""
        results: list[Any] = [None] * len(payloads)
        order = iter(range(len(payloads)))
        errors: list[BaseException] = []

        def serve() -> None:
            while not errors:
                with self.lock:
                    index = next(order, None)
                if index is None:
                    return
                try:
                    results[index] = self.run(kind, payloads[index])
                except JobTimeout:
                    results[index] = failed()
                except BaseException as error:
                    errors.append(error)

        threads = [threading.Thread(target=serve, daemon=True) for _ in range(num_workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    def start_ahead(self) -> None:
        """Start a first worker, which loads computer algebra while this process goes on; does not wait."""
        with self.lock:
            if not self.ahead:
                self.ahead = True
                self.idle.append(Worker("algebra"))

    def close(self) -> None:
        """End the idle workers."""
        with self.lock:
            workers, self.idle = self.idle, []
        for worker in workers:
            worker.kill()


_POOL = Pool()


def pool() -> Pool:
    """This process's pool."""
    return _POOL


def _forget() -> None:
    """In a forked child: the parent's workers are not ours to talk to."""
    global _POOL
    _POOL = Pool()


os.register_at_fork(after_in_child=_forget)
