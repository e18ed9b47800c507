"""The ranks of one run: what they tell one another through the store of their process group, and a watch over them.

Nothing here is a collective operation, so nothing has the time-out of one: a rank may work for hours while the others
wait for it. A rank that ends without a word, as SIGKILL makes it, ends all others with one sentence.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import InputError, RankError, first_line

Found = TypeVar("Found")

BEAT_SECONDS = 3.0
SILENT_SECONDS = 90.0
"""A rank whose heart has not beaten for so long is taken for dead."""
GRACE_SECONDS = 15.0
"""What the main thread is given to end by itself, once a rank is gone; a collective operation may never return."""
POLL_SECONDS = (0.01, 0.5)
"""Shortest and longest pause between two looks into the store."""
_said = threading.Event()
REMEDY = "start the run again, it continues where it stopped."
FIRST_LOST = f"the first rank, which holds the store of all, has ended or cannot be reached; {REMEDY}"


class Ranks:
    """Implements what the ranks of a run need of one another, over a `torch.distributed.Store`.

    Args:
        rank: of this process.
        size: number of ranks.
        store: seen by all ranks and used by nothing else; a rank that is alone needs none.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank, self.size = rank, size
        self._store: Any = _Memory() if store is None else store
        self.failure = ""
        """Why the run cannot go on, once that is known."""
        self.progress: Callable[[], int] = lambda: 0
        """Told to the others with every beat: a number that grows while this rank gets on."""
        self._closed = threading.Event()
        self._neighbour = (rank + 1) % size
        self._last_beat, self._since = "", time.monotonic()
        self._looked = self._since
        if size > 1:
            self._store.set(f"process/{rank}", _process())
            for work in (self._beat, self._watch):
                threading.Thread(target=work, name=f"ranks{work.__name__}", daemon=True).start()

    @property
    def first(self) -> bool:
        return self.rank == 0

    # What ranks tell one another.

    def set(self, key: str, value: str) -> None:
        self._store.set(key, value)

    def get(self, key: str) -> str | None:
        """The value of a key, None where it has none yet."""
        return _get(self._store, key)

    def add(self, key: str, amount: int) -> int:
        """Add to a counter and return what it is then, in one step that no other rank can come between."""
        return self._store.add(key, amount)

    def wait(self, look: Callable[[], Found | None]) -> Found:
        """What `look` finds, as soon as that is not None.

        Raises:
            RankError: meanwhile another rank failed or was lost.
        """
        pause, longest = POLL_SECONDS
        while True:
            self.check()
            if (found := look()) is not None:
                return found
            time.sleep(pause)
            pause = min(1.5 * pause, longest)

    def meet(self, place: str) -> None:
        """Return once all ranks have come to the place, which must be another one each time."""
        if self.size > 1:
            self.add(f"met/{place}", 1)
            self.wait(lambda: self.add(f"met/{place}", 0) >= self.size or None)

    def progress_of(self, rank: int) -> int:
        """What a rank said of its progress at its last beat."""
        beat = self.get(f"beat/{rank}") or "0 0"
        return int(beat.split()[1])

    def check(self) -> None:
        """Raise `RankError` if it is known that another rank is gone."""
        if self.failure:
            raise RankError(self.failure)

    def check_shared(self, folder: Path) -> None:
        """Raise `InputError` on all ranks if one of them does not see what the first writes into the folder."""
        if self.size == 1:
            return
        name = f".shared-{os.getpid()}"
        if self.first:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
            self.set("shared", name)
        probe = folder / self.wait(lambda: self.get("shared"))
        if not probe.exists():
            self.set("not shared", f"{self.rank} on {socket.gethostname()}")
        self.meet("shared")
        if self.first:
            probe.unlink()
        if blind := self.get("not shared"):
            raise InputError(
                f"{folder}: rank {blind} does not see what the first rank writes there; give a run_dir on a file "
                "system that all nodes share."
            )

    # The watch.

    def fail(self, error: BaseException) -> None:
        """Tell the others that this rank ends by an error of its own.

        Raises:
            RankError: in place of an error that another rank's end has caused, such as a lost connection.
        """
        if self.size == 1 or isinstance(error, RankError):
            return
        end = time.monotonic() + (3 * BEAT_SECONDS if isinstance(error, RuntimeError) else 0)
        while isinstance(error, Exception):
            self._look(self._store)
            if self.failure:
                raise RankError(self.failure) from error
            if time.monotonic() >= end:
                break
            time.sleep(BEAT_SECONDS / 10)
        if isinstance(error, SystemExit) and (lost := self._lost()):  # launchers end all ranks when one is lost
            raise RankError(lost) from error
        self._closed.set()
        failed = f"has failed ({first_line(error)}); its own error says more."
        with contextlib.suppress(RuntimeError):  # where the store is gone, the others find that out by themselves
            self.set("failed", f"rank {self.rank} {failed if isinstance(error, Exception) else 'was told to end.'}")

    def close(self) -> None:
        """Stop the watch, at the end of a run; the rank that holds the store returns last."""
        if self.size > 1 and not self._closed.is_set():
            self.set(f"left/{self.rank}", "")
            self.meet("end")
            self._closed.set()
            self.add("gone", 1)
            if self.first:
                self.wait(lambda: self.add("gone", 0) >= self.size or None)

    def _beat(self) -> None:
        """Give signs of life, and look for those of the neighbour."""
        store, number = self._store.clone(), 0
        while not self._closed.wait(BEAT_SECONDS) and not self.failure:
            number += 1
            try:
                store.set(f"beat/{self.rank}", f"{number} {self.progress()}")
            except RuntimeError:
                self._note(FIRST_LOST)
            self._look(store)
            self._looked = time.monotonic()

    def _watch(self) -> None:
        """End the process once a rank is gone, if the main thread does not."""
        while not self._closed.wait(BEAT_SECONDS):
            if time.monotonic() - self._looked > SILENT_SECONDS:  # a lost host answers nothing, for hours
                self._note(FIRST_LOST)
            if self.failure and not self._closed.wait(GRACE_SECONDS):
                say_once(self.failure)
                os._exit(1)

    def _note(self, failure: str) -> None:
        if not self._closed.is_set():
            self.failure = self.failure or failure

    def _look(self, store: Any) -> None:
        """Note whether a rank has failed, or the one that this rank watches is gone."""
        try:
            found = _get(store, "failed") or self._missing_neighbour(store)
            if found:
                store.set("failed", found)
        except RuntimeError:
            found = FIRST_LOST
        if found:
            self._note(found)

    def _lost(self) -> str:
        """What to say of a rank that is gone without a word."""
        try:
            return self._missing_neighbour(self._store)
        except RuntimeError:
            return FIRST_LOST

    def _missing_neighbour(self, store: Any) -> str:
        """What to say of the neighbour if it is gone."""
        neighbour = self._neighbour
        process, beat = _get(store, f"process/{neighbour}"), _get(store, f"beat/{neighbour}") or ""
        if process is None or _get(store, f"left/{neighbour}") is not None:
            self._since = time.monotonic()
            return ""
        place, _, pid = process.rpartition(" ")
        if place == _process().rpartition(" ")[0] and not _runs(int(pid)):
            return f"rank {neighbour} has ended without a word (killed, or out of memory?); {REMEDY}"
        if beat != self._last_beat:
            self._last_beat, self._since = beat, time.monotonic()
        silent = time.monotonic() - self._since
        if silent < SILENT_SECONDS:
            return ""
        host = place.partition(" ")[0]
        return f"rank {neighbour} on {host} has given no sign of life for {silent:.0f} s; {REMEDY}"


def say_once(failure: str) -> None:
    """Print why the run ends, whichever thread comes to it first."""
    if not _said.is_set():
        _said.set()
        print(f"error: {failure}", file=sys.stderr, flush=True)


class _Memory:
    """The store of a rank that is alone."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self._values[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self._values[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self._values for key in keys)

    def add(self, key: str, amount: int) -> int:
        value = int(self._values.get(key, b"0")) + amount
        self._values[key] = str(value).encode()
        return value


def _get(store: Any, key: str) -> str | None:
    return store.get(key).decode() if store.check([key]) else None


def _process() -> str:
    """Host, boot, process namespace and number of this process; only the number differs where all can be looked up."""
    space = Path("/proc/self/ns/pid")
    boot = Path("/proc/sys/kernel/random/boot_id")
    where = f"{os.readlink(space)}/{boot.read_text().strip()}" if space.is_symlink() and boot.exists() else os.getpid()
    return f"{socket.gethostname()} {where} {os.getpid()}"


def _runs(pid: int) -> bool:
    """Whether a process of this machine runs, which a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")
