"""Many programs, half of them hostile, through one sandbox: is any output wrong, does anything grow?

Usage: python benchmarks/hostile_programs.py [--programs 10000] [--level strict]

The hostile ones are the attacks of `harness doctor`, in both interpreters, in random order among harmless programs of
which some are kept as states and continued. It prints every outcome that is wrong, and after each tenth how many were,
how many harmless programs ran out of their 0.2 s (on a busy machine some do), the memory of the sandbox's processes
(each page divided by those who share it), their number, and the open descriptors of the fork server and of this one.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import tempfile
import time
from pathlib import Path

from harness.sandbox import Limits, Sandbox
from harness.sandbox.probe import ATTACKS, INTERPRETERS

SLOW = "import time\ntime.sleep(0.008)\n"


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in below for found in tree(int(child)))]


def memory(pid: int) -> int:
    """Bytes of memory of a process, shared pages in part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10


def programs(number: int, draw: random.Random, outside: str, port: int) -> list[tuple[tuple[str, ...], str | None]]:
    """Programs, each with the output that it must have, or None for a hostile one."""
    found: list[tuple[tuple[str, ...], str | None]] = []
    for i in range(number):
        beginning = draw.choice([*INTERPRETERS.values()])
        if i % 2:
            attack = draw.choice(ATTACKS)
            source = attack.source.format(outside=outside, port=port, parent=os.getpid())
            found.append(((beginning + source, attack.then or "print('next')"), None))
        else:
            first = f"{beginning}{draw.choice(['', SLOW])}x = {i % 40}\n"
            found.append(((first, f"open('f', 'w').write(str(x + {i}))", "print(open('f').read())"), f"{i % 40 + i}\n"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--level", default="strict")
    options = parser.parse_args()
    limits = Limits(timeout=0.2, memory=64 << 20)
    draw, wrong, late, start = random.Random(0), 0, 0, time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as outside,
        socket.create_server(("127.0.0.1", 0)) as listener,
        Sandbox(limits=limits, level=options.level, modules=("math", "numpy")) as sandbox,
    ):
        Path(outside, "secret").write_text("c4n4ry")
        for tenth in range(10):
            work = programs(options.programs // 10, draw, outside, listener.getsockname()[1])
            for (_, expected), outcome in zip(work, sandbox([steps for steps, _ in work]), strict=True):
                late += expected is not None and outcome.status == "timeout"
                other = expected is not None and outcome.output != expected and outcome.status != "timeout"
                if other or "c4n4ry" in outcome.output:
                    wrong += 1
                    print(f"expected {expected!r}: {outcome}", flush=True)
            pids = [pid for server in sandbox.process_ids for pid in tree(server)]
            print(
                f"{(tenth + 1) * len(work):6} programs, {wrong} wrong, {late} harmless ones too late, "
                f"{time.perf_counter() - start:.0f} s: "
                f"{sum(map(memory, pids)) >> 20} MB in {len(pids)} processes, descriptors "
                f"{len(os.listdir(f'/proc/{sandbox.process_ids[0]}/fd'))} and {len(os.listdir('/proc/self/fd'))}",
                flush=True,
            )


if __name__ == "__main__":
    main()
