"""Landlock: a process limits itself to paths it names, and to no network and no signals to others (Linux >= 5.13)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from harness.sandbox.kernel import LANDLOCK_ADD_RULE, LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, syscall

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
"""Execute stands for mapping a file's code, as loading a compiled module does."""
ONLY_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


def abi() -> int:
    """Version of Landlock in the kernel; raises `OSError` where there is none."""
    return syscall("landlock", LANDLOCK_CREATE_RULESET, None, 0, 1)


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow this process and its children to read below `readable`, to read and write below `writable`, no more.

    Paths that do not exist are skipped. TCP is denied from ABI 4 on, signals and abstract sockets to processes outside
    from ABI 6 on. Raises `OSError` where Landlock is missing.
    """
    version = abi()
    filesystem = (1 << 13) - 1
    for bit, since in ((13, 2), (14, 3), (15, 5)):
        filesystem |= (version >= since) << bit
    network, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", filesystem, network, scoped)
    ruleset = syscall("landlock_create_ruleset", LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, READ & filesystem)
        for path in writable:
            _allow(ruleset, path, filesystem & ~EXECUTE)
        syscall("landlock_restrict_self", LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(opened).st_mode):
                access &= ONLY_FILES
            rule = ctypes.create_string_buffer(struct.pack("=Qi", access, opened))
            syscall("landlock_add_rule", LANDLOCK_ADD_RULE, ruleset, 1, rule, 0)
        finally:
            os.close(opened)
