import pytest

from harness.errors import InputError
from harness.problems import read_all_problems, read_problems, shared_questions
from harness.types import Problem


def write(path, *lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_both_names_of_the_question_are_read_and_rows_without_an_id_are_numbered(tmp_path):
    path = write(
        tmp_path / "data.jsonl", '{"problem": "1+1", "answer": 2}', '{"question": "2+2", "answer": "4", "id": 7}'
    )
    assert read_problems(path) == [Problem("data/0", "1+1", "2"), Problem("7", "2+2", "4")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"answer": "1"}'], r"data.jsonl:1: missing column 'question'"),
        (
            ['{"question": "q", "answer": "1"}', '{"question": "q", "answer": " "}'],
            r"data.jsonl:2: .*'answer' is missing or empty",
        ),
        (
            ['{"question": "q", "answer": "1", "id": "a"}'] * 2,
            r"data.jsonl:2: id 'a' was used before, at .*data.jsonl:1",
        ),
        ([], r"data.jsonl: holds no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_problems(write(tmp_path / "data.jsonl", *lines))


def test_two_files_may_not_share_an_id(tmp_path):
    row = '{"question": "q", "answer": "1", "id": "a"}'
    first, second = write(tmp_path / "a.jsonl", row), write(tmp_path / "b.jsonl", row)
    with pytest.raises(InputError, match=r"b.jsonl: id 'a' also stands in .*a.jsonl"):
        read_all_problems([first, second])


def test_questions_are_compared_without_blanks_and_case_but_with_their_signs():
    first = [Problem("1", "What is 1 + 2?"), Problem("2", "12 + 3")]
    assert shared_questions(first, [Problem("x", "what is  1+2?"), Problem("y", "1 + 23")]) == ["1"]
