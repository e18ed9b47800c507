from __future__ import annotations

import ast
import itertools
import re

import pytest

from harness.arithmetic.code import as_code
from harness.arithmetic.model import CONTEXT, build_tokenizer
from harness.arithmetic.problems import as_lines, problems, random_path, read
from harness.grading import PROTOCOLS, grade
from harness.prompts.find import find_template
from harness.prompts.templates import TEMPLATES
from harness.sandbox import Sandbox
from harness.search import CodeSteps
from harness.types import Problem

STEPS = CodeSteps()


def some(count: int = 60, form=as_code) -> list[Problem]:
    return list(itertools.islice(problems("sft", 0, (2, 3, 4, 5, 6, 8), True, form), count))


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(modules=("math", "sympy")) as sandbox:
        yield sandbox


def cut(solution: str, template: str = "arithmetic_code") -> tuple[str, ...]:
    return find_template(template).steps.split(solution)


def programs(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What a search runs after each of the steps but the last, the answer."""
    return [STEPS.program(steps[: i + 1], [False] * (i + 1)) for i in range(len(steps) - 1)]


def test_every_reference_program_runs_step_by_step_and_prints_the_answer(sandbox):
    for problem in some():
        steps = cut(problem.solution)
        outcomes = sandbox(programs(steps))
        assert [outcome.status for outcome in outcomes] == ["ok"] * len(outcomes)
        assert [outcome.output for outcome in outcomes] == [""] * (len(outcomes) - 1) + [f"{problem.answer}\n"]
        assert steps[-2].endswith(STEPS.output(steps[-2].partition("\n<output>")[0], outcomes[-1]))


def test_every_step_says_what_is_left():
    for problem in some():
        names: dict[str, int] = {}
        for step in cut(problem.solution)[:-2]:
            line, comment = re.findall(r"(\w = .+)\n# (.+)<end_of_step>", step)[0]
            exec(line, {}, names)
            assert eval(comment, {}, names) == int(problem.answer), step


def test_solutions_are_cut_where_searches_cut_them_and_graded_right():
    for problem in some():
        steps = cut(problem.solution)
        assert "".join(steps) == problem.solution
        assert len(steps) == int(problem.level) + 1
        assert all(step.endswith((*STEPS.step_stop, "<end_of_output>")) for step in steps)
        assert grade(problem.solution, problem.answer, protocol=PROTOCOLS["boxed"]).correct


def test_the_tokenizer_gives_solutions_back_exactly_and_knows_all_words():
    tokenizer = build_tokenizer(code=True)
    for problem in some():
        ids = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == problem.solution
        assert tokenizer.pad_token_id not in ids
        assert len(ids) < CONTEXT
    assert tokenizer.decode(tokenizer("-5", add_special_tokens=False)["input_ids"]) == "-5"


def test_problems_are_the_same_in_either_form():
    def known(form):
        return [(problem.id, problem.question, problem.answer) for problem in some(form=form)]

    assert known(as_code) == known(as_lines)


def test_a_path_that_is_longer_than_the_names_is_refused():
    import random

    expression = read(" + ".join(["1"] * 28))
    with pytest.raises(ValueError, match="longer"):
        as_code(expression, random_path(random.Random(0), expression))


def test_the_teachers_examples_run_and_print_what_they_say(sandbox):
    template = TEMPLATES["rstar_teacher"]
    for _, response in template.few_shot:
        steps = cut(response, "rstar_teacher")
        for outcome in (outcomes := sandbox(programs(steps))):
            assert outcome.status == "ok"
        code = steps[-2].partition("\n<output>")[0]
        assert steps[-2] == code + STEPS.output(code, outcomes[-1])
        assert re.fullmatch(r"\n<answer>.*\\boxed\{\d+\}.*<end_of_answer>", steps[-1])
        ast.parse("".join(programs(steps)[-1]))
