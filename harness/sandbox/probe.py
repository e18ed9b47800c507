"""Attacks on the sandbox of this machine: does it hold?"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.sandbox.limits import Limits
from harness.sandbox.sandbox import Sandbox
from harness.types import Execution

CANARY = "HARNESS_PROBE_CANARY"
INTERPRETERS = {"plain": "", "full": "import numpy\n"}
"""What a program begins with to run in each of a sandbox's two interpreters."""


@dataclass(frozen=True)
class Attack:
    """A hostile program, and what shows that it failed."""

    name: str
    source: str
    """`{outside}` is a directory outside the sandbox that holds a file `secret`, `{port}` a listening port,
    `{parent}` the harness's process."""
    held: Callable[[Execution, Path], bool]
    """Whether the sandbox withstood, from the outcome and the directory outside."""
    then: str = ""
    """A second step, which runs in a fork of the process that ran the first."""


def _failed(execution: Execution, outside: Path) -> bool:
    return execution.failed


def _no_secret(execution: Execution, outside: Path) -> bool:
    return "c4n4ry" not in execution.output + execution.error


def _nothing_written(execution: Execution, outside: Path) -> bool:
    return sorted(path.name for path in outside.iterdir()) == ["secret"]


def _no_children(execution: Execution, outside: Path) -> bool:
    return "forked 0" in execution.output


def _whatever(execution: Execution, outside: Path) -> bool:
    """What counts is what the programs after it print."""
    return True


_FORGED = (
    "import os, socket, sys\nframe = sys._getframe()\nwhile 'control' not in frame.f_locals:\n"
    "    frame = frame.f_back\ncontrol = frame.f_locals['control']\ncontrol.send(b'ok\n1.0\n4\n0\n')\n"
)
"""Says that the program has ended well, before it has."""
_SPOIL = "[open(name, 'w').write('FORGED') for name in os.listdir('.')]"

ATTACKS = (
    Attack("read a file outside", "print(open('{outside}/secret').read())", _no_secret),
    Attack("list the root directory", "import os; print(os.listdir('/'))", _failed),
    Attack("write a file outside", "open('{outside}/written', 'w').write('x')", _nothing_written),
    Attack(
        "leave by a symbolic link",
        "import os\nos.symlink('{outside}', 'door')\nopen('door/written', 'w').write('x')",
        _nothing_written,
    ),
    Attack(
        "open a socket",
        "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nprint('connected')",
        _failed,
    ),
    Attack(
        "fork without end",
        "import os\ncount = 0\ntry:\n    while count < 200:\n        if os.fork() == 0:\n"
        "            import time; time.sleep(60)\n        count += 1\nexcept OSError:\n    pass\n"
        "print('forked', count)",
        _no_children,
    ),
    Attack("start a program", "import subprocess\nprint(subprocess.run(['/bin/sh', '-c', 'echo ran']))", _failed),
    Attack(
        "allocate without end",
        "kept = []\nwhile True:\n    kept.append(bytearray(1 << 24))",
        lambda execution, outside: execution.status in ("memory", "timeout"),
    ),
    Attack("loop", "while True:\n    pass", lambda execution, outside: execution.status == "timeout"),
    Attack(
        "swallow every exception",
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        lambda execution, outside: execution.status == "timeout",
    ),
    Attack(
        "ignore all signals",
        "import signal, time\nfor number in signal.valid_signals():\n    try:\n"
        "        signal.signal(number, signal.SIG_IGN)\n    except OSError:\n        pass\ntime.sleep(600)",
        lambda execution, outside: execution.status == "timeout",
    ),
    Attack(
        "flood stdout",
        "while True:\n    print('x' * 65536)",
        lambda execution, outside: execution.status == "timeout" and len(execution.output) < 4096,
    ),
    Attack("fill the disk", "file = open('big', 'wb')\nwhile True:\n    file.write(bytes(1 << 20))", _failed),
    Attack("sys.exit", "import sys\nsys.exit(0)", _failed),
    Attack("os._exit", "import os\nos._exit(0)", _failed),
    Attack("crash the interpreter", "import ctypes\nctypes.string_at(0)", _failed),
    Attack(
        "kill its parent",
        "import os\nfor pid in (os.getppid(), {parent}, 1, -1):\n    try:\n        os.kill(pid, 9)\n"
        "        print('killed', pid)\n    except OSError:\n        pass\nraise SystemExit",
        lambda execution, outside: "killed" not in execution.output and execution.status == "error",
    ),
    Attack(
        "read the environment",
        "import os\nprint(dict(os.environ))\nfor pid in ('self', os.getppid(), {parent}):\n    try:\n"
        "        print(open(f'/proc/{{pid}}/environ').read())\n    except OSError:\n        pass",
        _no_secret,
    ),
    Attack(
        "forge its report",
        "import os\nbody = b'ok\\nnan\\n'\n"
        "for number in range(3, 64):\n    try:\n        os.write(number, body)\n"
        "    except OSError:\n        pass\nwhile True:\n    pass",
        _failed,
    ),
    Attack("forge a success", _FORGED + "raise ValueError", _failed),
    Attack("print into other programs", _FORGED + "while True:\n    os.write(1, b'FORGED')", _whatever),
    Attack("change the files of other programs", f"{_FORGED}while True:\n    {_SPOIL}", _whatever),
    Attack(
        "fork a process that nobody knows",
        f"{_FORGED}_, (own, out), *_ = socket.recv_fds(control, 65536, 2)\nown = socket.socket(fileno=own)\n"
        "own.send(b'+')\nif os.fork():\n    own.send(b'ok\\n1.0\\n4\\n0\\n')\n"
        f"while True:\n    try:\n        os.write(out, b'FORGED')\n        os.write(1, b'FORGED')\n"
        f"    except OSError:\n        pass\n    {_SPOIL}",
        _whatever,
        then="print(1)",
    ),
    Attack(
        "have signals sent to other processes",
        "import fcntl, os\nreading, writing = os.pipe()\nfor command in (8, 10, 15):\n    try:\n"
        "        fcntl.fcntl(reading, command, 1)\n        print('set')\n    except OSError:\n        pass",
        lambda execution, outside: "set" not in execution.output,
    ),
    Attack(
        "fill the scratch directory for others",
        "import os, time\nfile = open('big', 'wb')\nos.unlink('big')\nfile.write(bytes(15 << 20))\nfile.flush()\n"
        "time.sleep(0.01)",
        _whatever,
    ),
)

HARMLESS = (
    "x = 20\nwith open('mine', 'wb') as file:\n    file.write(b'21' * (1 << 20))\nimport time\ntime.sleep(0.003)",
    "with open('mine', 'rb') as file:\n    print(x + 1, file.read() == b'21' * (1 << 20))",
)
"""A program that fails where another prints, writes or fills the disk beside it; it prints "21 True"."""


def report(level: str = "standard", timeout: float = 2.0) -> list[tuple[str, bool, str]]:
    """Attack a sandbox made for the purpose; return (attack, whether it was withstood, detail) for each.

    Each is tried in both interpreters; the detail is that of the last, or of the first that gave in. After every attack
    a harmless program must still give the right result, or the attack counts as not withstood.
    The layers of isolation come first, as (layer, whether it is in place, why not).
    """
    os.environ[CANARY] = "c4n4ry"
    limits = replace(Limits(), timeout=timeout, memory=61 << 20)
    rows: list[tuple[str, bool, str]] = []
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        with tempfile.TemporaryDirectory() as name, Sandbox(limits=limits, level=level) as sandbox:  # type: ignore[arg-type]
            outside = Path(name)
            (outside / "secret").write_text("c4n4ry")
            rows += [(f"layer: {layer}", not why, why or "in place") for layer, why in sandbox.layers.items()]
            for attack in ATTACKS:
                source = attack.source.format(outside=outside, port=listener.getsockname()[1], parent=os.getpid())
                for kind, beginning in INTERPRETERS.items():
                    start = time.monotonic()
                    [execution] = sandbox([(beginning + source, attack.then) if attack.then else (beginning + source,)])
                    after = sandbox([(beginning + HARMLESS[0], HARMLESS[1]), *[(f"{beginning}print(21, True)",)] * 8])
                    held = attack.held(execution, outside) and {each.output for each in after} == {"21 True\n"}
                    outcome = execution.error or execution.status
                    detail = f"{outcome[:90]} after {time.monotonic() - start:.1f} s"
                    (outside / "written").unlink(missing_ok=True)
                    if not held:
                        others = ", ".join(
                            f"{each.output!r} {each.error}" for each in after if each.output != "21 True\n"
                        )
                        detail = (
                            f"in the {kind} interpreter: {detail}{'; then others: ' if others else ''}{others[:200]}"
                        )
                        break
                rows.append((attack.name, held, detail))
    finally:
        listener.close()
        del os.environ[CANARY]
    rows.append(("leave a process behind", _gone(sandbox.process_ids), "after closing"))
    return rows


def _gone(pids: list[int]) -> bool:
    """Whether no process of the fork servers' sessions is left, after giving them some seconds to end."""
    deadline = time.monotonic() + 5
    while True:
        left = 0
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                _, group, session = map(int, entry.read_text().rpartition(")")[2].split()[1:4])
            except (OSError, ValueError):  # it ended while we looked
                continue
            left += session in pids or group in pids
        if not left:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
