"""Coding tasks: rows in the published forms, and programs judged in the sandbox through the real path."""

import base64
import json
import pickle
import zlib

import pytest

from harness.errors import InputError
from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData, to_problem
from harness.evals.run import run
from harness.evals.task import shipped_tasks
from harness.evals.unit_tests import unit_tests
from harness.prompts.find import find_template
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.verdicts import grade_pairs
from harness.types import UnitTest
from tests.evals.conftest import oracle

ROWS = {
    "humaneval": {
        "task_id": "toy/0",
        "prompt": 'def double(x):\n    """Twice x."""\n',
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(-1) == -2\n",
        "entry_point": "double",
    },
    "mbpp": {
        "task_id": 7,
        "text": "Write a function that doubles a number.",
        "code": "def double(x): return 2 * x",
        "test_setup_code": "",
        "test_list": ["assert double(3) == 6", "assert double(0) == 0"],
    },
    "apps": {
        "problem_id": 1,
        "question": "Read a number and print twice its value.",
        "solutions": "[]",
        "difficulty": "introductory",
        "input_output": json.dumps({"inputs": ["3\n", "4\n"], "outputs": ["6\n", "8\n"]}),
    },
}
PACKED = base64.b64encode(
    zlib.compress(pickle.dumps(json.dumps([{"input": "5\n", "output": "10\n", "testtype": "stdin"}])))
).decode()
ROWS["livecodebench"] = {
    "question_id": "toy_a",
    "question_title": "Double",
    "question_content": "Read a number and print twice its value.",
    "platform": "atcoder",
    "contest_date": "2024-01-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "3\n", "output": "6\n", "testtype": "stdin"}]),
    "private_test_cases": PACKED,
    "metadata": "{}",
}
ROWS["cruxeval_input"] = {
    "id": "toy_b",
    "problem": "def f(x, y):\n    return (x + y,)\n\nassert f(??) == (7,)",
    "answer": "3, 4",
    "code": "def f(x, y):\n    return (x + y,)",
    "input": "3, 4",
    "output": "(7,)",
}
RIGHT = {
    "humaneval": "def double(x):\n    return x + x",
    "mbpp": "def double(x):\n    return x + x",
    "apps": "print(2 * int(input()))",
    "livecodebench": "print(2 * int(input()))",
    "cruxeval_input": "def arguments():\n    return (1, 6)",
}
WRONG = {
    "humaneval": "import sys\nsys.exit(0)",
    "mbpp": "def double(x):\n    return 6",
    "apps": "print(6)",
    "livecodebench": "print(6)",
    "cruxeval_input": "def f(x, y):\n    return (7,)\n\ndef arguments():\n    return (1, 2)",
}


@pytest.mark.parametrize("name", list(ROWS))
def test_programs_are_right_if_they_pass_every_test(name, byte_tokenizer, tmp_path):
    task, template = shipped_tasks()[name], find_template("code")
    problem = to_problem(ROWS[name], "row", 0, task, task.columns)
    evaluation = Evaluation(task, TaskData((problem,), "here", "0"))
    prompt = template.encode(problem, byte_tokenizer)
    accuracies = []
    for i, program in enumerate((RIGHT[name], WRONG[name], "")):
        text = f"Here it is.\n```python\n{program}\n```" if program else ""
        server = Dispatcher(oracle(byte_tokenizer, {prompt: text}), byte_tokenizer, template)
        results = run(evaluation, server, tmp_path / str(i), {})
        accuracies.append(results["metrics"]["accuracy"]["value"])
    assert accuracies == [1.0, 0.0, 0.0]
    assert results["counts"]["no_answer"] == 1


def test_the_tests_of_mbpp_are_shown_because_they_name_the_function():
    task = shipped_tasks()["mbpp"]
    assert "assert double(0) == 0" in to_problem(ROWS["mbpp"], "row", 0, task, task.columns).question


def test_a_call_based_row_of_apps_names_its_function():
    data = {"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}
    assert unit_tests({"input_output": json.dumps(data)}, "row") == (UnitTest("[1, 2]", "3", "add"),)


def test_rows_without_tests_are_named():
    with pytest.raises(InputError, match="row 3: no unit tests"):
        unit_tests({"question": "x"}, "row 3")
    with pytest.raises(InputError, match="row 3: the column 'input_output' cannot be read"):
        unit_tests({"input_output": "{"}, "row 3")


def test_a_method_of_livecodebench_gets_one_argument_a_line(byte_tokenizer, tmp_path):
    cases = [{"input": '[1, 2]\n"x"', "output": '["x", 3]', "testtype": "functional"}]
    row = ROWS["livecodebench"] | {
        "starter_code": "class Solution:\n    def f(self, numbers, name):\n",
        "public_test_cases": json.dumps(cases),
        "private_test_cases": "[]",
        "metadata": json.dumps({"func_name": "f"}),
    }
    assert unit_tests(row, "row") == (UnitTest('[[1, 2], "x"]', '["x", 3]', "f"),)
    task = shipped_tasks()["livecodebench"]
    problem = to_problem(row, "row", 0, task, task.columns)
    assert problem.question.endswith("Complete this code:\nclass Solution:\n    def f(self, numbers, name):\n")
    program = "class Solution:\n    def f(self, numbers, name):\n        return [name, sum(numbers)]"
    found = grade_pairs(
        [(problem, f"```python\n{program}\n```"), (problem, "```python\nf = 1\n```")], "default", "strict"
    )
    assert [verdict.correct for verdict in found] == [True, False]


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("packed", [Evil(), 7])
def test_what_is_packed_among_test_cases_is_not_run(packed, capsys):
    text = base64.b64encode(zlib.compress(pickle.dumps(packed))).decode()
    with pytest.raises(InputError, match=r"row: the columns of test cases cannot be read \(.*no text"):
        unit_tests(ROWS["livecodebench"] | {"private_test_cases": text}, "row")
    assert capsys.readouterr().out == ""
