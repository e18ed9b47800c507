"""A seccomp filter that lets through what computing needs and asks the fork server about every fork.

The list names what is allowed; all else fails with EPERM. Starting processes and threads is decided by the fork server
(seccomp user notification): it allows a fork only in the moment in which it has itself asked for one, so a program can
be snapshotted by forking and yet cannot fork by itself. It also hears of memory and locks that others would notice.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Container
from typing import Literal

from harness.sandbox.kernel import MACHINE, SECCOMP, syscall

IOCTLS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)
"""TCGETS and TIOCGWINSZ (is it a terminal?), FIONREAD, FIONCLEX, FIOCLEX."""

ALLOW, NOTIFY, DENY, KILL = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.EPERM, 0x80000000
UNKNOWN = 0x00050000 | errno.ENOSYS
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
JUMP_IF_SET = 0x45
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT, FOURTH_ARGUMENT = 0, 4, 16, 24, 40
"""Offsets in the data that a filter sees; of the arguments the low half, on little-endian machines."""

RECEIVE, SEND = 0xC0502100, 0xC0182101
CONTINUE = 1

X86_64 = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getitimer": 36,
    "alarm": 37, "setitimer": 38, "getpid": 39, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
    "getsockname": 51, "getsockopt": 55, "clone": 56,
    "fork": 57, "vfork": 58, "exit": 60, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74,
    "fdatasync": 75, "ftruncate": 77, "getcwd": 79, "chdir": 80, "rename": 82, "mkdir": 83, "rmdir": 84, "unlink": 87,
    "readlink": 89, "umask": 95, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100,
    "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "setsid": 112,
    "getpgid": 121, "getsid": 124, "rt_sigpending": 127, "sigaltstack": 131, "statfs": 137, "fstatfs": 138,
    "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "set_tid_address": 218,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "openat": 257, "mkdirat": 258, "newfstatat": 262, "unlinkat": 263, "renameat": 264, "readlinkat": 267,
    "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "dup3": 292, "pipe2": 293,
    "prlimit64": 302, "getcpu": 309, "renameat2": 316, "getrandom": 318, "membarrier": 324, "statx": 332,
    "rseq": 334, "clone3": 435, "faccessat2": 439,
}  # fmt: skip
AARCH64 = {
    "getcwd": 17, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "flock": 32, "mkdirat": 34, "unlinkat": 35,
    "renameat": 38, "statfs": 43, "fstatfs": 44, "ftruncate": 46, "faccessat": 48, "chdir": 49, "openat": 56,
    "close": 57, "pipe2": 59, "getdents64": 61, "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66,
    "pread64": 67, "pwrite64": 68, "pselect6": 72, "ppoll": 73, "readlinkat": 78, "newfstatat": 79, "fstat": 80,
    "fsync": 82, "fdatasync": 83, "exit": 93, "exit_group": 94, "set_tid_address": 96, "futex": 98,
    "set_robust_list": 99, "nanosleep": 101, "getitimer": 102, "setitimer": 103, "clock_gettime": 113,
    "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128,
    "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigpending": 136, "rt_sigreturn": 139,
    "times": 153, "getpgid": 155, "getsid": 156, "setsid": 157, "uname": 160, "getrlimit": 163, "getrusage": 165,
    "umask": 166, "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175,
    "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179, "getsockname": 204, "getsockopt": 209,
    "sendto": 206, "recvfrom": 207, "sendmsg": 211,
    "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "mmap": 222, "mprotect": 226,
    "madvise": 233, "prlimit64": 261, "renameat2": 276, "getrandom": 278, "membarrier": 283, "statx": 291,
    "rseq": 293, "clone3": 435, "faccessat2": 439,
}  # fmt: skip
MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}
"""Audit architecture and allowed system calls of the machines supported.

Not among them: sockets, exec, kill, ptrace, mount, namespaces, modules, keys, bpf, perf, io_uring, memfd, prctl.
"""
FORKS = ("clone", "fork", "vfork")
SPECIAL = {**dict.fromkeys((*FORKS, "flock"), NOTIFY), "clone3": UNKNOWN}
"""Starting processes is asked about; glibc falls back from clone3, whose flags a filter cannot see, to clone."""
FILE_CONTROLS = (0, 1, 2, 3, 4, 5, 1030, 1032, 1034)
"""Duplicates, flags, the size of a pipe. Not among them: signals to other processes (F_SETOWN, F_SETSIG)."""
FILE_LOCKS = (6, 7)
CHECKED = {
    "ioctl": (SECOND_ARGUMENT, IOCTLS),
    "prlimit64": (FIRST_ARGUMENT, (0,)),
    "fcntl": (SECOND_ARGUMENT, FILE_CONTROLS),
}
"""Allowed for some values of an argument only: questions about files, a process's own limits."""
ASKED = {"fcntl": FILE_LOCKS}
"""Values of the same argument about which the fork server is asked, for locks bear on other programs."""
MAP_SHARED = 1
"""In the flags of `mmap`: memory that forks of the process have in common. The fork server is asked."""

Instruction = tuple[int, int, int, int]


def program(architecture: int, numbers: dict[str, int]) -> list[Instruction]:
    """The filter as BPF instructions (code, jump if true, jump if false, constant)."""
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    for name in numbers.keys() - CHECKED.keys() - {"mmap"}:
        lines += [(JUMP_EQUAL, 0, 1, numbers[name]), (RETURN, 0, 0, SPECIAL.get(name, ALLOW))]
    for name, (offset, values) in CHECKED.items():
        block: list[Instruction] = [(LOAD, 0, 0, offset)]
        for value in ASKED.get(name, ()):
            block += [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, NOTIFY)]
        for value in values:
            block += [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
        block.append((RETURN, 0, 0, DENY))
        lines += [(JUMP_EQUAL, 0, len(block), numbers[name]), *block]
    shared = [
        (LOAD, 0, 0, FOURTH_ARGUMENT),
        (JUMP_IF_SET, 0, 1, MAP_SHARED),
        (RETURN, 0, 0, NOTIFY),
        (RETURN, 0, 0, ALLOW),
    ]
    lines += [(JUMP_EQUAL, 0, len(shared), numbers["mmap"]), *shared]
    return [*lines, (RETURN, 0, 0, DENY)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> int:
    """Put this process and its future children under the filter; return the descriptor that forks are asked on.

    The caller must have given up new privileges before. Raises `OSError` where the kernel or the machine has no
    seccomp user notification, or another listener is already in place.
    """
    if MACHINE not in MACHINES:
        raise OSError(f"seccomp: no system call table for {MACHINE}")
    lines = program(*MACHINES[MACHINE])
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    described = _Program(len(lines), ctypes.cast(code, ctypes.c_void_p))
    return syscall("seccomp", SECCOMP, 1, 8, ctypes.byref(described))


def answer(listener: int, forkers: Container[int]) -> tuple[Literal["fork", "share", "denied"], int]:
    """Answer one call that waits on `listener`; say what it was, and which process made it.

    A fork goes on if one of `forkers` makes it; memory and locks that other processes notice go on in any case.
    """
    notice = bytearray(80)
    try:
        fcntl.ioctl(listener, RECEIVE, notice)
        identity, pid, _, number = struct.unpack_from("=QIIi", notice)
        forks = [MACHINES[MACHINE][1].get(name) for name in FORKS]
        found: Literal["fork", "share", "denied"] = "fork" if number in forks else "share"
        granted = found == "share" or pid in forkers
        reply = struct.pack("=QqiI", identity, 0, 0 if granted else -errno.EPERM, CONTINUE if granted else 0)
        fcntl.ioctl(listener, SEND, bytearray(reply))
    except FileNotFoundError:  # the process died while it waited
        return "denied", 0
    return (found if granted else "denied"), pid
