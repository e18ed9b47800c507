import gzip
import json

import pytest

from harness.errors import InputError
from harness.evals.rows import load_task
from harness.evals.task import shipped_tasks
from harness.evals.unit_tests import unit_tests
from harness.rewards import UnitTests
from harness.rewards.unit_tests import passes, program_of
from harness.rollouts.verdicts import grade_pairs
from harness.types import Execution, Problem, Response, UnitTest
from tests.paths import DATA_DIR

DOUBLE = Problem("double", "Print twice the number.", tests=(UnitTest("2\n", "4\n"), UnitTest("5", "10")))
PAIRS = Problem("pairs", "?", tests=(UnitTest("[[3, 1], 2]", "[[1, 1], [3, 2]]", "zipped"),))


def scores(problem, *texts, **options):
    responses = [Response((text,), "stop") for text in texts]
    found = UnitTests(timeout=2.0, workers=1, **options)([problem] * len(texts), responses, [False] * len(texts))
    return [score.value for score in found]


def test_a_program_must_pass_every_test():
    right, half, wrong = "print(int(input()) * 2)", "input(); print(4)", "print(0)"
    assert scores(DOUBLE, right, half, wrong) == [1, 0, 0]
    assert scores(DOUBLE, right, half, wrong, all_or_nothing=False) == [1, 0.5, 0]


@pytest.mark.parametrize(
    "program",
    [
        "import sys\nprint(2 * int(sys.stdin.readline()))\nsys.exit(0)",
        "import sys\nprint(2 * int(sys.stdin.buffer.read()))",
        "def main():\n    print(2 * int(input()))\nif __name__ == '__main__':\n    main()",
        "Here it is:\n```python\nprint(2 * int(input()))\n```\nDone.",
    ],
)
def test_the_usual_ways_to_read_and_to_end_work(program):
    assert scores(DOUBLE, program) == [1]


@pytest.mark.parametrize("program", ["while True: pass", "print(", "raise ValueError", "", "print('4 10')"])
def test_programs_that_fail_earn_nothing_and_stop_no_other(program):
    assert scores(DOUBLE, program, "print(int(input()) * 2)") == [0, 1]


def test_functions_and_methods_are_called_with_their_arguments():
    function = "def zipped(a, b):\n    return [(x, i + 1) for i, x in enumerate(sorted(a))]"
    method = "class Solution:\n    def zipped(self, a, b):\n        return [[1, 1], [3, b]]"
    assert scores(PAIRS, function, method, "def zipped(a, b):\n    return [[1, 1]]", "print(1)") == [1, 1, 0, 0]


def test_numbers_are_compared_by_value_and_blanks_do_not_count():
    assert passes(UnitTest("", "0.5 1\nyes\n"), Execution("0.50000001  1.0 yes"))
    assert not passes(UnitTest("", "0.5 1\nyes\n"), Execution("0.5 1 no"))
    assert not passes(UnitTest("", "1"), Execution("1", "MemoryError", "memory"))


def test_a_function_that_spoils_the_output_fails():
    spoiled = (
        "import atexit, os\ndef zipped(a, b):\n    os.write(1, b'[[[')\n    os.close(1)\n    return [[1, 1], [3, 2]]"
    )
    assert scores(PAIRS, spoiled) == [0]
    assert not passes(PAIRS.tests[0], Execution("[" * 10**5))


def test_the_last_block_of_code_is_the_program():
    assert program_of("```\nfirst\n```\nbetter:\n```python\nsecond\n```") == "second\n"
    assert program_of("```python\nnever closed\n") == "never closed\n"


def test_tests_take_the_place_of_the_grader():
    sums = Problem("sum", "1 + 1", "2")
    verdicts = grade_pairs(
        [(DOUBLE, "print(2 * int(input()))"), (sums, "#### 2"), (DOUBLE, "print(4)"), (DOUBLE, "")], "gsm8k", "strict"
    )
    assert [(v.correct, v.status) for v in verdicts] == [
        (True, "ok"), (True, "ok"), (False, "ok"), (False, "no_answer"),
    ]  # fmt: skip


def test_a_problem_without_tests_is_named():
    with pytest.raises(InputError, match="problem 'p' has no unit tests"):
        scores(Problem("p", "q"), "print(1)")


# ---- assertions

DOUBLED = "assert double(3) == 6\nassert double(-1) == -2\n"
RIGHT = "def double(x):\n    return 2 * x\n"
CHEATS = {
    "no exec": "import builtins\nbuiltins.exec = lambda *a: None\ndef double(x): return 0",
    "no compile": "import builtins\nbuiltins.compile = lambda *a, **k: (lambda: 0).__code__\ndef double(x): return 0",
    "exec of the frame": "import sys\nsys._getframe(1).f_globals['exec'] = lambda *a: None\ndef double(x): return 0",
    "constants of the frame": "import sys\nframe = sys._getframe()\nwhile frame:\n"
    "    for text in frame.f_code.co_consts:\n        print(text)\n    frame = frame.f_back\nraise SystemExit",
    "constants, when called": "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for text in frame.f_code.co_consts:\n            print(text)\n        frame = frame.f_back\n    return 0",
    "frames' locals": "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for value in list(frame.f_locals.values()):\n            if value == 6: return value\n"
    "        frame = frame.f_back\n    return 0",
    "all objects": "import gc\ndef double(x):\n    for o in gc.get_objects():\n"
    "        if isinstance(o, str) and 'assert' in o:\n            print(o)\n    return 0",
    "always equal": "class Yes:\n    def __eq__(self, other): return True\ndef double(x): return Yes()",
    "a number always equal": "class Yes(int):\n    def __eq__(self, other): return True\ndef double(x): return Yes()",
    "null last": "import builtins\nshow = print\nbuiltins.print = lambda *a: show('\\nnull')\ndef double(x): return 0",
    "null and out": "import os\nprint('null', flush=True)\nos._exit(0)",
    "other JSON": "import json\njson.dumps = lambda *a, **k: 'null'\ndef double(x): return 0",
    "no assertions": "import builtins\nbuiltins.AssertionError = SystemExit\ndef double(x): return 0",
    "raise what passes": "def double(x):\n    raise SystemExit(0)",
    "a guess": "class Guess:\n    pass\ndef double(x): return Guess()",
    "a forged report": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'ok\\n1.0\\n0\\n')\n"
    "    except OSError: pass\ndef double(x): return 0",
}


def checked(check, *programs):
    return scores(Problem("checked", "?", tests=(UnitTest(check=check),)), *programs)


def test_no_program_passes_assertions_but_a_right_one():
    found = dict(zip(("right", *CHEATS), checked(DOUBLED, RIGHT, *CHEATS.values()), strict=True))
    assert [name for name, score in found.items() if score] == ["right"]


@pytest.mark.parametrize(
    ("check", "program"),
    [
        ("assert abs(half(3) - 1.5) < 1e-6", "abs = lambda x: 0\ndef half(x): return 7"),
        ("assert math.fabs(half(3) - 1.5) < 1e-6", "class math:\n    fabs = lambda x: 0\ndef half(x): return 7"),
        ("assert len(items()) == 2", "len = lambda x: 2\ndef items(): return []"),
        ("assert all(f(i) == i for i in range(3))", "def range(n): return []\ndef f(i): return 7"),
    ],
)
def test_a_program_cannot_take_the_place_of_python_s_own_names(check, program):
    assert checked(check, program) == [0]


@pytest.mark.parametrize(
    ("check", "program"),
    [
        (DOUBLED, RIGHT),
        ("def check(f):\n    assert f([3, 1]) == [1, 3]\n    assert f(()) == []\ncheck(ordered)", "ordered = sorted"),
        ("x = [3, 1]\nsort(x)\nassert x == [1, 3]", "def sort(x): x.sort()"),
        ("x = {3, 1}\ngrow(x)\nassert x == {1, 2, 3}", "def grow(x): x.add(2)"),
        ("try:\n    f(0)\n    assert False\nexcept ZeroDivisionError:\n    pass", "def f(x): return 1 / x"),
        ("assert longest([Pair(1, 2), Pair(3, 9)]) == 6",
         "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
         "def longest(pairs): return max(p.b - p.a for p in pairs)"),
        ("root = Node(1)\nroot.left = Node(2)\nassert total(root) == 3\nassert root.left.value == 2",
         "class Node:\n    def __init__(self, value): self.value, self.left = value, None\n"
         "def total(node): return node.value + total(node.left) if node else 0"),
        ("for i in range(100):\n    assert decode(encode(i)) == i",
         "def encode(x): return x + 1\ndef decode(x): return x - 1"),
        ("x = first()\nif x > 2:\n    x = second(x + 1)\nassert x == 10",
         "def first(): return 4\ndef second(x): return 2 * x"),
        ("assert list(count(3)) == [0, 1, 2]", "def count(n): yield from range(n)"),
        ("assert f() == {'a': (1, 2.5, None, True), (1,): b'x'} and type(f()['a']) is tuple",
         "def f(): return {'a': (1, 2.5, None, True), (1,): b'x'}"),
        ("assert f(2) == 2 ** 20000", "def f(x): return x ** 20000"),
        ("assert f() == 1 + 2j and math.isnan(g())", "def f(): return 1 + 2j\ndef g(): return float('nan')"),
        ("assert sum(2, 3) == 5", "def sum(a, b): return a + b"),
        ("assert counter() == 1\nassert counter() == 2",
         "n = 0\ndef counter():\n    global n\n    n += 1\n    return n"),
        ("import random\nfor _ in range(20):\n    x = random.random()\n    assert same(x) == x",
         "def same(x): return x"),
        ("assert LIMIT == 3", "LIMIT = 3"),
    ],
)  # fmt: skip
def test_assertions_hold_for_a_right_program_and_not_for_another(check, program):
    broken = program.replace("return ", "return 'no', ").replace("sorted", "list").replace(".sort()", ".pop()")
    broken = (
        broken.replace("add(2)", "add(4)").replace("yield from", "yield").replace("= 3", "= 4").replace("1 / x", "x")
    )
    assert broken != program
    assert checked(check, program, broken, "pass") == [1, 0, 0]


def test_what_the_assertions_wait_for_in_vain_is_a_failure():
    rounds = (
        "x = 0\nfor i in range(100):\n    x = f(x + 1)\nassert x == 200"  # each asks what only the last result tells
    )
    assert checked(rounds, "def f(x): return x + 1") == [0]


def test_assertions_that_cannot_run_are_named():
    with pytest.raises(
        InputError, match=r"problem 'checked': its assertions fail by themselves \(CannotPass: a function"
    ):
        checked("assert f(lambda: 1) == 1", RIGHT)
    with pytest.raises(InputError, match=r"fail by themselves \(SyntaxError"):
        checked("assert (", RIGHT)


@pytest.mark.skipif(not (DATA_DIR / "mbpp.jsonl.gz").exists(), reason="the benchmarks are not here")
def test_the_benchmarks_own_solutions_pass_and_those_of_other_problems_do_not():
    opened = [open(DATA_DIR / "humaneval.jsonl"), gzip.open(DATA_DIR / "mbpp.jsonl.gz", "rt")]  # noqa: SIM115
    problems, programs = [], []
    for lines in opened:
        with lines:
            rows = [json.loads(line) for line in lines][:25]
        for row in rows:
            problems.append(Problem(str(row["task_id"]), "?", tests=unit_tests(row, "row")))
            programs.append(row["prompt"] + row["canonical_solution"] if "prompt" in row else row["code"])
    judge = UnitTests(timeout=4.0, workers=1)
    assert judge.run(problems, programs) == [[True]] * len(problems)
    assert judge.run(problems, programs[1:] + programs[:1]) == [[False]] * len(problems)


def test_a_test_that_needs_longer_than_the_others_gets_its_time():
    slow = "import time\ntime.sleep(1.5)\nprint(4)"
    patient = Problem("patient", "?", tests=(UnitTest("", "4", seconds=60.0),))
    hasty = Problem("hasty", "?", tests=(UnitTest("", "4"),))
    judge = UnitTests(timeout=1.0, workers=1)
    assert judge.run([hasty, patient, hasty], [slow, slow, "print(5)"]) == [[False], [True], [False]]


@pytest.mark.skipif(not (DATA_DIR / "mbpp.jsonl.gz").exists(), reason="the benchmarks are not here")
def test_the_slowest_reference_of_mbpp_has_four_times_its_time():
    problems = {problem.id: problem for problem in load_task(shipped_tasks()["mbpp"], DATA_DIR).problems}
    assert {name: test.seconds for name, each in problems.items() for test in each.tests if test.seconds} == {
        "123": 13.2
    }
