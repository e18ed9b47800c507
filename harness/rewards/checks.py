"""Assertions about what a program defines, judged in a process that the program cannot reach (see `across`)."""

from __future__ import annotations

import base64
import json
import marshal
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.sandbox import Sandbox
from harness.types import Execution

_PATH = Path(__file__).with_name("across.py")
_CODE = zlib.compress(marshal.dumps(compile(_PATH.read_text("utf-8"), _PATH.name, "exec")))
ACROSS = (
    f"import base64, marshal, zlib; exec(marshal.loads(zlib.decompress(base64.b64decode({base64.b64encode(_CODE)!r}))))"
)
"""The definitions of `across` as a program's first line, compiled already, for that takes longer than most programs."""
MODULES = ("ast", "base64", "contextlib", "decimal", "importlib", "json", "marshal", "math", "zlib")
"""Modules that a sandbox for checks imports beforehand."""
ROUNDS = 16
"""Times that assertions may ask for results; one suffices unless what they ask depends on results by more than passing
them on."""


def run_checks(sandbox: Sandbox, programs: Sequence[tuple[str, str]], checks: Sequence[str]) -> list[bool]:
    """Whether the assertions of `checks[i]` hold for what `programs[i]` (its problem's id, its source) defines.

    The operations a check asks for are guessed first, without any program, and performed by each program in one run;
    with their results the check runs again, and either ends or asks for more. Raises `InputError` for a check that
    fails before it has asked anything, or passes on what no other process can be given, such as a function.
    """
    unique = {check: problem for (problem, _), check in zip(programs, checks, strict=True)}
    guessed = {}
    for (check, problem), execution in zip(
        unique.items(), _judge(sandbox, [(c, [], "[]") for c in unique]), strict=True
    ):
        if execution.failed:
            raise InputError(f"problem '{problem}': its assertions fail by themselves ({execution.error}); mend them.")
        guessed[check] = json.loads(last_line(execution)) or []
    passed = [False] * len(programs)
    asked = {number: guessed[check] for number, check in enumerate(checks)}
    for _ in range(ROUNDS):
        if not asked:
            break
        performing = [_call("perform", programs[number][1], operations) for number, operations in asked.items()]
        performed = zip(asked, sandbox(performing), strict=True)
        results = {number: last_line(execution) for number, execution in performed if not execution.failed}
        judged = _judge(sandbox, [(checks[number], asked[number], result) for number, result in results.items()])
        asked = {}
        for number, execution in zip(results, judged, strict=True):
            more = False if execution.failed else json.loads(last_line(execution))
            passed[number] = more is None
            if more:
                asked[number] = more
    return passed


def last_line(execution: Execution) -> str:
    """What a program printed last; what it prints by itself comes before."""
    return execution.output.rstrip("\n").rpartition("\n")[2]


def _judge(sandbox: Sandbox, cases: Sequence[tuple[str, list[Any], str]]) -> list[Execution]:
    """Run checks, each with operations and their results; what they print last is null or what they ask."""
    return sandbox([_call("judge", *case) for case in cases])


def _call(function: str, *arguments: object) -> tuple[str, ...]:
    return (f"{ACROSS}\n{function}({', '.join(map(repr, arguments))})\n",)
