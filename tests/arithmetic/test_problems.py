import itertools
import random

import pytest

from harness.arithmetic.problems import (
    LEVELS,
    MAX_VALUE,
    SPLITS,
    problems,
    random_solution,
    read,
    reductions,
    valid_steps,
)
from harness.problems import shared_questions


def some(split, seed=0, count=400, **options):
    return list(itertools.islice(problems(split, seed, **options), count))


def test_answers_are_what_python_computes():
    assert all(eval(problem.question) == int(problem.answer) for problem in some("train"))


def test_levels_take_turns_and_count_the_operators():
    for problem in some("train"):
        assert sum(problem.question.count(sign) for sign in "+-*") == int(problem.level)
    assert {problem.level for problem in some("train", count=4)} == {str(level) for level in LEVELS}


def test_splits_share_no_problem_whatever_the_seed():
    for first, second in itertools.combinations(SPLITS, 2):
        assert shared_questions(some(first, 1), some(second, 2)) == []


def test_the_same_seed_gives_the_same_problems():
    assert some("train", 3) == some("train", 3) != some("train", 4)


def test_every_right_reduction_keeps_the_value_and_the_range():
    for problem in some("train"):
        expression = read(problem.question)
        for reduced in reductions(expression):
            text = " ".join(map(str, reduced))
            assert eval(text) == int(problem.answer)
            assert all(0 <= number <= MAX_VALUE for number in reduced[::2])


def test_a_problem_has_many_right_solutions_and_each_of_their_lines_is_valid():
    rng = random.Random(0)
    expression = read("6 * 5 - 12 + 4 * 6 + 6")
    solutions = {random_solution(rng, expression) for _ in range(200)}
    assert len(solutions) > 5
    for solution in solutions:
        assert all(valid_steps("6 * 5 - 12 + 4 * 6 + 6", solution.splitlines(keepends=True)))


@pytest.mark.parametrize(
    ("solution", "valid"),
    [
        ("2 + 12\n14\n#### 14", [True, True, True]),
        ("2 + 13\n15\n#### 15", [False, False, False]),
        ("14\n#### 14", [False, False]),  # two reductions in one line
        ("2 + 12\n14\n#### 15", [True, True, False]),
        ("2 + 12\n#### 14", [True, False]),  # the last line before the answer is not a number
        ("2 +  12\n14\n#### 14", [False, False, False]),
        ("6 * 4\n24\n#### 24", [False, False, False]),  # a sum before the product that touches it
        ("2 + 12\n14\n#### 14\n#### 14", [True, True, True, False]),
    ],
)
def test_each_line_is_checked_against_the_line_before(solution, valid):
    assert valid_steps("2 + 3 * 4", solution.splitlines(keepends=True)) == valid
