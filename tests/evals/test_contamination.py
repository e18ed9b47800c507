import json

import pytest

from harness.evals.contamination import overlaps, training_texts
from harness.evals.rows import load_task
from harness.evals.task import shipped_tasks
from harness.types import Problem

LONG = Problem("long", "A farmer has 12 cows and 7 goats, and buys 3 more cows every year for 5 years. How many?", "34")
SHORT = Problem("short", "What is 2 + 2?", "4")


def check(*texts):
    [found] = overlaps({"toy": [LONG, SHORT]}, [(f"row {i}", text) for i, text in enumerate(texts)])
    return found


def test_punctuation_blanks_and_case_do_not_hide_a_problem():
    found = check("nothing here", "what is, 2+2")
    assert found.same == {"short": "row 1"}
    assert not found.clean


def test_a_problem_with_another_sign_is_another_problem():
    assert check("what is 2 - 2?", "what is 2 = 2?").clean
    assert check("What is 2  +  2 ?!").clean is False


def test_thirteen_shared_words_are_overlap_and_twelve_are_not():
    words = LONG.question.split()
    assert check("Other start. " + " ".join(words[:13]) + " other end").ngrams == {"long": "row 0"}
    assert check("Other start. " + " ".join(words[:12]) + " other end").clean


def test_a_problem_found_whole_is_not_counted_again():
    found = check(LONG.question)
    assert (list(found.same), found.ngrams) == (["long"], {})


def test_training_rows_are_named_by_file_and_line(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"problem": "x"}, {"prompt": "What is 2 + 2?", "chosen": "4"}, {"problem": {"question": "y"}}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [text for _, text in training_texts([path])] == ["x", "What is 2 + 2?", "y"]
    [found] = overlaps({"toy": [SHORT]}, training_texts([path]))
    assert found.same == {"short": f"{path}:2"}
    assert str(found).startswith("toy: of 1 problems 1 stand in the training rows")


@pytest.mark.parametrize(("task", "expected"), [("math", 5), ("math500", 0), ("aime2024", 0), ("amc23", 0)])
def test_the_known_overlaps_of_math_are_found(data_dir, task, expected):
    # 11 and 1 without all punctuation; 6 and 1 of those differ in a sign, such as z^4 + z^2 + 1 and z^4 - z^2 + 1.
    problems = load_task(shipped_tasks()[task], data_dir).problems
    [found] = overlaps({task: problems}, training_texts([data_dir / "math_train.jsonl.gz"]))
    assert len(found.same) == expected


def test_perturbed_problems_of_math_are_no_copies_of_it(data_dir):
    """9 of each 279 are the original once all punctuation is gone; a sign, an operator or a relation was changed."""
    tasks = {
        name: load_task(shipped_tasks()[name], data_dir).problems
        for name in ("math_perturb_simple", "math_perturb_hard")
    }
    files = [data_dir / "math_train.jsonl.gz", data_dir / "math.jsonl.gz"]
    assert [found.same for found in overlaps(tasks, training_texts(files))] == [{}, {}]
