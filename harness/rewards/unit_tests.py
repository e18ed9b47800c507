"""Unit tests as the judge of generated programs (APPS, arXiv:2105.09938)."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

from harness.errors import InputError
from harness.rewards.checks import MODULES, last_line, run_checks
from harness.sandbox import Limits, Sandbox
from harness.sandbox.sandbox import MAX_SOURCE
from harness.types import Execution, Problem, Response, Score, UnitTest

_FENCE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
OUTPUT_LIMIT = 1 << 20
"""Bytes of output compared; a program that prints more fails."""
TOLERANCE = 1e-6
"""Relative and absolute difference within which two printed numbers agree."""

# The program runs in a scope of its own, so that it cannot see the test, and may end with `sys.exit`.
_HARNESS = """\
import io, json, sys
sys.stdin = io.TextIOWrapper(io.BytesIO({stdin!r}))
_scope = {{"__name__": "__main__"}}
try:
    exec(compile({source!r}, "<solution>", "exec"), _scope)
except SystemExit:
    pass
"""
_CALL = """\
_found = _scope[{name!r}] if {name!r} in _scope else getattr(_scope["Solution"](), {name!r})
print("\\n" + json.dumps(_found(*json.loads({arguments!r}))))
"""


class UnitTests:
    """The share of a problem's unit tests that the program of a response passes, or 1 for all of them and else 0.

    Programs run in `harness.sandbox`, one test after the other; with `all_or_nothing` the first failure ends it. What
    is expected of a program is in no process that runs it: printed output and results are compared outside, assertions
    (`UnitTest.check`) run in a process of their own, which calls the program's functions in another.

    Args:
        all_or_nothing: give nothing for some of the tests.
        timeout: seconds for each test that does not say that it may take more (`UnitTest.seconds`).
        memory: bytes that a program may use.
        workers: programs run at a time; default is the number of processors.
    """

    answer_weight: ClassVar[float | None] = None
    """The tests are the gold."""

    def __init__(
        self, all_or_nothing: bool = True, timeout: float = 4.0, memory: int = 1 << 30, workers: int | None = None
    ) -> None:
        self.all_or_nothing = all_or_nothing
        self.timeout, self.memory = timeout, memory
        self.workers = workers or os.cpu_count() or 1

    def identity(self) -> dict[str, Any]:
        """What the scores depend on; not how many programs run at a time."""
        return {"all_or_nothing": self.all_or_nothing, "timeout": self.timeout, "memory": self.memory}

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        programs = [program_of(response.text) for response in responses]
        results = self.run(problems, programs)
        return [Score(float(all(r) if self.all_or_nothing else sum(r) / len(r)) if r else 0.0) for r in results]

    def run(self, problems: Sequence[Problem], programs: Sequence[str]) -> list[list[bool]]:
        """Which tests each program passes; with `all_or_nothing` up to the first it fails. Empty without a program."""
        passed: dict[tuple[str, str], list[bool]] = {}
        for seconds in {self._seconds(problem) for problem in problems}:
            alike = [pair for pair in zip(problems, programs, strict=True) if self._seconds(pair[0]) == seconds]
            passed |= self._run_within(seconds, alike)
        return [passed[problem.id, program] for problem, program in zip(problems, programs, strict=True)]

    def _seconds(self, problem: Problem) -> float:
        """That each test of a problem may take."""
        return max([self.timeout, *(test.seconds for test in problem.tests)])

    def _run_within(self, seconds: float, pairs: Sequence[tuple[Problem, str]]) -> dict[tuple[str, str], list[bool]]:
        """The same of programs whose tests may take equally long, by problem id and program."""
        sandbox = shared_sandbox(self.workers, seconds, self.memory)
        unique = {(problem.id, program): problem for problem, program in pairs}
        passed: dict[tuple[str, str], list[bool]] = {key: [] for key in unique}
        live = [key for key, problem in unique.items() if key[1].strip() and _tests(problem)]
        for number in range(max((len(unique[key].tests) for key in live), default=0)):
            live = [key for key in live if number < len(unique[key].tests)]
            checks = {key: test.check for key in live if (test := unique[key].tests[number]).check}
            verdicts = run_checks(sandbox, [*checks], [*checks.values()])
            others = {key: unique[key].tests[number] for key in live if key not in checks}
            executions = sandbox([(_program(key, test),) for key, test in others.items()])
            verdicts += [passes(test, execution) for test, execution in zip(others.values(), executions, strict=True)]
            for key, verdict in zip((*checks, *others), verdicts, strict=True):
                passed[key].append(verdict)
            if self.all_or_nothing:
                live = [key for key in live if passed[key][-1]]
        return passed


@cache
def shared_sandbox(workers: int, timeout: float, memory: int) -> Sandbox:
    """One sandbox for all who run tests alike; it ends with the process."""
    limits = Limits(timeout=timeout, memory=memory)
    return Sandbox(workers, limits, modules=MODULES, output_limit=OUTPUT_LIMIT, snapshots=0)


def program_of(text: str) -> str:
    """The last fenced block of Python in a response, or the whole of it if there is none."""
    blocks = _FENCE.findall(text)
    return blocks[-1] if blocks else text


def passes(test: UnitTest, execution: Execution) -> bool:
    """Whether a program's output is what the test wants.

    Printed words are compared in order, whatever blanks stand between them; words that are numbers by value. Results of
    functions are compared as JSON, so that a tuple equals a list.
    """
    if execution.status != "ok":
        return False
    if test.function:
        wanted = json.loads(test.output)
        try:
            return _agree(json.loads(last_line(execution)), wanted)
        except (ValueError, RecursionError):  # a program may print what it likes
            return False
    words, expected = execution.output.split(), test.output.split()
    return len(words) == len(expected) and all(a == b or _close(a, b) for a, b in zip(words, expected, strict=True))


def _agree(found: object, wanted: object) -> bool:
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(_agree(a, b) for a, b in zip(found, wanted, strict=True))
    if isinstance(found, float) or isinstance(wanted, float):
        return _close(str(found), str(wanted))
    return found == wanted


def _close(found: str, wanted: str) -> bool:
    try:
        return math.isclose(float(found), float(wanted), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except ValueError:
        return False


def _tests(problem: Problem) -> tuple[UnitTest, ...]:
    if not problem.tests:
        raise InputError(f"problem '{problem.id}' has no unit tests; give it `tests`, or choose another reward.")
    return problem.tests


def _program(key: tuple[str, str], test: UnitTest) -> str:
    stdin = b"" if test.function else test.input.encode()
    program = _HARNESS.format(stdin=stdin, source=key[1])
    if test.function:
        program += _CALL.format(name=test.function, arguments=test.input)
    if len(program) > MAX_SOURCE and len(test.input) > MAX_SOURCE // 8:
        raise InputError(f"problem '{key[0]}': a test's input has {len(test.input)} characters; leave that test out.")
    return program
