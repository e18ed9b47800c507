"""Searches through a whole evaluation: steps in words and steps in code, the programs run in the real sandbox."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.evals.run import run
from harness.evals.samples import read_samples
from harness.provenance import identity
from harness.rewards import ArithmeticSteps, Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.sandbox import Sandbox
from harness.search import MCTS, CodeSteps, Forest, PlainSteps, StepBeam
from harness.types import Problem
from tests.evals.conftest import ScriptedEngine
from tests.evals.test_run import TEMPLATE, evaluation, without_commit

BOXED = replace(TEMPLATE, answer_protocol="boxed")
PROBLEMS = tuple(Problem(f"p{i}", f"{i} + 1", str(i + 1)) for i in range(6))
PLAIN = PlainSteps(("\n",))


def code_policy(tokenizer) -> ScriptedEngine:
    """Writes a program in two steps and then its answer; some first steps are wrong, and some fail."""

    def answer(prompt, seed):
        question, _, written = tokenizer.decode(prompt).partition(" = ?\n")
        if not written:
            first = (f"x = {question}", f"x = {question} + 1", "x = 1 / 0")[seed % 3]
            return f"<code>\n{first}\n<end_of_step>"
        if written.endswith("<end_of_step>"):
            return "\nprint(x)\n<end_of_code>"
        output = re.findall(r"<output>(.*?)<end_of_output>", written, re.DOTALL)[-1].strip()
        return f"<answer>\\boxed{{{output}}}<end_of_answer>"

    return ScriptedEngine(tokenizer, answer)


def plain_policy(tokenizer) -> ScriptedEngine:
    """Adds in one line, right or wrong, and then says the answer of that line."""

    def answer(prompt, seed):
        question, _, written = tokenizer.decode(prompt).partition(" = ?\n")
        if not written:
            return f"{int(question.split(' ')[0]) + 1 + seed % 2}\n"
        return f"#### {written.strip()}"

    return ScriptedEngine(tokenizer, answer)


def searched(search, reward, problems=PROBLEMS):
    found = evaluation(problems, search=search, reward=reward)
    metrics = replace(found.metrics, searched=True)
    return replace(found, metrics=metrics, sampling=replace(found.sampling, temperature=1.0, max_tokens=64))


@pytest.mark.parametrize("search", [MCTS(4, 4, steps=CodeSteps()), StepBeam(3, steps=CodeSteps())])
def test_code_is_run_between_steps_and_the_best_reward_wins(byte_tokenizer, tmp_path, search):
    with Sandbox(workers=1) as sandbox:
        server = Dispatcher(code_policy(byte_tokenizer), byte_tokenizer, BOXED, Outcome(), sandbox)
        results = run(searched(search, Outcome()), server, tmp_path, {})
    values = {name: metric["value"] for name, metric in results["metrics"].items()}
    samples = read_samples(tmp_path)
    assert all("<output>" in sample.response.text and sample.response.inserted for sample in samples)
    assert not any("1 / 0" in sample.response.text for sample in samples)
    assert values["first"] == values["pass@all"] == values["reward@all/answer"] > 0
    assert 0 < values["accuracy"] < 1.0
    if isinstance(search, MCTS):  # the outcome says nothing of partial responses, so a narrow beam may drop right ones
        assert values["first"] == 1.0
    assert {"maj@all", "weighted_maj@all/answer"} <= set(values)
    assert [len(sample.response.step_values) for sample in samples] == [3] * len(samples)


@pytest.mark.parametrize(
    "search", [MCTS(3, 4, steps=PLAIN), Forest(MCTS(2, 2, steps=PLAIN), 3), StepBeam(2, steps=PLAIN)], ids=str
)
def test_a_search_in_words_is_reported_and_the_same_when_repeated(byte_tokenizer, tmp_path, search):
    documents = []
    for name in ("a", "b"):
        server = Dispatcher(plain_policy(byte_tokenizer), byte_tokenizer, TEMPLATE, Outcome())
        documents.append(run(searched(search, Outcome()), server, tmp_path / name, {}))
    assert without_commit(documents[0]) == without_commit(documents[1])
    assert documents[0]["search"] == identity(search)
    values = {name: metric["value"] for name, metric in documents[0]["metrics"].items()}
    assert values["reward@all/answer"] == pytest.approx(values["pass@all"])
    assert values["pass@all"] == 1.0 or not isinstance(search, MCTS)
    assert documents[0]["metrics"]["tokens_drawn"]["value"] >= documents[0]["metrics"]["tokens"]["value"]


def test_a_process_reward_ranks_and_labels_the_steps(byte_tokenizer, tmp_path):
    problems = tuple(replace(problem, question=f"{i} + 1") for i, problem in enumerate(PROBLEMS))
    server = Dispatcher(plain_policy(byte_tokenizer), byte_tokenizer, TEMPLATE, ArithmeticSteps())
    run(searched(MCTS(3, 4, steps=PLAIN), ArithmeticSteps(), problems), server, tmp_path, {})
    for sample in read_samples(tmp_path):
        assert len(sample.response.step_values) == len(sample.response.steps) == 2
