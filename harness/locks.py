"""One writer at a time: a lock beside what a command writes, held until the command or its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InputError

_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


@contextlib.contextmanager
def only_writer(target: str | Path, *, folder: bool = False, wait: bool = False) -> Iterator[None]:
    """Let no other process that asks for the same lock write to `target` while the block runs.

    The lock is a file that stays: removing it while somebody waits for it or holds it would let two in. The kernel lets
    go of it when the process ends, however it ends; processes forked from this one do not keep it.

    Args:
        target: the file that is written, whose lock is `.NAME.lock` beside it.
        folder: `target` is a directory, whose lock is `.lock` in it.
        wait: until another process lets go of the lock, instead of refusing.

    Raises:
        InputError: another process holds the lock, or its file cannot be written.
    """
    target = Path(target)
    path = target / ".lock" if folder else target.with_name(f".{target.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another output.") from None
    _held.add(descriptor)
    try:
        _lock(descriptor, target, wait)
        yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def _lock(descriptor: int, target: Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        raise InputError(
            f"{target}: another process{f' ({holder})' if holder else ''} is writing here; wait until it has ended, "
            "or choose another output."
        ) from None
    except OSError as error:  # file systems without locks
        print(f"note: {target} cannot be locked ({error.strerror}); let nothing else write there.", file=sys.stderr)
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
