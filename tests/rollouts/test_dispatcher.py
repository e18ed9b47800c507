"""What searches need of the server: text they insert, programs beside the engine, judgements in batches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.errors import InputError
from harness.prompts.templates import PromptTemplate
from harness.rewards import Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.sandbox import Limits, Sandbox
from harness.search import MCTS, CodeSteps, PlainSteps, drive
from harness.types import (
    Completion,
    Execute,
    Generate,
    GenerationRequest,
    GenerationResult,
    Judge,
    Problem,
    Response,
    SamplingConfig,
    Score,
)

PROBLEM = Problem("p", "1 + 1 =", "2")


class ScriptedEngine:
    """Answers one request at each poll, from what was written for the text after the prompt."""

    name, version, max_context = "script", "v", 400

    def __init__(self, tokenizer, table) -> None:
        self.tokenizer, self.table, self.waiting = tokenizer, table, []
        self.requests: list[GenerationRequest] = []

    @property
    def num_pending(self) -> int:
        return len(self.waiting)

    def submit(self, request: GenerationRequest) -> None:
        self.requests.append(request)
        self.waiting.append(request)

    def poll(self) -> list[GenerationResult]:
        request = self.waiting.pop(0)
        question, _, response = self.tokenizer.decode(request.prompt_ids, skip_special_tokens=True).partition("\n")
        ends = request.sampling.step_stop
        completions = []
        for text in self.table(question, response):
            ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            completions.append(Completion(text, ids, 0.0, "step" if text.endswith(ends) else "stop"))
        return [GenerationResult(request.key, tuple(completions))]


def make_server(tokenizer, table, reward=None, executor=None) -> Dispatcher:
    return Dispatcher(
        ScriptedEngine(tokenizer, table), tokenizer, PromptTemplate("test"), reward or Outcome(), executor
    )


def test_inserted_text_stands_where_it_was_inserted(tiny_tokenizer):
    server = make_server(tiny_tokenizer, lambda question, response: ["x"])
    a, b = (tuple(tiny_tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("ab", "cd"))
    response = Response().extend(Completion("ab", a, 0.0, "step")).insert("<>").extend(Completion("cd", b, 0.0, "step"))
    assert tiny_tokenizer.decode(server.response_ids(response)) == "ab<>cd" == response.text
    server.submit("key", Generate(PROBLEM, (response,), SamplingConfig()))
    assert server.engine.requests[0].prompt_ids == server.prompt_ids(PROBLEM) + server.response_ids(response)


def test_a_response_that_no_longer_fits_is_cut_without_asking_the_engine(tiny_tokenizer):
    server = make_server(tiny_tokenizer, lambda question, response: ["x"])
    long = Response().insert("a" * 500)
    server.submit("key", Generate(PROBLEM, (long, Response()), SamplingConfig(n=2)))
    _, [cut, sampled] = server.next()
    assert [completion.finish_reason for completion in cut] == ["length", "length"]
    assert sampled[0].text == "x"


def test_programs_run_while_others_are_sampled(tiny_tokenizer):
    with Sandbox(modules=(), limits=Limits(timeout=5)) as sandbox:
        server = make_server(tiny_tokenizer, lambda question, response: ["x"], executor=sandbox)
        server.submit("slow", Execute(PROBLEM, (("import time; time.sleep(0.3); print(1)",), ("print(2)",))))
        server.submit("fast", Generate(PROBLEM, (Response(),), SamplingConfig()))
        assert server.next()[0] == "fast"
        key, outcomes = server.next()
    assert (key, [outcome.output for outcome in outcomes]) == ("slow", ["1\n", "2\n"])
    assert not server.pending


def test_what_a_search_needs_is_asked_for_in_a_sentence(tiny_tokenizer):
    server = make_server(tiny_tokenizer, lambda question, response: ["x"])
    with pytest.raises(InputError, match="needs a sandbox"):
        server.submit("key", Execute(PROBLEM, (("1",),)))


class Count:
    """A process reward that notes how many responses it is asked about at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, problems: Sequence[Problem], responses: Sequence[Response], correct) -> list[Score]:
        self.sizes.append(len(responses))
        return [Score(0.5) for _ in responses]


def test_judgements_wait_for_one_another_while_the_engine_is_busy(tiny_tokenizer):
    reward = Count()
    server = make_server(tiny_tokenizer, lambda question, response: ["a\n"], reward)
    method = MCTS(candidates=1, rollouts=1, max_depth=1, steps=PlainSteps(("\n",)))
    problems = [Problem(str(i), f"{i} ?", "1") for i in range(16)]
    list(drive(((p.id, method.grow(p, SamplingConfig())) for p in problems), server))
    # A quarter of those that the engine still works on are waited for: 4 wait beside 12, then 3 beside 9, ...
    assert reward.sizes == [4, 3, 2, 2, 1, 1, 1, 1, 1]
    assert sum(reward.sizes) == 16


def test_a_response_that_was_cut_is_judged_by_what_it_marked(tiny_tokenizer):
    server = make_server(tiny_tokenizer, lambda question, response: [])
    problem, guess, marked = Problem("p", "1 + 1 =", "2"), "First, 1 + 1 = 2", r"So \boxed{2}, since 1 + 1"
    responses = [Response((text,), reason) for text in (guess, marked) for reason in ("stop", "length")]
    server.submit("key", Judge(problem, tuple(responses)))
    _, scores = server.next()
    assert [score.value for score in scores] == [1.0, 0.0, 1.0, 1.0]


HOSTILE = {
    "loop": "while True: pass",
    "exit": "import os; os._exit(0)",
    "sysexit": "import sys; sys.exit()",
    "memory": "x = bytearray(1 << 40)",
    "fork": "import os\nwhile True: os.fork()",
    "flood": "while True: print('x' * 1000)",
    "kill": "import os; os.kill(os.getppid(), 9); raise SystemExit",
}


def test_hostile_programs_cost_their_own_node_and_nothing_else(tiny_tokenizer):
    harmless, shown = "x = 6 * 7\nprint(x)<end_of_code>", "\n<output>42<end_of_output>"

    def table(question: str, response: str) -> list[str]:
        if not response:
            return [HOSTILE[question] + "<end_of_step>", harmless] if question in HOSTILE else [harmless]
        return ["\n<answer>42<end_of_answer>"]

    problems = [Problem(name, name, "42") for name in [*HOSTILE, "peaceful", "quiet"]]
    method = MCTS(candidates=2, rollouts=2, max_depth=3, steps=CodeSteps(), score_steps=False)
    with Sandbox(modules=(), limits=Limits(timeout=0.5, memory=1 << 28)) as sandbox:
        server = make_server(tiny_tokenizer, table, executor=sandbox)
        trees = dict(drive([(p.id, method.grow(p, SamplingConfig())) for p in problems], server))
    for name, tree in trees.items():
        states = [node.state for node in tree.nodes[1:]]
        assert states == (["error", "exhausted", "answered"] if name in HOSTILE else ["exhausted", "answered"]), name
        assert tree.text(len(tree.nodes) - 1).startswith(harmless + shown)
