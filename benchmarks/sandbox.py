"""Short executions per second of the sandbox, against a fresh interpreter for each.

Usage: python benchmarks/sandbox.py [--trees 20] [--fresh 10]

The programs are those of a search: trees of five steps, four siblings at each, all layers of isolation on, one worker.
"Slow steps" take 20 ms each, so their snapshots save what running all earlier steps again would cost. Wall time means
little on a machine that others use, so the CPU time of all processes is given too where cgroups count it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.sandbox import Sandbox

COUNTER = Path("/sys/fs/cgroup/cpuacct/harness-benchmark")
SHORT = ("import math", "a = 5", "b = a * 2", "c = math.comb(b, 3)", "print(c)")
PACKAGES = ("import math, sympy", *SHORT[1:])
SLOW = tuple(f"start = time.monotonic()\nwhile time.monotonic() < start + 0.02: pass\nv{i} = {i}" for i in range(5))


def programs(steps: tuple[str, ...], trees: int) -> list[tuple[str, ...]]:
    """Four siblings at each of the steps of each tree; the first of them is continued."""
    found = []
    for tree in range(trees):
        prefix: tuple[str, ...] = (f"import time\ntree = {tree}",)
        for step in steps:
            found += [(*prefix, f"{step}\nsibling = {sibling}") for sibling in range(4)]
            prefix = found[-4]
    return found


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Count this process and its children in a cgroup of their own, where that can be made."""
    try:
        COUNTER.mkdir(exist_ok=True)
        (COUNTER / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        (COUNTER.parent / "cgroup.procs").write_text(str(os.getpid()))


def cpu_seconds() -> float:
    with contextlib.suppress(OSError):
        return int((COUNTER / "cpuacct.usage").read_text()) / 1e9
    return float("nan")


def report(name: str, count: int, seconds: float, cpu: float) -> None:
    rate, cost = count / seconds, 1000 * cpu / count
    print(
        f"{name:46} {rate:8.1f} /s by the clock {cost:8.2f} ms of CPU each = {1000 / cost:7.1f} /s on a core of its own"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=10)
    options = parser.parse_args()
    with counted():
        for snapshots in (32, 0):
            with Sandbox(snapshots=snapshots) as sandbox:
                missing = [layer for layer, why in sandbox.layers.items() if why]
                sandbox([("print(1)",), ("import sympy",)])
                for name, steps, trees in (
                    ("short steps", SHORT, options.trees),
                    ("short steps, sympy imported", PACKAGES, options.trees),
                    ("slow steps", SLOW, options.trees // 4),
                ):
                    work = programs(steps, trees)
                    start, cpu = time.perf_counter(), cpu_seconds()
                    outcomes = sandbox(work)
                    assert not any(outcome.failed for outcome in outcomes)
                    label = f"{name}, {'snapshots' if snapshots else 'no snapshots'}"
                    report(label, len(work), time.perf_counter() - start, cpu_seconds() - cpu)
        for imports in ("", "import math, sympy, numpy\n"):
            start, cpu = time.perf_counter(), cpu_seconds()
            for _ in range(options.fresh):
                subprocess.run(
                    [sys.executable, "-I", "-c", imports + "print(1)"], check=True, stdout=subprocess.DEVNULL
                )
            label = "fresh interpreter" + (", modules imported" if imports else "")
            report(label, options.fresh, time.perf_counter() - start, cpu_seconds() - cpu)
    print(f"layers missing: {missing or 'none'}")


if __name__ == "__main__":
    main()
