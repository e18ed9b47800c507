import pytest

from harness.commands.prepare import prepare
from harness.commands.rollout import rollout
from harness.engines import EngineConfig, open_engine
from harness.engines.completion import Decoder
from harness.models.checkpoints import load_tokenizer
from harness.problems import read_problems
from harness.prompts.find import find_template
from harness.rewards import Outcome
from harness.rollouts.collect import collect
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.step_ends import step_ends, with_step_ends
from harness.search import StepCompletion
from harness.selection import StepLabels
from harness.store import read_rows
from harness.types import Problem, Response, Rollout, RolloutConfig, SamplingConfig, ScoredResponse, StepExample


class Pieces:
    """A tokenizer whose vocabulary has a token that crosses the end of a line."""

    words = ("a", "\n", "b\nc", "d")

    def get_added_vocab(self):
        return {}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(self.words[i] for i in ids)


def test_the_ends_of_steps_are_counted_in_sampled_tokens():
    response = Response(("a\n", "b\n", "cd"), "stop", (0, 1, 2, 3))
    assert step_ends(response, (0,), Decoder(Pieces(), frozenset())) == (2, -1, 4)


def test_the_answer_part_of_a_bstar_response_belongs_to_its_last_step():
    text = "First.\n\nThen.\n\n# Answer\n\n42"
    assert find_template("bstar").steps.split(text) == ("First.\n\n", "Then.\n\n# Answer\n\n42")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arithmetic")
    prepare(folder, num_sft=1, num_train=6, num_probe=1, num_test=1)
    return folder


@pytest.fixture(scope="module")
def server(data):
    engine = open_engine(str(data / "base"), EngineConfig(kind="transformers", dtype="float32"))
    yield Dispatcher(engine, load_tokenizer(data / "base"), find_template("arithmetic"), Outcome())
    engine.close()


def test_the_engine_continues_the_very_tokens_that_were_sampled(server, data):
    [problem] = read_problems(data / "train.jsonl")[:1]
    text = "4 + 5\n9\n#### 9"
    ids = tuple(server.tokenizer(text, add_special_tokens=False)["input_ids"])
    response = Response(("4 + 5\n", "9\n", "#### 9"), "stop", ids)
    begun = with_step_ends(Rollout(problem, (ScoredResponse(response),)), server.prompt_ids(problem), server.tokenizer)
    [scored] = begun.responses
    assert [server.response_ids(scored.response.prefix(count)) for count in (1, 2)] == [ids[:4], ids[:6]]
    sampling = SamplingConfig(max_tokens=8)
    [found] = collect([problem], server, sampling, search=StepCompletion(2), start={problem.id: begun})
    assert len(found.responses[0].response.step_values) == 3
    assert found.responses[0].response.step_ends == ()


def test_rows_hold_the_plain_prompt_and_one_label_for_each_step():
    rows = [
        Rollout(
            Problem("p", "4 + 5"),
            (
                ScoredResponse(Response(("4 + 5\n", "#### 9"), "stop", step_values=(1.0, 1.0)), correct=True),
                ScoredResponse(Response(("8\n", "#### 8"), "stop", step_values=(0.0, 0.0))),
                ScoredResponse(Response(("8\n",), "length")),
            ),
        )
    ]
    found, counts = StepLabels()(rows, RolloutConfig(), lambda problem: f"{problem.question} ?\n")
    assert found[1] == StepExample("4 + 5 ?\n", ("8\n", "#### 8"), (0.0, 0.0), problem_id="p")
    assert counts == {"num_rows": 2, "num_steps": 4, "mean_label": 0.5}


def test_the_command_labels_the_steps_of_rollouts_it_starts_from(tmp_path, data):
    options = {"template": "arithmetic", "engine": EngineConfig(kind="transformers", dtype="float32")}
    sampled, labelled, rows = (tmp_path / name for name in ("sampled.jsonl", "labelled.jsonl", "steps.jsonl"))
    model = str(data / "base")
    sampling = SamplingConfig(n=8, max_tokens=24)
    assert rollout(model, sampled, [str(data / "train.jsonl")], sampling=sampling, **options) == 0
    status = rollout(
        model,
        labelled,
        start=[str(sampled)],
        sampling=sampling,
        search=StepCompletion(2),
        select=StepLabels(),
        rows=rows,
        **options,
    )
    ended = {
        (row.problem.id, s.response.text)
        for row in read_rows(sampled, Rollout)
        for s in row.responses
        if s.response.finish_reason == "stop" and s.response.text
    }
    found = read_rows(rows, StepExample) if status == 0 else []
    assert {(row.problem_id, "".join(row.steps)) for row in found} == ended
    assert all(len(row.steps) == len(row.labels) and row.prompt.endswith(" ?\n") for row in found)
    assert ended, "a random model ends some of 48 responses by itself"
