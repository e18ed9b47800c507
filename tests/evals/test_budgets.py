"""Curves over budgets of tokens: cut responses against runs that were given the budget as their limit."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.commands.evaluate import eval_tasks, table
from harness.engines import EngineConfig, open_engine
from harness.errors import InputError
from harness.evals.budgets import FORCED, cut_at
from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData
from harness.evals.run import run
from harness.evals.samples import read_rollouts
from harness.evals.task import Task
from harness.metrics.summary import MetricConfig
from harness.prompts.templates import PromptTemplate
from harness.rollouts.dispatcher import Dispatcher
from harness.search import MCTS
from harness.types import GenerationResult, SamplingConfig
from tests.evals.conftest import ScriptedEngine, sums
from tests.evals.test_run import TEMPLATE, evaluation, served

BUDGETS = (1, 7, 20, 33, 64)
# Random bytes repeat themselves: some say U again and again, some come to a stop string.
LETTERS = PromptTemplate(
    "letters",
    user="{question} = ?\n",
    stop=("XXXXX", "EEEEEE", "y\ufffd"),
    answer_protocol={"rules": [{"kind": "marker", "pattern": "[UMG]", "which": "first", "scope": "line"}]},
)


@pytest.fixture(
    scope="module", params=["transformers", pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.slow])]
)
def engine(request, byte_model_dir):
    if request.param == "vllm":
        pytest.importorskip("vllm")
    config = EngineConfig(kind=request.param, dtype="float32", max_num_seqs=16, max_model_len=256)
    opened = open_engine(byte_model_dir, config)
    yield opened
    opened.close()


@pytest.mark.parametrize("n", [1, 3])
def test_a_curve_equals_runs_with_each_budget_as_their_limit_sample_by_sample(engine, byte_tokenizer, tmp_path, n):
    def limited(max_tokens: int, problems) -> Evaluation:
        sampling = SamplingConfig(n=n, temperature=0.0 if n == 1 else 1.0, max_tokens=max_tokens)
        return Evaluation(Task("sums"), TaskData(tuple(problems), "here", "0"), MetricConfig((1, n)), sampling)

    dispatcher = Dispatcher(engine, byte_tokenizer, LETTERS)
    problems = sums(12)
    run(limited(40, problems), dispatcher, tmp_path / "first", {})
    said = {rollout.problem.id: rollout.responses[0].answer for rollout in read_rollouts(tmp_path / "first")}
    # What the model says first is right where the number of the problem is even.
    problems = [
        replace(problem, answer=said[problem.id] or "none" if i % 2 == 0 else "none")
        for i, problem in enumerate(problems)
    ]
    whole = replace(limited(40, problems), budgets=BUDGETS)
    results = run(whole, dispatcher, tmp_path / "whole", {})
    rollouts = read_rollouts(tmp_path / "whole")
    assert {row.response.finish_reason for rollout in rollouts for row in rollout.responses} == {"stop", "length"}
    for budget, point in zip(BUDGETS, results["budgets"], strict=True):
        separate = run(limited(min(budget, 40), problems), dispatcher, tmp_path / str(budget), {})
        pairs = zip(cut_at(rollouts, budget, whole, dispatcher), read_rollouts(tmp_path / str(budget)), strict=True)
        for cut, alone in pairs:
            for a, b in zip(cut.responses, alone.responses, strict=True):
                assert a.response.token_ids == b.response.token_ids
                assert a.response.steps == b.response.steps
                assert a.response.finish_reason == b.response.finish_reason
                assert (a.answer, a.correct, a.status) == (b.answer, b.correct, b.status)
        assert point["tokens"] == budget
        assert point["forced"] is None
        assert point["metrics"] == {name: separate["metrics"][name] for name in point["metrics"]}
    accuracies = [point["metrics"]["accuracy"]["value"] for point in results["budgets"]]
    assert accuracies[0] == 0 < accuracies[-1] == results["metrics"]["accuracy"]["value"]


class Thinker(ScriptedEngine):
    """Thinks up to its limit of tokens, and answers with the sum if its thought is ended for it."""

    def __init__(self, tokenizer, length: int) -> None:
        super().__init__(tokenizer, self._say)
        self.length = length
        self.asked: list[str] = []

    def _say(self, prompt: tuple[int, ...], seed: int) -> str:
        text = self.tokenizer.decode(prompt)
        number = int(text.split(" ")[0])
        if "</think>" in text:
            self.asked.append(text)
            return f"{number + 1}}}"
        return f"<think>{'x' * self.length}</think>\n\\boxed{{{number + 1 if number % 2 else 0}}}"


THINKING = replace(TEMPLATE, answer_protocol="boxed")
FORCE = "The answer is \\boxed{"


def test_answers_are_forced_only_where_asked_and_each_once(byte_tokenizer, tmp_path):
    asked = replace(evaluation(), budgets=(30, 200))
    engine = Thinker(byte_tokenizer, 50)
    plain = run(asked, served(engine, byte_tokenizer, THINKING), tmp_path, {})
    assert [point["metrics"]["accuracy"]["value"] for point in plain["budgets"]] == [0.0, 0.5]
    assert [point["metrics"]["truncated"]["value"] for point in plain["budgets"]] == [1.0, 0.0]
    assert not engine.asked
    assert not (tmp_path / FORCED).exists()

    forcing = replace(asked, force_answer=FORCE)
    forced = run(forcing, served(engine, byte_tokenizer, THINKING), tmp_path, {})
    assert [point["metrics"] for point in forced["budgets"]] == [point["metrics"] for point in plain["budgets"]]
    # Cut at 30 all thoughts are ended and all answers right; at 200 none is cut, and half are wrong as they were.
    assert [point["forced"]["accuracy"]["value"] for point in forced["budgets"]] == [1.0, 0.5]
    assert sorted(engine.asked) == sorted(
        f"{i} + 1 = ?\n<think>{'x' * 23}\n</think>\n\n{FORCE}" for i in range(len(sums(10)))
    )
    again = run(forcing, served(engine, byte_tokenizer, THINKING), tmp_path, {})
    assert again["budgets"] == forced["budgets"]
    assert len(engine.asked) == 10
    printed = table(forced, tmp_path)
    assert "accuracy by budget of tokens, and with forced answers" in printed
    assert re.search(r"^ +30 +0\.0000 .* 1\.0000 .* 100\.0% cut off$", printed, re.MULTILINE)


def test_what_has_no_tokens_cannot_be_cut(byte_tokenizer, tmp_path):
    class TextOnly(ScriptedEngine):
        def poll(self):
            return [
                GenerationResult(each.key, tuple(replace(done, token_ids=()) for done in each.completions))
                for each in super().poll()
            ]

    engine = TextOnly(byte_tokenizer, lambda prompt, seed: "#### 1")
    with pytest.raises(InputError, match="problem 'sum/0': its responses have no tokens to cut"):
        run(replace(evaluation(), budgets=(4,)), served(engine, byte_tokenizer), tmp_path, {})


def test_budgets_are_checked_before_anything_is_drawn(byte_tokenizer, byte_model_dir, tmp_path):
    engine = ScriptedEngine(byte_tokenizer, lambda prompt, seed: "")
    with pytest.raises(InputError, match="this is a search; leave out --budgets or --search"):
        run(replace(evaluation(), budgets=(4,), search=MCTS()), served(engine, byte_tokenizer), tmp_path, {})
    with pytest.raises(InputError, match="give --budgets as well"):
        run(replace(evaluation(), force_answer="x"), served(engine, byte_tokenizer), tmp_path, {})
    with pytest.raises(InputError, match="--budgets '1k': '1k' is not a whole number"):
        eval_tasks("arithmetic", str(byte_model_dir), budgets="1k")
