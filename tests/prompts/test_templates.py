import pytest

from harness.errors import InputError
from harness.grading import PROTOCOLS
from harness.prompts.find import find_template
from harness.prompts.templates import LINES, TEMPLATES, PromptTemplate, StepFormat
from harness.types import Problem

PROBLEM = Problem("p", "What is {x}?", "1", choices=("(A) one", "(B) two"))


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\nb", "\n\na\n\n", "no end"])
@pytest.mark.parametrize("boundary", ["", r"\n", r"\n\n", r"[.!] "])
def test_steps_joined_are_the_text(text, boundary):
    steps = StepFormat(boundary).split(text)
    assert "".join(steps) == text
    assert all(steps)


def test_a_line_ends_with_its_newline():
    assert LINES.split("a\nb\n\nc") == ("a\n", "b\n", "\n", "c")


def test_braces_of_a_question_stay_and_choices_are_filled_in():
    template = PromptTemplate("t", user="{question}\n{choices}\n")
    assert template.render(PROBLEM) == "What is {x}?\n(A) one\n(B) two\n"


def test_examples_come_before_the_problem():
    template = PromptTemplate("t", user="Q: {question}\n", few_shot=(("1+1?", "2"),), shot_separator="\n--\n")
    assert template.render(PROBLEM) == "Q: 1+1?\n2\n--\nQ: What is {x}?\n"


def test_a_chat_is_rendered_by_the_tokenizers_template(tiny_tokenizer):
    import copy

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = PromptTemplate("t", user="{question}", system="Be brief.", chat=True, few_shot=(("1+1?", "2"),))
    assert template.render(PROBLEM, tokenizer) == (
        "<|system|>Be brief.\n<|user|>1+1?\n<|assistant|>2\n<|user|>What is {x}?\n<|assistant|>"
    )
    # The chat template writes special tokens itself: none is added a second time.
    assert template.encode(PROBLEM, tokenizer)[0] != tokenizer.bos_token_id
    plain = PromptTemplate("t").encode(PROBLEM, tokenizer)
    assert plain[0] == tokenizer.bos_token_id


def test_a_chat_without_a_chat_template_is_an_error(tiny_tokenizer):
    with pytest.raises(InputError, match="has no chat template"):
        PromptTemplate("t", chat=True).render(PROBLEM, tiny_tokenizer)


def test_every_template_names_a_known_answer_protocol():
    assert {template.answer_protocol for template in TEMPLATES.values()} <= set(PROTOCOLS)


def test_an_unknown_template_is_an_error_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown prompt template 'plane'.*plain"):
        find_template("plane")
