"""Gold solutions through the real path: an engine that replays them is right, on every task that has any."""

from __future__ import annotations

import pytest

from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData, load_task
from harness.evals.run import run
from harness.evals.task import shipped_tasks
from harness.prompts.find import find_template
from harness.rollouts.collect import grade_pairs
from harness.rollouts.dispatcher import Dispatcher
from harness.types import Problem
from tests.evals.conftest import ScriptedEngine, oracle
from tests.evals.test_tasks import NOT_AT_HAND

TASKS = {
    name: task for name, task in shipped_tasks().items() if task.kind != "code" and name not in ("ifeval", *NOT_AT_HAND)
}
"""All that have golds."""

STATED = ("aime2024", "aime2025", "arithmetic", "gsm8k", "math", "math500", "minerva_math")
"""Tasks whose worked solutions state the answer the way the task's protocol reads it."""

ENDINGS = {
    "gsm8k": "\n#### {}",
    "boxed": "\n\nThe answer is $\\boxed{{{}}}$.",
    "default": "\n\nThe answer is $\\boxed{{{}}}$.",
    "final_answer": "\nFinal answer: ({})",
    "bbeh": "\nThe answer is: {}",
    "tag": "\n<answer>{}</answer>",
}

NOT_SCORABLE = {
    # The solutions of these box something else than the gold answer: the last of several parts, or all of the
    # alternatives of which the gold is one.
    "math": {"math/test/2153", "math/test/2657", "math/test/2717", "math/test/2913", "math/test/4563"},
}
BROKEN_GOLDS = {
    # Braces do not match, so no box can hold the answer; the source cut these golds short.
    "omni-math": 7,
}


def ended(problem: Problem, answer_protocol: str) -> str:
    return problem.solution + ENDINGS[answer_protocol].format(problem.answer)


@pytest.mark.parametrize("name", STATED)
def test_worked_solutions_are_right_as_they_stand(name, data_dir):
    problems = [problem for problem in load_task(TASKS[name], data_dir).problems if problem.solution]
    protocol = find_template(TASKS[name].protocol).answer_protocol
    verdicts = grade_pairs([(problem, problem.solution) for problem in problems], protocol, TASKS[name].grader)
    wrong = {problem.id for problem, verdict in zip(problems, verdicts, strict=True) if not verdict.correct}
    assert wrong <= NOT_SCORABLE.get(name, set())


@pytest.mark.parametrize("name", list(TASKS))
def test_every_gold_answer_passes_its_own_grader(name, data_dir):
    task = TASKS[name]
    problems = load_task(task, data_dir).problems
    protocol = find_template(task.protocol).answer_protocol
    verdicts = grade_pairs([(problem, ended(problem, protocol)) for problem in problems], protocol, task.grader)
    wrong = [(p.id, p.answer) for p, verdict in zip(problems, verdicts, strict=True) if not verdict.correct]
    assert len(wrong) == BROKEN_GOLDS.get(name, 0)
    assert all(answer.count("{") != answer.count("}") for _, answer in wrong)


@pytest.mark.parametrize("name", list(TASKS))
def test_an_oracle_engine_scores_all_and_a_garbage_engine_nothing(name, data_dir, byte_tokenizer, tmp_path):
    task, template = TASKS[name], find_template(TASKS[name].protocol)
    data = load_task(task, data_dir, limit=12)
    evaluation = Evaluation(task, TaskData(data.problems, data.origin, data.sha256))
    texts = {template.encode(p, byte_tokenizer): ended(p, template.answer_protocol) for p in data.problems}
    engines = oracle(byte_tokenizer, texts), ScriptedEngine(byte_tokenizer, lambda prompt, seed: "qq zz \u4e00 }{ ~~")
    accuracies = []
    for i, engine in enumerate(engines):
        server = Dispatcher(engine, byte_tokenizer, template)
        results = run(evaluation, server, tmp_path / str(i), {})
        accuracies.append(results["metrics"]["accuracy"]["value"])
    assert accuracies == [1.0, 0.0]
