"""What hostile programs do to each other, and what many programs leave behind."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.sandbox import Limits, Sandbox
from harness.sandbox.probe import ATTACKS, HARMLESS, report
from harness.sandbox.snapshot import report as read_report
from harness.sandbox.wire import Closed
from harness.types import Execution
from tests.sandbox.test_sandbox import SLOW, run

MB = 1 << 20
PLAIN, FULL = "", "import numpy\n"


@pytest.mark.parametrize("level", ["strict", "standard"])
def test_all_attacks_are_withstood_at_both_levels(level):
    try:
        rows = report(level, timeout=1.0)
    except InputError:
        pytest.skip("this machine lacks a layer of isolation")
    layers = [attack for attack, held, _ in rows if attack.startswith("layer:") and not held]
    failed = [(attack, detail) for attack, held, detail in rows if not held and not attack.startswith("layer:")]
    assert len(rows) > len(ATTACKS)
    if not layers:  # a machine without a layer may not hold all
        assert not failed


@pytest.fixture(scope="module", params=["strict", "standard"])
def sandbox(request):
    try:
        made = Sandbox(limits=Limits(timeout=2, memory=256 * MB), modules=("math", "numpy"), level=request.param)
    except InputError:
        pytest.skip("this machine lacks a layer of isolation")
    with made:
        yield made


@pytest.mark.parametrize("beginning", [PLAIN, FULL])
@pytest.mark.parametrize(
    ("first", "change", "look", "expected"),
    [
        ("import mmap\nm = mmap.mmap(-1, 16)", "m[0] = 65", "print(m[0])", "0\n"),
        ("f = open('/dev/zero', 'rb', 0)", "f.seek(7)", "print(f.tell())", "0\n"),
        ("import os, os.path\nf = open(os.path.__file__)", "f.readline()", "print(f.tell())", "0\n"),
        ("import tempfile\nf = tempfile.TemporaryFile(dir='.')", "f.write(b'1')\nf.flush()", "print(f.seek(0, 2))",
         "0\n"),
        ("import fcntl", "fcntl.flock(0, 6)\nfcntl.lockf(2, 6)", "fcntl.flock(0, 6)\nfcntl.lockf(2, 6)\nprint(0)",
         "0\n"),
        ("import fcntl", "fcntl.fcntl(0, 4, 2048)", "print(fcntl.fcntl(0, 3) & 2048)", "0\n"),
        ("import os\nos.close(0)\nos.close(2)", "open('/dev/null')", "print(os.open('/dev/null', 0))", "0\n"),
        ("import os\nos.close(1)", "pass", "os.write(1, b'x')", ""),
    ],
)  # fmt: skip
def test_siblings_share_nothing_of_the_kernel_either(sandbox, beginning, first, change, look, expected):
    first = beginning + SLOW + first
    run(sandbox, first)
    run(sandbox, first, change)
    assert run(sandbox, first, look).output == expected


@pytest.mark.parametrize("beginning", [PLAIN, FULL])
def test_a_kept_state_is_no_danger_to_what_runs_next(sandbox, beginning):
    """Every attack leaves its state behind, or not; then programs of others run, and the states are continued."""
    for attack in ATTACKS[-6:]:
        run(sandbox, beginning + attack.source)
        for _ in range(3):
            assert run(sandbox, beginning + HARMLESS[0], HARMLESS[1]).output == "21 True\n", attack.name
        run(sandbox, beginning + attack.source, attack.then or "print(2)")
        for i in range(5):
            assert run(sandbox, f"{beginning}print({i})") == Execution(f"{i}\n"), attack.name


@pytest.mark.parametrize(
    "data",
    [b"", b"ok", b"ok\n1.0\n4\n0\nmore", b"ok\n1.0\n4\n0\nok\n1.0\n4\n0\n", b"fine\n1.0\n4\n0\n",
     b"ok\nnan\n4\n0\n", b"ok\n1.0\n-1\n0\n", b"ok\n1.0\n4\n00\n", b"ok\n1" + b"0" * 400 + b".0\n4\n0\n",
     b"\xff\xfe\n1.0\n4\n0\n"],
)  # fmt: skip
def test_a_report_is_whole_or_none(data):
    with pytest.raises(Closed):
        read_report(data)
    assert read_report(b"error\n0.5e-05\n4\n5\na\nb\nc".replace(b"0.5", b"1.5"))["error"] == "a\nb\nc"


# ---- memory, descriptors, processes


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        below = children.read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in below for found in tree(int(child)))]


def resident(pid: int) -> int:
    """Bytes of memory of a process, each page divided by those who share it where the kernel tells."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10


def held(made: Sandbox) -> int:
    return sum(resident(pid) for server in made.process_ids for pid in tree(server))


def test_kept_states_hold_no_more_than_their_budget():
    with Sandbox(limits=Limits(timeout=5, memory=80 * MB), modules=(), snapshot_memory=150 * MB) as small:
        run(small, "print(1)")
        before = held(small)
        for i in range(12):
            assert not run(small, f"b = b'{i % 10}' * (60 << 20)\n" + SLOW).failed
        assert held(small) - before < 200 * MB
        assert len(tree(small.process_ids[0])) <= 4 + 2
        # A state that is larger than the budget is never kept, and yet continued.
    with Sandbox(limits=Limits(timeout=5, memory=80 * MB), modules=(), snapshot_memory=10 * MB) as smaller:
        steps = (SLOW + "b = b'1' * (40 << 20)", "print(len(b))")
        assert run(smaller, *steps[:1]).status == "ok"
        assert run(smaller, *steps).output == f"{40 << 20}\n"
        assert len(tree(smaller.process_ids[0])) == 4


def test_long_sources_are_not_kept():
    with Sandbox(modules=(), snapshots=4) as small:
        run(small, "print(1)")
        own, server = resident(os.getpid()), held(small)
        for i in range(60):
            assert run(small, f"print({i})\n#" + "x" * 900_000).output == f"{i}\n"
        assert resident(os.getpid()) - own < 25 * MB
        assert held(small) - server < 25 * MB


def test_more_descriptors_than_select_knows_are_no_matter():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("this machine allows few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        with Sandbox(modules=()) as made:
            assert run(made, "print(1)").output == "1\n"
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_programs_of_all_kinds_leave_nothing_behind_and_no_output_is_wrong():
    """Half hostile, half harmless, in random order; `benchmarks/hostile_programs.py` runs 10,000 of them."""
    draw = random.Random(0)
    listener = socket.create_server(("127.0.0.1", 0))
    hostile = [
        (
            attack.source.format(outside="/tmp", port=listener.getsockname()[1], parent=os.getpid()),
            attack.then or "pass",
        )
        for attack in ATTACKS
    ]
    with listener, Sandbox(limits=Limits(timeout=0.2, memory=64 * MB), modules=("math",)) as made:
        sizes = []
        for _ in range(2):
            programs, expected = [], []
            for i in range(100):
                steps = draw.choice(hostile) if i % 2 else (f"x = {i}\n" + (SLOW if i % 4 else ""), "print(x)")
                programs.append(steps)
                expected.append(None if i % 2 else f"{i}\n")
            outcomes = [outcome.output for outcome in made(programs)]
            assert [a for a, b in zip(outcomes, expected, strict=True) if b is not None] == list(filter(None, expected))
            server = made.process_ids[0]
            descriptors = len(os.listdir(f"/proc/{server}/fd")), len(os.listdir("/proc/self/fd"))
            sizes.append((held(made), len(tree(server)), *descriptors))
    assert sizes[1][1] <= 4 + 32  # at most so many states stand by, each with a channel and a handle
    assert sizes[1][2] <= 2 * 32 + 14
    assert sizes[1][3] == sizes[0][3]


# ---- lost fork servers


def test_programs_of_a_fork_server_that_is_killed_run_again(caplog):
    with Sandbox(modules=(), workers=2) as both:
        for i in range(6):
            both.submit(str(i), (f"import time\ntime.sleep(0.1)\nprint({i})",))
        lost = both.process_ids[0]
        os.kill(lost, signal.SIGKILL)
        found = {}
        while len(found) < 6:
            found.update(both.poll())
        assert found == {str(i): Execution(f"{i}\n") for i in range(6)}
        assert lost not in both.process_ids
        os.kill(both.process_ids[1], signal.SIGKILL)  # while it waits for work
        time.sleep(0.1)
        assert [e.output for e in both([(f"print({i})",) for i in range(8)])] == [f"{i}\n" for i in range(8)]
    assert f"fork server {lost} ended" in caplog.text


def test_a_program_under_which_every_fork_server_ends_is_given_up():
    with Sandbox(modules=()) as made:
        made.submit("bad", ("import time\ntime.sleep(4)",))
        made.submit("good", ("print(1)",))
        found = {}
        while "bad" not in found:
            os.kill(made.process_ids[0], signal.SIGKILL)
            found.update(made.poll())
        assert found["bad"].status == "killed"
        assert found["bad"].error.startswith("ForkServerLost: the sandbox's process ended 3 times")
        while "good" not in found:
            found.update(made.poll())
        assert found["good"] == Execution("1\n")


def test_a_mark_of_the_byte_order_is_no_error():
    with Sandbox(modules=()) as made:
        assert run(made, "\ufeffprint(1)") == Execution("1\n")
