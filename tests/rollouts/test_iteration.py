"""One iteration on scripted samples: rationalisation of problems that the policy cannot solve."""

import json
from dataclasses import replace

import pytest

from harness.commands.prepare import prepare
from harness.commands.replay import replay
from harness.engines import EngineConfig, open_engine
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.problems import read_problems
from harness.prompts.find import find_template
from harness.prompts.templates import PromptTemplate
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.iteration import Iteration, IterationFiles, hinting, with_hinted
from harness.selection import FixedSampling, TopK
from harness.store import read_rows
from harness.types import (
    Completion,
    GenerationResult,
    Problem,
    Response,
    Rollout,
    SamplingConfig,
    ScoredResponse,
    SFTExample,
)

HINT = "{question}\n#### {answer} ?\n"


class Parrot:
    """An engine that gives the number after `####` in its prompt, or 0 where there is none."""

    name, version, max_context, num_pending = "parrot", "1", 256, 0

    def __init__(self, tokenizer):
        self.tokenizer, self.results, self.prompts = tokenizer, [], []

    def submit(self, request):
        prompt = self.tokenizer.decode(request.prompt_ids, skip_special_tokens=True)
        self.prompts.append(prompt)
        text = "#### " + (prompt.split("#### ")[1].split(" ")[0] if "####" in prompt else "0")
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        self.results.append(GenerationResult(request.key, (Completion(text, ids, -1.0),) * request.sampling.n))

    def poll(self):
        found, self.results = self.results, []
        return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arithmetic")
    prepare(folder, num_sft=1, num_train=8, num_probe=1, num_test=1)
    return folder


def run(folder, data, engine, **options):
    problems = [*read_problems(data / "train.jsonl"), Problem("zero", "4 - 4", "0")]
    server = Dispatcher(engine, load_tokenizer(data / "base"), find_template("arithmetic"))
    plan = Iteration(problems, FixedSampling(SamplingConfig(n=2, max_tokens=8), 0.5), TopK(), **options)
    return plan.run(1, folder, server), problems


def test_unsolved_problems_are_sampled_again_with_the_answer_and_trained_under_the_plain_prompt(tmp_path, data):
    engine = Parrot(load_tokenizer(data / "base"))
    manifest, problems = run(tmp_path, data, engine, hint=HINT)
    unsolved = [problem for problem in problems if problem.answer != "0"]
    rows = read_rows(IterationFiles(tmp_path, 1).train, SFTExample)
    assert {(row.prompt, row.response) for row in rows} == {(f"{p.question} ?\n", f"#### {p.answer}") for p in problems}
    assert sorted(p for p in engine.prompts if "####" in p) == sorted(
        f"{p.question}\n#### {p.answer} ?\n" for p in unsolved
    )
    assert manifest["monitors"]["accuracy"] == (len(problems) - len(unsolved)) / len(problems)
    assert manifest["monitors"]["rationalized_share"] == 1.0
    assert "iter_001.hinted.jsonl" in manifest["hashes"]


def test_without_a_hint_only_solved_problems_are_trained_on(tmp_path, data):
    run(tmp_path, data, Parrot(load_tokenizer(data / "base")))
    assert {row.problem_id for row in read_rows(IterationFiles(tmp_path, 1).train, SFTExample)} >= {"zero"}
    assert not IterationFiles(tmp_path, 1).hinted.exists()


def test_a_resumed_iteration_reads_its_hinted_rollouts_back(tmp_path, data):
    run(tmp_path, data, Parrot(load_tokenizer(data / "base")), hint=HINT)
    files = IterationFiles(tmp_path, 1)
    before = [path.read_bytes() for path in (files.hinted, files.train)]
    engine = Parrot(load_tokenizer(data / "base"))
    run(tmp_path, data, engine, hint=HINT)
    assert [path.read_bytes() for path in (files.hinted, files.train)] == before
    assert engine.prompts == []


def test_a_replay_counts_rationalisations_as_the_run_did(tmp_path, data, capsys):
    run(tmp_path / "rollouts", data, Parrot(load_tokenizer(data / "base")), hint=HINT)
    assert replay(tmp_path, output=tmp_path / "out.json") == 0
    [result] = json.loads((tmp_path / "out.json").read_text())
    assert result["also_in_run"] == 1.0
    assert result["rows"] == len(read_rows(IterationFiles(tmp_path / "rollouts", 1).train, SFTExample))


def test_wrong_responses_to_a_hint_are_not_taken():
    hinted = Rollout(
        Problem("p", "1"), (ScoredResponse(Response(("a",))), ScoredResponse(Response(("b",)), correct=True))
    )
    [row] = with_hinted([Rollout(Problem("p", "1"))], [hinted])
    assert [scored.response.text for scored in row.responses] == ["b"]


def test_a_real_engine_sees_the_hint(data):
    engine = open_engine(str(data / "base"), EngineConfig(kind="transformers", dtype="float32"))
    server = Dispatcher(engine, load_tokenizer(data / "base"), find_template("arithmetic"))
    problem = Problem("p", "4 + 5", "9")
    ids = hinting(server, HINT).prompt_ids(problem)
    assert server.tokenizer.decode(ids, skip_special_tokens=True) == "4 + 5\n#### 9 ?\n"
    assert server.prompt_ids(problem) != ids
    engine.close()


def test_braces_in_a_question_or_an_answer_are_not_filled_in():
    template = PromptTemplate("t", user="{question} {answer} {other}")
    assert template.render(Problem("p", "{answer}", "{question}")) == "{answer} {question} {other}"


def test_probe_problems_among_the_training_problems_are_refused_unless_asked_for():
    problems = [Problem("a", "1 + 1", "2"), Problem("b", "1 + 2", "3")]
    plan = Iteration(problems, FixedSampling(SamplingConfig()), TopK(), probe_problems=[Problem("c", "1+1", "2")])
    with pytest.raises(InputError, match=r"1 of 1 probe problems .* set probe_among_problems"):
        plan.check()
    replace(plan, probe_among_problems=True).check()
