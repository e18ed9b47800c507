"""Verdicts of instructions equal those of IFEval's own verifier."""

from __future__ import annotations

import json

import pytest

from harness.errors import InputError
from harness.grading.instructions import INSTRUCTIONS, check_instruction, follows, follows_loosely, verdict
from harness.rollouts.verdicts import grade_pairs
from harness.types import Instruction, Problem
from tests.grading.instruction_cases import CASES


@pytest.mark.parametrize(("name", "arguments", "responses"), CASES)
def test_verdicts_equal_the_published_verifiers(name, arguments, responses):
    instruction = Instruction(name, json.dumps(arguments))
    found = [(text, (follows(instruction, text), follows_loosely(instruction, text))) for text, _ in responses]
    assert found == list(responses)


def test_there_are_cases_of_every_kind():
    assert {name for name, _, _ in CASES} == set(INSTRUCTIONS)
    assert sum(len(responses) for _, _, responses in CASES) >= 200


def test_a_letter_that_is_none_is_counted_too():
    """The published verifier draws a random letter where one row of its own data asks for `#`."""
    hashes = Instruction("keywords:letter_frequency", '{"letter": "#", "let_frequency": 4, "let_relation": "at least"}')
    assert follows(hashes, "# a\n## b\n# c")
    assert not follows(hashes, "# a\n## b")


def test_a_response_must_follow_all_of_its_prompts_and_names_what_it_does_not():
    no_comma = Instruction("punctuation:no_comma")
    quoted = Instruction("startend:quotation")
    problem = Problem("p", "Say hello.", instructions=(no_comma, quoted))
    texts = ['"hello"', "hello", '<think>a, b</think>"hello"', '<think>"hello"']
    found = grade_pairs([(problem, text) for text in texts], "default", "strict")
    assert [each.correct for each in found] == [True, False, True, False]
    assert [each.answer for each in found[:2]] == ["all", "not startend:quotation"]
    assert verdict((no_comma,), "").correct is False


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (Instruction("punctuation:no_commas"), "row 3: unknown instruction 'punctuation:no_commas'; known: "),
        (Instruction("startend:end_checker", '{"end": "x"}'), "row 3: the arguments .* do not fit"),
        (Instruction("keywords:existence", '{"keywords": ["("]}'), "row 3: the arguments .* do not fit"),
        (
            Instruction("keywords:frequency", '{"keyword": "a", "frequency": 1, "relation": "about"}'),
            "'about' is unknown",
        ),
    ],
)
def test_what_is_wrong_with_an_instruction_is_said_where_it_is_read(instruction, message):
    with pytest.raises(InputError, match=message):
        check_instruction(instruction, "row 3")
