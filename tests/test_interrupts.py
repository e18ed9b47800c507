"""Ctrl-C ends a process that a library keeps busy, in which the interrupt was lost, or which has begun to end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from harness.interrupts import INTERRUPTED
from tests.paths import ROOT

BUSY = """
try:
    begun()  # an interrupt before the work leads to the same as one in its midst
finally:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # an hour in C
"""
LOST = """
class Lost:
    def __del__(self):
        begun()
        time.sleep(600)
Lost()
time.sleep(600)
"""
HANDLED = """
try:
    begun()
    time.sleep(600)
finally:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen_on()
    print("unwinding", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("code", [BUSY, LOST], ids=["busy", "lost"])
def test_an_interrupt_that_does_not_arrive_ends_the_process_after_a_while(code):
    process = started(code)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (INTERRUPTED, "error: interrupted.\n")


def test_a_second_interrupt_ends_the_process_at_once():
    process = started(f"import harness.interrupts\nharness.interrupts.GRACE = 600\n{HANDLED}")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "unwinding\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (INTERRUPTED, "error: interrupted.\n")


def test_interrupts_of_a_process_that_ignores_them_stay_ignored():
    code = "begun()\nsys.stdin.read()\nprint('ended by itself')"
    process = started(code, "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate("", timeout=120)
    assert (process.returncode, printed) == (0, "ended by itself\n")


def started(code: str, before: str = "") -> subprocess.Popen[str]:
    """A process that ends by interrupts and has begun to run the code."""
    head = (
        "import hashlib, signal, sys, time\nfrom harness.interrupts import end_by_interrupts, listen_on\n"
        f"{before}\nend_by_interrupts()\ndef begun(): print('begun', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", head + code],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Shells start background jobs with SIGINT ignored, and it would stay so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process
