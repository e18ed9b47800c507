"""Everything a process gives up before it runs a generated program, layer by layer."""

from __future__ import annotations

import os
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass

from harness.sandbox import landlock, namespaces, seccomp
from harness.sandbox.kernel import (
    CAPSET,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    prctl,
    syscall,
)

SCRATCH = "/scratch"
"""The working directory of programs where they have a file system of their own."""

SYSTEM_PATHS = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo",
    "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/urandom",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    timeout: float = 5.0
    """Seconds, by the clock on the wall, for each step of a program."""
    memory: int = 1 << 30
    """Bytes of address space beyond those of the warm interpreter."""
    file_size: int = 16 << 20
    """Bytes in one file, and in all files together where the scratch directory is in memory."""
    open_files: int = 64


def readable_paths(modules: Iterable[str]) -> list[str]:
    """Directories and files a program needs: the standard library, its packages, shared libraries, three devices."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    paths.add(os.path.join(sys.base_prefix, "lib"))
    for name in modules:
        location = getattr(sys.modules[name], "__file__", None)
        if location is not None and os.path.basename(location) == "__init__.py":
            # The directory around a package also holds its shared libraries and what it imports later.
            paths.add(os.path.dirname(os.path.dirname(location)))
    return [*sorted(filter(None, paths)), *SYSTEM_PATHS]


def set_rlimits(limits: Limits, processes: int | None) -> None:
    """Bound memory, files and processes of this process and its children.

    `processes` bounds those of the user namespace, which the kernel does not apply where root started it.
    """
    with open("/proc/self/statm") as file:
        warm = int(file.read().split()[0]) * resource.getpagesize()
    bounds = {
        resource.RLIMIT_AS: warm + limits.memory,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if processes is not None:
        bounds[resource.RLIMIT_NPROC] = processes
    for kind, bound in bounds.items():
        _lower(kind, bound)


def limit_cpu(seconds: float) -> None:
    """Have the kernel end this process after that much computing, should the fork server fail to."""
    bound = int(seconds) + 2
    _lower(resource.RLIMIT_CPU, bound)


def _counts_by_namespace() -> bool:
    """Whether the bound on processes counts a namespace's own only (Linux >= 5.14), not all the user's."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)))) >= (5, 14)


def _lower(kind: int, bound: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(kind, (bound, bound))


def drop_privileges() -> None:
    """Give up all capabilities for good, set-uid programs included, and hide from debuggers."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last one the kernel knows, or none was held
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    syscall("capset", CAPSET, header, none)
    prctl(PR_SET_DUMPABLE, 0)


def confine(
    limits: Limits, readable: list[str], base: str, missing: dict[str, str], processes: int
) -> tuple[int, dict[str, str]]:
    """Apply the layers to this process, once its namespaces are entered and its modules imported.

    Args:
        limits: what programs may use.
        readable: paths they may read.
        base: directory to build the file system in, and the scratch directory where it cannot be built.
        missing: what `namespaces.enter` returned.
        processes: bound on their number.

    Returns:
        The descriptor on which forks are to be answered (-1 without seccomp), and for each layer "" or why it is
        missing.
    """
    layers = {f"{kind} namespace": reason for kind, reason in missing.items()}
    set_rlimits(limits, None if missing["user"] or not _counts_by_namespace() else processes)
    scratch = base
    layers["file system of its own"] = layers["mount namespace"]
    if not missing["mount"]:
        try:
            namespaces.change_root(readable, base, SCRATCH, limits.file_size)
            scratch = SCRATCH
        except OSError as error:
            layers["file system of its own"] = str(error)
    os.chdir(scratch)
    layers |= {"rlimits": "", "process group": "", "minimal environment": ""}
    listener = -1
    for name, apply in {
        "no privileges": drop_privileges,
        "landlock": lambda: landlock.restrict(readable, [scratch, "/dev/null"]),
    }.items():
        try:
            apply()
            layers[name] = ""
        except OSError as error:
            layers[name] = str(error)
    try:
        listener = seccomp.install()
        layers["seccomp"] = ""
    except OSError as error:
        layers["seccomp"] = str(error)
    return listener, layers
