"""Namespaces: a process tree with its own users, processes, network and file system (Linux)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from harness.sandbox.kernel import MOUNT_SETATTR, PIVOT_ROOT, check, libc, mount, syscall, unshare

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
NAMESPACES = {"mount": NEWNS | NEWUTS | NEWIPC | NEWCGROUP, "pid": NEWPID, "network": NEWNET}
READ_ONLY, NOSUID, NODEV, NOEXEC, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
DETACH = 2
NOBODY = 65534


def enter() -> dict[str, str]:
    """Enter new namespaces; return for each kind "" or why it is missing.

    The pid namespace begins with the next child. A user namespace is what gives an ordinary user the right to the
    others; where it is missing, they are tried with the rights at hand (root in a container may have them).
    """
    user, group = os.geteuid(), os.getegid()
    missing = {"user": ""}
    try:
        unshare(NEWUSER)
    except OSError as error:
        missing["user"] = str(error)
    else:
        # The kernel lets an unprivileged process map groups only once it cannot change them any more.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    for kind, flags in NAMESPACES.items():
        try:
            unshare(flags)
            missing[kind] = ""
        except OSError as error:
            missing[kind] = str(error)
    return missing


def change_root(readable: Iterable[str], base: str, scratch: str, size: int) -> None:
    """Make a file system of the `readable` paths, read-only and at their own places, and an empty writable `scratch`.

    Nothing else of the old one stays in reach: no /proc, no home, no /tmp. Only in a mount namespace of one's own.

    Args:
        readable: directories and files; those that do not exist are left out.
        base: an empty directory to build in.
        scratch: path of the writable directory in the new file system, in memory.
        size: bytes that may be written to `scratch`.
    """
    mount("", "/", "", PRIVATE | RECURSIVE)
    mount("tmpfs", base, "tmpfs", NOSUID | NODEV | NOEXEC, "size=1m,mode=755")
    covered: list[str] = []
    for path in sorted(filter(os.path.exists, readable), key=len):
        if any(path == other or path.startswith(other + "/") for other in covered):
            continue
        covered.append(path)
        target = base + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            Path(target).touch()
        mount(os.path.realpath(path), target, "", BIND | RECURSIVE)
    os.makedirs(base + scratch, exist_ok=True)
    _set_read_only(base)
    mount("tmpfs", base + scratch, "tmpfs", NOSUID | NODEV | NOEXEC, f"size={size},nr_inodes=256,mode=700")
    os.chdir(base)
    syscall("pivot_root", PIVOT_ROOT, b".", b".")
    check(libc.umount2(b".", DETACH), "umount")
    os.chdir(scratch)


def _set_read_only(path: str) -> None:
    recursive, at_fdcwd = 0x8000, -100
    attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", READ_ONLY | NOSUID, 0, 0, 0))
    syscall("mount_setattr", MOUNT_SETATTR, at_fdcwd, path.encode(), recursive, attributes, 32)
