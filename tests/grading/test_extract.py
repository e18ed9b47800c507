"""Final answers in whole responses."""

from __future__ import annotations

import time

import pytest

from harness.grading import PROTOCOLS, extract_answer, grade
from tests.grading.responses import RIGHT, WRONG


def test_right_responses_are_graded_right():
    assert [pair for pair in RIGHT if not grade(pair[1], pair[0]).correct] == []


def test_wrong_responses_are_graded_wrong():
    assert [pair for pair in WRONG if grade(pair[1], pair[0]).correct] == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{\sqrt{2}}} holds", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"\boxed{1}. But \boxed{2}", "2"),
        (r"\boxed{a_{1}} \text{ or } \boxed{b}", "a_{1}, b"),
        (r"\boxed{unclosed", None),
        ("<think>so 5", None),
        ("<answer>7</answer>", "7"),
        ("", None),
        ("I cannot say", None),
    ],
)
def test_boxes_tags_and_thoughts(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("protocol", "text", "answer"),
    [
        ("gsm8k", "She has \\boxed{3}.\n#### 1,234", "1,234"),
        ("gsm8k", "The answer is 5", None),
        ("bstar", "step\n\n# Answer\n\n42\n", "42"),
        ("bstar", "The answer is 42", None),
        ("bstar", "# Answer\n\n1\n\n# Answer\n\n2", "1\n\n# Answer\n\n2"),
        ("self_explore", "The answer is 5. The answer is 6.", "5"),
        ("self_explore", "The answer is $18", None),
        ("boxed", "The answer is 5", None),
        ("final_answer", "Final answer: (B)", "B"),
        ("tag", "5 <answer>6</answer>", "6"),
        ("choice", "It must be (C).", "C"),
        ("minerva", "Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
    ],
)
def test_every_protocol_reads_as_its_paper(protocol, text, answer):
    assert extract_answer(text, PROTOCOLS[protocol]) == answer


def test_no_answer_is_counted_apart_from_a_wrong_one():
    verdict = grade("I give up", "5")
    assert (verdict.correct, verdict.answer, verdict.status) == (False, None, "no_answer")


def test_a_long_response_is_read_from_its_end():
    assert grade("blah " * 200_000 + r"\boxed{5}", "5").correct


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_no_protocol_takes_long_over_a_hostile_response(protocol):
    start = time.process_time()
    for beginning in ("", "answer", "answer:", r"\boxed{1}", "# Answer", "1"):
        for unit in (" ", "\n", "#", "$", "{", "A ", "answer: ", "final answer ", r"\boxed{", "<answer>"):
            extract_answer(beginning + unit * (20_000 // len(unit)) + "x2", protocol)
    assert time.process_time() - start < 10  # one of them in cubic time would take days
