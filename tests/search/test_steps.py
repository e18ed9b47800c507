from __future__ import annotations

import pytest

from harness.search import CodeSteps
from harness.types import Execution, Response

STEPS = ("<code>\na = 1\n<end_of_step>", "b = 2<end_of_step>", "print(a)<end_of_code>\n<output>1<end_of_output>")


@pytest.mark.parametrize(
    ("steps", "program"),
    [
        (STEPS[:1], ("a = 1\n",)),
        (STEPS, ("a = 1\n", "b = 2\n", "print(a)\n")),
        (("<code> a = 1<end_of_code>",), (" a = 1\n",)),
        (("thinking\n<code>\na = 1",), ("a = 1\n",)),
        ((*STEPS, "<code>\nc = 3<end_of_step>"), ("c = 3\n",)),
        ((*STEPS, "<code>\nc = 3<end_of_step>", "d = 4<end_of_step>"), ("c = 3\n", "d = 4\n")),
    ],
)
def test_a_program_is_the_code_of_the_current_block(steps, program):
    assert CodeSteps().program(steps, [False] * len(steps)) == program


def test_blocks_may_share_their_variables():
    steps = (*STEPS, "<code>\nc = 3<end_of_step>")
    program = CodeSteps(shared_state=True).program(steps, [False] * 4)
    assert program == ("a = 1\n", "b = 2\n", "print(a)\n", "c = 3\n")


def test_failed_steps_are_left_out_or_run_again():
    failed = [True, False, False]
    assert CodeSteps().program(STEPS, failed) == ("b = 2\n", "print(a)\n")
    assert CodeSteps(run_failed_steps_again=True).program(STEPS, failed) == ("a = 1\n", "b = 2\n", "print(a)\n")


@pytest.mark.parametrize(
    ("text", "reason", "answered", "by_box"),
    [
        ("<answer> \\boxed{1}<end_of_answer>", "step", True, True),
        ("<answer> it is 1", "stop", True, False),
        ("<answer> it is", "length", False, False),
        ("# the number is boxed<end_of_step>", "step", False, True),
    ],
)
def test_an_answer_is_told_by_its_markers(text, reason, answered, by_box):
    response = Response((text,), reason)
    assert CodeSteps().answered(response) == answered
    assert CodeSteps(answer_by_box=True).answered(response) == by_box


def test_output_is_shown_after_a_whole_block_only():
    ok, failed = Execution("1\n2\n"), Execution("1\n", "NameError: x", "error")
    assert CodeSteps().output("x<end_of_code>", ok) == "\n<output>1\n2<end_of_output>"
    assert CodeSteps().output("x<end_of_code>", failed) == "\n<output>NameError: x<end_of_output>"
    assert CodeSteps().output("x<end_of_step>", ok) == ""
