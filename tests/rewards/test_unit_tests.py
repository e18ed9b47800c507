import pytest

from harness.errors import InputError
from harness.rewards import UnitTests
from harness.rewards.unit_tests import passes, program_of
from harness.rollouts.verdicts import grade_pairs
from harness.types import Execution, Problem, Response, UnitTest

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
