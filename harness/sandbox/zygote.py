"""The process that is forked to run a step of a program, and then stands by as a snapshot of the state it reached.

The first of them is warm: an interpreter with the modules imported and all rights given up. Told to continue, a process
forks; its child runs the new source and takes its place beside it, ready to be continued in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import random
import resource
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Sequence
from typing import NoReturn

from harness.sandbox import limits as confinement
from harness.sandbox.kernel import libc
from harness.sandbox.wire import receive, send

INCOMPLETE_INPUT = 0x4000
"""Compiler flag (`codeop.PyCF_ALLOW_INCOMPLETE_INPUT`): say so when more lines could make the source valid."""
MAX_ERROR = 500
"""Characters kept of an error's message."""
FORK = ctypes.PyDLL(None).fork
"""Unlike `os.fork` it leaves `random` as it is, so that a run does not depend on where it was forked, and makes Python
touch a quarter of the memory. What it leaves out concerns threads, of which there is one."""
MADV_COLLAPSE, HUGE_PAGE = 25, 2 << 20
WORTH_KEEPING = 0.004
"""Seconds of running from which a state is kept; below, a fork and the page faults it causes cost more."""
ALL_SIGNALS, NO_SIGNALS = b"\xff" * 128, bytes(128)


def main(
    control: socket.socket,
    limits: confinement.Limits,
    modules: Sequence[str],
    packages: bool,
    base: str,
    missing: dict[str, str],
    processes: int,
) -> NoReturn:
    """Warm up, give up all rights, report the layers over `control` and serve as the first snapshot."""
    for name in modules:
        importlib.import_module(name)
    if "sympy" in modules:
        _warm_sympy()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    random.seed(0)
    gc.collect()
    gc.freeze()
    _use_huge_pages()
    readable = confinement.readable_paths(modules)
    listener, layers = confinement.confine(limits, readable, base, missing, processes)
    scratch = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    block_signals(True)
    descriptors = [descriptor for descriptor in (scratch, listener) if descriptor >= 0]
    send(control, layers, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    sys.path = [path for path in sys.path if (packages if "-packages" in path else path.startswith(sys.base_prefix))]
    reading, writing = os.pipe()  # as programs have one, so that `sys.stdout` is the same; nothing is written to it
    own_descriptors(writing)
    os.close(reading)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - open as long as the process
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="backslashreplace")  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace")  # type: ignore[misc]  # noqa: SIM115
    try:
        _serve(control, program, limits.timeout)
    finally:
        os._exit(0)


def _warm_sympy() -> None:
    """Do once what every first use of sympy spends hundreds of milliseconds on: late imports and caches."""
    import sympy

    x, y = sympy.symbols("x y")
    sympy.solve([x + y - 3, x - y - 1], [x, y])
    sympy.solve(x**2 - 2 * x - 3, x)
    sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
    sympy.integrate(sympy.diff(x**3 * sympy.exp(x), x), x)
    sympy.N(sympy.sqrt(2) + sympy.Rational(1, 3))
    sympy.factor(sympy.expand((x + y) ** 3))


def _use_huge_pages() -> None:
    """Ask the kernel (Linux >= 6.1) to gather the heap in huge pages: a fork then copies tens of entries, not 10^4."""
    with open("/proc/self/maps") as file:
        regions = [line.split() for line in file]
    for region in regions:
        if region[1] == "rw-p" and (len(region) == 5 or region[5] == "[heap]"):
            start, end = (int(address, 16) for address in region[0].split("-"))
            for address in range(-(-start // HUGE_PAGE) * HUGE_PAGE, end - HUGE_PAGE + 1, HUGE_PAGE):
                libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE_PAGE), MADV_COLLAPSE)


def block_signals(block: bool) -> None:
    """Hold back all signals while standing by, or let them through while a program runs.

    The standard library's call turns the old mask into a set of objects, which costs a hundred times as much.
    """
    libc.pthread_sigmask(signal.SIG_SETMASK, ALL_SIGNALS if block else NO_SIGNALS, None)


def own_descriptors(stdout: int) -> None:
    """Open anew what the standard streams of other programs share: positions, flags and locks are the descriptor's."""
    null = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, null), (1, stdout), (2, null)):
        os.dup2(source, target)
    os.close(null)
    os.close(stdout)


def _serve(control: socket.socket, program: types.ModuleType, timeout: float) -> None:
    """Fork for each pair of descriptors that arrives; the child runs the sources it is sent over the first of them.

    Then it reports, and goes on in this same loop.
    """
    pending, stdout, spent = "", sys.stdout, 0.0
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = select.poll()
    for number in range(most):
        descriptors.register(number, 0)
    while True:
        _, (own, output) = receive(control, 2)
        child = FORK()
        if child < 0:
            raise OSError("fork")
        if child:
            os.close(own)
            os.close(output)
            continue
        control.close()
        control = socket.socket(fileno=own)
        own_descriptors(output)
        os.setsid()
        confinement.limit_cpu(timeout)
        control.send(b"+")
        sources, _ = receive(control)
        start = time.perf_counter()
        block_signals(False)
        for source in sources:
            status, error, pending = _run(program, pending + source)
            if status not in ("ok", "incomplete"):
                break
        with contextlib.suppress(ValueError, OSError):
            stdout.flush()
        block_signals(True)
        seconds = time.perf_counter() - start
        spent += seconds
        # Of a closed descriptor `poll` says so without being asked. A state that will not be kept need not ask.
        events = [event for _, event in descriptors.poll(0)] if spent > WORTH_KEEPING else []
        opened = most - events.count(select.POLLNVAL)
        message = error.encode(errors="replace")
        control.send(f"{status}\n{seconds}\n{opened}\n{len(message)}\n".encode() + message)


def _run(program: types.ModuleType, source: str) -> tuple[str, str, str]:
    """Run a source; return status, error, and the source if it waits for more lines."""
    try:
        code = compile(source, "<program>", "exec", INCOMPLETE_INPUT, True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SyntaxError) and error.msg == "incomplete input":
            return "incomplete", "", source
        return "syntax", _describe(error), ""
    try:
        exec(code, program.__dict__)
    except MemoryError as error:
        return "memory", _describe(error), ""
    except BaseException as error:  # whatever the program raises is its outcome
        return "error", _describe(error), ""
    return "ok", "", ""


def _describe(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:
        message = ""
    name = type(error).__name__[:MAX_ERROR]
    return f"{name}: {message[:MAX_ERROR]}" if message else name
