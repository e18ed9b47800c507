from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.sandbox import Limits, Sandbox
from harness.sandbox.forkserver import is_plain
from harness.types import Execution

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(limits=Limits(timeout=5), modules=("math",)) as made:
        yield made


def run(sandbox: Sandbox, *steps: str) -> Execution:
    return sandbox([steps])[0]


def test_output_is_what_python_prints(sandbox):
    source = "print(2**70, 1e-7, 1/3)\nfor i in range(2):\n    print(i, end=';')\nx = 'é'\nprint(x)\nx"
    expected = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True, encoding="utf-8").stdout
    assert run(sandbox, source) == Execution(expected)


def test_long_output_is_cut_in_the_middle_with_a_mark():
    with Sandbox(modules=(), output_limit=20) as small:
        assert (
            run(small, "print('a' * 50 + 'b' * 50)").output == "a" * 10 + "\n[... 81 bytes cut ...]\n" + "b" * 9 + "\n"
        )
        assert run(small, "print('a' * 19)").output == "a" * 19 + "\n"
        assert run(small, "print('a' * 15)", "print('b' * 15)").output == "a" * 10 + "\n[... 12 bytes cut ...]\n" + (
            "b" * 9 + "\n"
        )


def test_a_step_continues_from_the_state_before_it(sandbox):
    steps = ("x = [1]", "x.append(2)\nprint(len(x))", "print(x)")
    assert [run(sandbox, *steps[:k]).output for k in (1, 2, 3)] == ["", "2\n", "2\n[1, 2]\n"]


SLOW = "import time\ntime.sleep(0.01)\nstart = time.monotonic_ns()\n"


def test_slow_steps_do_not_run_again(sandbox):
    first = (SLOW + "print(start)",)
    moment = run(sandbox, *first).output
    assert run(sandbox, *first, "print('next')").output == moment + "next\n"
    assert run(sandbox, *first, "print('other')").output == moment + "other\n"


def test_an_evicted_state_is_made_again():
    with Sandbox(modules=(), snapshots=1) as small:
        first, second = (SLOW + "x = 1",), (SLOW + "x = 2",)
        run(small, *first)
        run(small, *second)
        assert run(small, *first, "print(x)").output == "1\n"


@pytest.mark.parametrize("first", ["x = [1]", SLOW + "x = [1]"])
def test_siblings_never_see_each_others_variables(sandbox, first):
    assert not run(sandbox, first).failed
    assert not run(sandbox, first, "x.append(2)\nhidden = 1\nopen('file', 'w').write('1')").failed
    assert run(sandbox, first, "print(x)").output == "[1]\n"
    assert run(sandbox, first, "print(hidden)").error == "NameError: name 'hidden' is not defined"
    assert run(sandbox, first, "open('file')").error.startswith("FileNotFoundError")


def test_files_of_earlier_steps_are_there(sandbox):
    steps = ("open('file', 'w').write('written')", "print(open('file').read())")
    assert run(sandbox, *steps[:1]).status == "ok"
    assert run(sandbox, *steps).output == "written\n"


@pytest.mark.parametrize(
    ("steps", "outputs"),
    [
        (("for i in range(2):\n", "    print(i)\n"), ["", "0\n1\n"]),
        (("for i in range(2):\n    print(i)\n", "    print(-i)\n"), ["0\n1\n", "0\n0\n1\n-1\n"]),
        (("if 0:\n    print(1)", "else:\n    print(2)"), ["", "2\n"]),
        (("class A:\n    x = 1", "    def f(self): return self.x", "print(A().f())"), ["", "", "1\n"]),
        (("total = (1 +", "2)", "print(total)"), ["", "", "3\n"]),
    ],
)
def test_code_may_be_cut_anywhere_between_its_lines(sandbox, steps, outputs):
    executions = [run(sandbox, *steps[: k + 1]) for k in range(len(steps))]
    assert [execution.output for execution in executions] == outputs
    assert not any(execution.failed for execution in executions)


def test_a_syntax_error_keeps_the_output_of_the_steps_before(sandbox):
    execution = run(sandbox, "print(1)", "x = )")
    assert (execution.output, execution.status) == ("1\n", "error")
    assert execution.error.startswith("SyntaxError: unmatched ')'")


@pytest.mark.parametrize(
    ("source", "error", "status"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero", "error"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded", "error"),
        ("import sys\nsys.exit(3)", "SystemExit: 3", "error"),
        ("import os\nos._exit(0)", "ProcessExit: the program ended its own process", "killed"),
        ("x = bytearray(1 << 40)", "MemoryError", "memory"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "E", "error"),
        ("input()", "EOFError: EOF when reading a line", "error"),
    ],
)
def test_failures_are_told_apart(sandbox, source, error, status):
    execution = run(sandbox, "print('before', flush=True)\n" + source)
    assert execution == Execution("before\n", error, status)


def test_a_word_in_the_output_is_no_failure(sandbox):
    assert not run(sandbox, "print('the relative error is 0.1')").failed


def test_a_program_out_of_time_ends_alone():
    with Sandbox(modules=(), limits=Limits(timeout=0.5), workers=2) as both:
        programs = [("while True: pass",), *((f"print({i})",) for i in range(20))]
        first, *others = both(programs)
    assert (first.status, first.error) == ("timeout", "TimeoutError: a step ran longer than 0.5 s")
    assert others == [Execution(f"{i}\n") for i in range(20)]


def test_random_numbers_do_not_depend_on_where_a_program_was_forked(sandbox):
    source = "import random\nprint(random.random())"
    whole = run(sandbox, SLOW + source)
    run(sandbox, SLOW)
    assert run(sandbox, SLOW, source) == whole == run(sandbox, source)


# ---- two interpreters


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("x = 1\nprint(x)", True),
        ("import math, itertools as it; print(1)", True),
        ("from collections import Counter\nimport os.path  # as usual", True),
        ("from math import (\n    comb,\n)", True),
        ("import numpy as np", False),
        ("import math, sympy", False),
        ("import math, \\\n    sympy", False),
        ("if x:\n    from sympy.solvers import solve", False),
        ("try: import gmpy2\nexcept ImportError: pass", False),
        ("from . import helper", False),
        ("from importlib.util import find_spec\nprint(find_spec('sympy'))", False),
        ("try:\n    np = __import__('numpy')\nexcept ImportError:\n    np = None", False),
        ("from " + "a" * 1_000_000, True),  # at once, though it is no import
    ],
)
def test_programs_that_import_packages_are_told_apart(source, plain):
    assert is_plain(source) == plain


@pytest.fixture(scope="module")
def full():
    with Sandbox(limits=Limits(timeout=5), modules=("math", "numpy")) as made:
        yield made


def test_a_program_runs_where_its_imports_are(full):
    loaded = "import sys\nprint('numpy' in sys.modules)"
    assert run(full, loaded).output == "False\n"
    assert run(full, loaded, "import numpy").output == "True\n"
    assert run(full, "x = 2", "import numpy as np\nprint(np.arange(x))", "print(x)").output == "[0 1]\n2\n"


def test_a_package_that_is_imported_in_disguise_is_found_and_starts_from_the_same_seed(full):
    draw = "numpy.random.seed\nprint(numpy.random.random())"
    disguised = run(full, "print('once')", "exec('imp' + 'ort numpy')", draw)
    assert disguised.output == run(full, "print('once')\nimport numpy", draw).output


def test_a_package_that_is_nowhere_is_an_error(full):
    expected = Execution("", "ModuleNotFoundError: No module named 'nowhere'", "error")
    assert run(full, "import nowhere") == run(full, "__import__('nowhere')") == expected


def test_an_interpreter_holds_no_descriptor_of_the_other(full):
    source = (
        "import os\nopen_ones = []\nfor number in range(64):\n    try:\n        os.fstat(number)\n"
        "        open_ones.append(number)\n    except OSError:\n        pass\nprint(len(open_ones))"
    )
    assert run(full, source).output == run(full, f"import numpy\n{source}").output == "4\n"


def test_no_layer_is_asked_for_that_is_missing(monkeypatch):
    monkeypatch.setattr("harness.sandbox.sandbox._Worker.layers", lambda self: {"landlock": "not in this kernel"})
    with pytest.raises(InputError, match=r"lacks landlock \(not in this kernel\)"):
        Sandbox(modules=(), level="strict")


def test_nothing_is_left_when_the_harness_is_killed():
    code = (
        "import subprocess, sys, time\nfrom harness.sandbox import Sandbox\n"
        "s = Sandbox(modules=())\ns.submit('a', ('while True: pass',))\n"
        "print(s._workers[0].process.pid, flush=True)\ntime.sleep(60)"
    )
    harness = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    server = int(harness.stdout.readline())
    time.sleep(0.2)
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    for _ in range(400):  # it notices at the latest when the program's own time is up
        if not os.path.exists(f"/proc/{server}") or Path(f"/proc/{server}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the fork server outlived the harness")
