import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.prompts.math_steps import MathSteps
from harness.prompts.templates import TEMPLATES, WRITTEN_LINES
from harness.store import read_jsonl
from tests.paths import DATA_DIR

split = MathSteps().split


def test_a_short_solution_is_cut_after_a_formulas_sentence_within_a_long_step_and_before_the_answer():
    text = (
        "We have $x+y=3$ and $x-y=1$. Adding the equations gives $2x=4$, so $x=2$.\n\n"
        "Then $y=1$. Therefore $xy=2$.\nThe answer is $3$."
    )
    assert split(text) == (
        "We have $x+y=3$ and $x-y=1$. ",
        "Adding the equations gives $2x=4$, so",
        " $x=2$.\n\nThen $y=1$. Therefore $xy=2$.\n",
        "The answer is $3$.",
    )


def test_fourteen_lines_and_an_answer_make_ten_steps():
    line = "This line of text is of length 36.\n"
    steps = split(line * 14 + "The answer is $3$.")
    assert len(steps) == 10
    assert steps[-1] == "The answer is $3$."


def test_a_full_stop_outside_a_formula_ends_no_step():
    text = "First we note that it is so. Then we note that it is not. Finally nothing is left to say here."
    assert len(split(text)) <= 2
    assert split("One long sentence that ends in $x.$ And another one to follow it, long enough.")[0].endswith("$x.$ ")


def test_a_short_piece_before_the_answer_goes_to_the_step_before():
    steps = split("A first line that is long enough to stand.\n" * 4 + "So, The answer is $3$.")
    assert steps[-1] == "The answer is $3$."
    assert steps[-2].endswith("stand.\nSo, ")


def test_pieces_much_shorter_than_the_others_join_the_shorter_neighbour():
    long, middle, short = "a" * 199 + "\n", "b" * 149 + "\n", "c" * 24 + "\n"
    # The mean of 200, 25 and 150 is 125, of which 0.3 is 37.5. On four steps nothing else changes.
    assert split(long + long + short + middle + long) == (long, long, short + middle, long)


TEXTS = st.lists(
    st.sampled_from(["$x=1$. ", "$y.$ ", "\n", "\n\n", " so", " = ", "The answer is", "word " * 9, "$", ""])
)


@given(TEXTS.map("".join))
def test_joined_steps_are_the_text(text):
    steps = split(text)
    assert "".join(steps) == text
    assert all(steps)
    assert len(steps) <= 10


def test_a_lines_end_is_no_character_of_the_line():
    long, nineteen = "A first line that is long enough to stand.\n", "A line of nineteen.\n"
    assert split(long + nineteen + long + long + "The answer is $3$.")[0] == long + nineteen


def test_all_blanks_after_a_formulas_sentence_belong_to_it():
    steps = split("We let $x = 2$ and $y = 3$.   Three blanks, and a tab after $y$.\t So it goes on for a while.")
    assert steps == (
        "We let $x = 2$ and $y = 3$.   ",
        "Three blanks, and a tab after $y$.\t ",
        "So it goes on for a while.",
    )


STEPS_OF_RELEASED_CODE = "df3aade48e77cf3dd4c738b16a807a75ccd9ff7b8af04fe8ecf3134eb6a7c0da"
"""SHA-256 over the lengths of the steps, one JSON list for each training problem of MATH, as `get_final_steps` of
hbin0701/Self-Explore 54b8ba9 gave them for its solution and answer line."""


def test_steps_of_all_real_solutions_are_those_of_the_released_code_and_lose_nothing():
    path = DATA_DIR / "math_train.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    digest = hashlib.sha256()
    for _, row in read_jsonl(path):
        text = f"{row['solution']}\nThe answer is ${row['answer']}$."
        steps = split(text)
        assert "".join(steps) == text
        assert 1 < len(steps) <= 10
        digest.update(json.dumps([len(step) for step in steps]).encode())
    assert digest.hexdigest() == STEPS_OF_RELEASED_CODE


def test_blank_lines_belong_to_the_line_before_them():
    assert WRITTEN_LINES.split("A..\n\nB..\nThe answer is 6") == ("A..\n\n", "B..\n", "The answer is 6")
    assert WRITTEN_LINES.split("\nA  \n \t\nB\n") == ("\nA  \n \t\n", "B\n")
    assert TEMPLATES["self_explore"].steps is WRITTEN_LINES
