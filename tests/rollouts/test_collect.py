"""Collection with the transformers engine on an untrained model of the built-in task."""

import threading

import pytest

from harness.commands.prepare import prepare
from harness.engines import EngineConfig, open_engine
from harness.models.checkpoints import load_tokenizer
from harness.problems import read_problems
from harness.prompts.find import find_template
from harness.rewards import ArithmeticSteps, Likelihood, Outcome, WeightedSum
from harness.rollouts.collect import collect, score
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.iteration import Iteration
from harness.selection.top_k import TopK
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

SAMPLING = SamplingConfig(n=3, max_tokens=12, seed=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arithmetic")
    prepare(folder, num_sft=1, num_train=12, num_probe=1, num_test=1)
    engine = open_engine(str(folder / "base"), EngineConfig(kind="transformers", dtype="float32"))
    yield Dispatcher(engine, load_tokenizer(folder / "base"), find_template("arithmetic")), folder
    engine.close()


def problems(folder):
    return read_problems(folder / "train.jsonl")


def texts(rollouts):
    return {rollout.problem.id: [s.response.text for s in rollout.responses] for rollout in rollouts}


def test_samples_do_not_depend_on_the_order_or_the_company_of_the_problems(server):
    server, folder = server
    together = texts(collect(problems(folder), server, SAMPLING))
    backwards = {}
    for problem in reversed(problems(folder)):
        backwards |= texts(collect([problem], server, SAMPLING))
    assert together == backwards
    assert len({text for rows in together.values() for text in rows}) > 20


def test_further_samples_continue_those_drawn_before(server):
    server, folder = server
    one = problems(folder)[:1]
    [five] = texts(collect(one, server, SamplingConfig(n=5, max_tokens=12, seed=1))).values()
    [three] = texts(collect(one, server, SAMPLING)).values()
    [two] = texts(collect(one, server, SamplingConfig(n=2, max_tokens=12, seed=1, first=3))).values()
    assert five == three + two


def test_rollouts_carry_steps_that_join_to_the_text_and_the_weights_that_drew_them(server):
    server, folder = server
    for rollout in collect(problems(folder), server, SAMPLING):
        assert rollout.weights == server.engine.version
        for scored in rollout.responses:
            assert all("\n" not in step[:-1] for step in scored.response.steps)
            assert server.tokenizer.decode(scored.response.token_ids, skip_special_tokens=True) == scored.response.text


class MeetsTheEngine(Outcome):
    """A reward that comes back from its second call only if the engine is asked for the third problem meanwhile."""

    def __init__(self, barrier):
        self.barrier, self.calls = barrier, 0

    def __call__(self, *pairs):
        self.calls += 1
        if self.calls == 2:
            self.barrier.wait()
        return super().__call__(*pairs)


def test_rewards_come_while_the_engine_samples_and_are_the_same_in_the_same_order(server, monkeypatch):
    server, folder = server
    rows, one_by_one = problems(folder)[:6], {"group_size": 1, "max_in_flight": 1}
    expected = [score([rollout], server)[0] for rollout in collect(rows, server, SAMPLING, **one_by_one)]
    barrier, asked, submit = threading.Barrier(2, timeout=60), [], server.engine.submit

    def meet(request):
        asked.append(request)
        if len(asked) == 3:
            barrier.wait()
        submit(request)

    monkeypatch.setattr(server.engine, "submit", meet)
    before = dict(server.seconds)
    assert list(collect(rows, server, SAMPLING, reward=MeetsTheEngine(barrier), **one_by_one)) == expected
    assert not barrier.broken
    assert server.seconds["score"] >= before["score"]


def test_verdicts_and_rewards_are_those_of_the_grader_and_the_rewards(server):
    server, _ = server
    right, lucky, wrong = "9\n#### 9", "8\n#### 9", "8\n#### 8"
    responses = tuple(
        ScoredResponse(Response(tuple(text.splitlines(keepends=True)), "stop", (1, 2), -4.0))
        for text in (right, lucky, wrong, "no answer")
    )
    rollout = Rollout(Problem("p", "4 + 5", "9"), responses)

    def rewards(reward):
        return [scored.reward for scored in score([rollout], server, reward)[0].responses]

    assert rewards(Outcome()) == [1, 1, 0, 0]
    assert rewards(WeightedSum(ArithmeticSteps(), 0.5)) == [1.5, 1, 0, 0]
    assert rewards(Likelihood(per_token=True)) == [-2] * 4
    scored = score([rollout], server)[0].responses
    assert [s.answer for s in scored] == ["9", "9", "8", None]
    assert scored[3].status == "no_answer"


@pytest.mark.parametrize("count", [3, 5, 12, 50])
def test_every_round_of_iterations_visits_every_problem_once(count):
    rows = [Problem(str(i), f"q{i}", "1") for i in range(12)]
    plan = Iteration(rows, scheduler=None, select=TopK(), problems_per_iteration=count)
    if count >= 12:
        assert plan.chosen_problems(1) == plan.chosen_problems(2) == rows
        return
    seen = [problem.id for i in range(1, 13) for problem in plan.chosen_problems(i)]
    assert all(seen.count(str(i)) in range(count - 1, count + 1) for i in range(12))
    assert plan.chosen_problems(2) == plan.chosen_problems(2) != plan.chosen_problems(1)
