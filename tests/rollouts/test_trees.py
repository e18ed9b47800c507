from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.prompts.templates import PromptTemplate
from harness.rewards import Likelihood
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.trees import collect_trees, graded, read_trees
from harness.search import MCTS, PlainSteps
from harness.search.tree import SearchTree, TreeNode
from harness.types import Problem, SamplingConfig

PROBLEMS = [Problem(f"p{i}", f"{i} + 1 =", str(i + 1)) for i in range(5)]
SEARCH = MCTS(
    candidates=3, rollouts=3, max_depth=4, steps=PlainSteps((" ",)), score_steps=False, terminal_reward="sign"
)
SAMPLING = SamplingConfig(max_tokens=8, seed=1)


@pytest.fixture
def server(tiny_model_dir):
    return make_server(tiny_model_dir)


def make_server(folder: Path | str) -> Dispatcher:
    from harness.engines import EngineConfig, open_engine
    from harness.models.checkpoints import load_tokenizer
    from harness.rewards.outcome import Outcome

    engine = open_engine(folder, EngineConfig(kind="transformers"))
    return Dispatcher(engine, load_tokenizer(folder), PromptTemplate("test"), Outcome())


def make_server_like(server: Dispatcher, template=None, reward=None) -> Dispatcher:
    return Dispatcher(server.engine, server.tokenizer, template or server.template, reward or server.reward)


def test_trees_come_back_from_disk_as_they_were_grown(server, tmp_path):
    grown = collect_trees(tmp_path / "trees.jsonl", PROBLEMS, server, SEARCH, SAMPLING, num_trees=2)
    assert [(tree.problem.id, tree.index) for tree in grown] == [(p.id, i) for p in PROBLEMS for i in range(2)]
    assert read_trees(tmp_path / "trees.jsonl") == grown
    assert grown[0].nodes != grown[1].nodes
    assert all(len(tree.nodes) > 3 for tree in grown)


def test_an_answer_that_was_cut_counts_only_where_it_is_marked(server):
    nodes = [TreeNode()]
    for text in ("First, 0 + 1 = 1", r"So \boxed{1}, since 0 + 1"):
        nodes += [TreeNode(0, text, "answered", finish_reason=reason) for reason in ("stop", "length")]
    tree = graded(SearchTree(PROBLEMS[0], tuple(nodes)), server)
    assert [node.correct for node in tree.nodes[1:]] == [True, False, True, True]


def test_hard_problems_get_more_trees_once_for_each_number(server, tmp_path):
    path, protocol = tmp_path / "trees.jsonl", replace(server.template, answer_protocol="number")
    server.template = protocol
    # The gold of the first problem is an answer that the random model finds; those of the others it never finds.
    search = replace(SEARCH, candidates=16, rollouts=8)
    [first] = collect_trees(tmp_path / "first.jsonl", PROBLEMS[:1], server, search, SAMPLING)
    answer = next(node.answer for node in first.nodes if node.answer and node.answer.isdigit())
    problems = [replace(PROBLEMS[0], answer=answer), *(replace(p, answer="123456789") for p in PROBLEMS[1:3])]
    grown = collect_trees(path, problems, server, search, SAMPLING, hard_trees=(1, 2))
    indices = {problem.id: [tree.index for tree in grown if tree.problem.id == problem.id] for problem in problems}
    assert indices == {"p0": [0], "p1": [0, 1, 2, 3], "p2": [0, 1, 2, 3]}
    assert read_trees(path) == grown
    assert collect_trees(path, problems, server, search, SAMPLING, hard_trees=(1, 2)) == grown


def test_a_response_of_a_tree_has_the_tokens_that_were_sampled(server, tmp_path):
    tree = collect_trees(tmp_path / "trees.jsonl", PROBLEMS[:1], server, SEARCH, SAMPLING)[0]
    for index in range(1, len(tree.nodes)):
        response = tree.response(index)
        assert (
            server.tokenizer.decode(response.token_ids, skip_special_tokens=True) == response.text == tree.text(index)
        )


class Stopped(Exception):
    pass


def test_a_stopped_run_continues_to_the_same_file(tiny_model_dir, tmp_path):
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    collect_trees(whole, PROBLEMS, make_server(tiny_model_dir), SEARCH, SAMPLING)

    counts: list[int] = []

    def stop(count: int) -> None:
        counts.append(count)
        if sum(counts) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        collect_trees(broken, PROBLEMS, make_server(tiny_model_dir), SEARCH, SAMPLING, progress=stop)
    with open(broken, "a") as file:
        file.write('{"problem": {"id": "torn')
    assert len(broken.read_text().splitlines()) == 3
    counts.clear()
    again = make_server(tiny_model_dir)
    collect_trees(broken, PROBLEMS, again, SEARCH, SAMPLING, progress=counts.append)
    assert counts == [2, 1, 1, 1]
    assert without_logps(broken) == without_logps(whole)


def test_trees_that_were_grown_otherwise_are_refused_with_what_differs(server, tmp_path):
    path, one = tmp_path / "trees.jsonl", PROBLEMS[:1]
    collect_trees(path, one, server, SEARCH, SAMPLING)
    before = path.read_bytes()

    def refused(field: str, problems=one, search=SEARCH, sampling=SAMPLING, grader="strict", **dispatcher):
        changed = make_server_like(server, **dispatcher)
        with pytest.raises(InputError, match=rf"trees.jsonl:1: made with another {field}"):
            collect_trees(path, problems, changed, search, sampling, grader=grader)

    refused("sampling.seed", sampling=replace(SAMPLING, seed=2))
    refused("search.rollouts", search=replace(SEARCH, rollouts=4))
    refused("grader", grader="rstar")
    refused("problem.answer", problems=[replace(PROBLEMS[0], answer="2")])
    refused("reward.class", reward=Likelihood())
    refused("template.user", template=replace(server.template, user="Q: {question}\n"))
    refused("answer_protocol", template=replace(server.template, answer_protocol="boxed"))
    assert path.read_bytes() == before
    renamed = make_server_like(server, template=replace(server.template, name="of the same content"))
    collect_trees(path, one, renamed, SEARCH, SAMPLING)
    assert renamed.num_tokens == 0


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_file(tiny_model_dir, tmp_path):
    code = (
        "import sys\nfrom tests.rollouts.test_trees import *\n"
        "problems = [Problem(f'p{i}', f'{i} + 1 =', str(i + 1)) for i in range(40)]\n"
        "collect_trees(sys.argv[2], problems, make_server(sys.argv[1]), SEARCH, SAMPLING)"
    )

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, str(tiny_model_dir), str(tmp_path / name)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2])

    assert start("whole").wait() == 0
    killed, broken = start("broken"), tmp_path / "broken"
    while killed.poll() is None and (not broken.exists() or broken.read_bytes().count(b"\n") < 3):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = broken.read_bytes().splitlines()
    assert 3 <= len(before) < 40
    assert start("broken").wait() == 0
    assert without_logps(broken) == without_logps(tmp_path / "whole")
    assert set(before[:3]) <= set(broken.read_bytes().splitlines())


def without_logps(path: Path) -> list[SearchTree]:
    """The last digits of log-probabilities depend on what else is in the engine's batch."""
    trees = read_trees(path)
    return [replace(tree, nodes=tuple(replace(node, logp=0.0) for node in tree.nodes)) for tree in trees]
