from __future__ import annotations

import math

import pytest

from harness.search import MCTS, CodeSteps, PlainSteps
from harness.search.expand import Trace
from harness.search.tree import Node, SearchTree, ucb
from harness.types import Execution, Generate, Judge, Rollout, SamplingConfig
from tests.search.script import PROBLEM, Script, result

LINES = PlainSteps(("\n",))
SAMPLES = {
    "": ["a\n", "b\n"],
    "a\n": ["c\n", "x"],
    "a\nc\n": ["y", "y"],
    "b\n": ["z", "z"],
}
VALUES = {"a\n": 0.5, "b\n": -0.5, "a\nc\n": 0.1, "a\nx": 0.9, "a\nc\ny": 0.3, "b\nz": -0.4}


def grow(method: MCTS, script: Script) -> dict[str, object]:
    """The tree, its nodes by text."""
    tree: SearchTree = result(method.grow(PROBLEM, SamplingConfig(seed=5)), script)
    return {tree.text(index): node for index, node in enumerate(tree.nodes)}


def counts(nodes, text: str) -> tuple[int, float, str]:
    node = nodes[text]
    return node.visit_count, pytest.approx(node.value_sum), node.state


def test_values_of_answers_are_backed_up_to_the_root():
    nodes = grow(MCTS(candidates=2, rollouts=1, steps=LINES), Script(SAMPLES, VALUES))
    # Rollout 1: a (0.5) beats b (-0.5), as N(root) is 0. Below a, x ends in an answer worth 0.9: a gets 0.5 + 0.9, the
    # root 0.9. The walk goes on to c (0.1), whose one distinct child y is worth 0.3, added to c, a and the root.
    assert counts(nodes, "") == (2, 1.2, "open")
    assert counts(nodes, "a\n") == (3, 1.7, "exhausted")
    assert counts(nodes, "a\nc\n") == (2, 0.4, "exhausted")
    assert counts(nodes, "a\nx") == (1, 0.9, "answered")
    assert counts(nodes, "a\nc\ny") == (1, 0.3, "answered")
    assert counts(nodes, "b\n") == (1, -0.5, "open")
    assert nodes["a\n"].value == 0.5


def test_exhausted_nodes_are_closed_at_once_or_when_a_rollout_gets_there():
    # After rollout 1 lazily: a scores 1.7/3 + 2 sqrt(ln 2 / 3) = 1.53, b -0.5 + 2 sqrt(ln 2 / 1) = 1.17. So rollout 2
    # walks to a, finds it exhausted and is wasted; rollout 3 expands b.
    def visited_b(rollouts: int, close: bool) -> bool:
        method = MCTS(candidates=2, rollouts=rollouts, steps=LINES, close_exhausted=close)
        return "b\nz" in grow(method, Script(SAMPLES, VALUES))

    assert [visited_b(n, close=False) for n in (1, 2, 3)] == [False, False, True]
    assert [visited_b(n, close=True) for n in (1, 2, 3)] == [False, True, True]


def test_an_exhausted_root_ends_the_search():
    script = Script(SAMPLES, VALUES)
    grow(MCTS(candidates=2, rollouts=50, steps=LINES), script)
    assert sum(isinstance(request, Generate) for request in script.requests) == len(SAMPLES)


def test_terminal_guided_search_scores_answers_only():
    script = Script(SAMPLES, {"a\nx": 1.0})
    method = MCTS(candidates=2, rollouts=1, steps=LINES, score_steps=False, terminal_reward="sign")
    nodes = grow(method, script)
    # a and b score 0, the first wins. x is right: +1; then c (0) is expanded, y is wrong: -1.
    assert counts(nodes, "a\n") == (2, 0.0, "exhausted")
    assert counts(nodes, "a\nc\n") == (1, -1.0, "exhausted")
    assert counts(nodes, "b\n") == (0, 0.0, "open")
    judged = [r.text for request in script.requests if isinstance(request, Judge) for r in request.responses]
    assert judged == ["a\nx", "a\nc\ny"]


@pytest.mark.parametrize("visits", range(1, 12))
def test_the_zero_rule_prefers_a_failing_child_from_two_visits_to_eight(visits):
    # Q = -1, N(parent) = N(child) = k: -1 + 2 sqrt(ln k / k) is positive for k = 2..8 only.
    parent = Node(Trace(), visit_count=visits)
    failing = Node(Trace(), parent, visit_count=visits, value_sum=-float(visits))
    unvisited = Node(Trace(), parent)
    assert (ucb(failing, 2.0) > ucb(unvisited, 2.0)) == (2 <= visits <= 8)
    assert ucb(unvisited, 2.0) == 0.0
    assert ucb(unvisited, 2.0, "infinite") == math.inf


def test_an_answer_among_the_candidates_can_be_the_only_child():
    samples = {"": ["a\n", "x", "y", "a\n"]}
    nodes = grow(MCTS(candidates=4, rollouts=5, steps=LINES, collapse_answers=True), Script(samples))
    assert list(nodes) == ["", "x"]
    nodes = grow(MCTS(candidates=4, rollouts=1, max_depth=1, steps=LINES), Script(samples))
    assert list(nodes) == ["", "a\n", "x", "y"]


def test_a_node_below_the_greatest_depth_is_a_dead_end():
    samples = {"": ["a\n", "b\n"], "a\n": ["c\n"], "b\n": ["d\n"], "a\nc\n": ["e\n"], "b\nd\n": ["x"]}
    # Each walk makes two selections. The first ends at c, depth 2, which is open; the second starts at the child of the
    # root that it selects and so expands depth 2, whose children are too deep.
    nodes = grow(MCTS(candidates=1, rollouts=2, max_depth=2, steps=LINES), Script(samples))
    assert counts(nodes, "a\nc\n") == (1, 0.0, "exhausted")
    assert counts(nodes, "a\nc\ne\n") == (1, -1.0, "too_long")
    assert counts(nodes, "") == (0, 0.0, "exhausted")


CODE = CodeSteps()
CODE_SAMPLES = {
    "": ["<code>\nbad<end_of_step>", "<code>\ngood<end_of_step>"],
    "<code>\ngood<end_of_step>": ["print<end_of_code>"],
    "<code>\ngood<end_of_step>print<end_of_code>\n<output>42<end_of_output>": ["\n<answer>\\boxed{42}<end_of_answer>"],
}


def run(program: tuple[str, ...]) -> Execution:
    if "bad\n" in program:
        return Execution("", "NameError: bad", "error")
    return Execution("42\n" if program[-1] == "print\n" else "")


def test_code_errors_are_dead_ends_that_do_not_speak_against_their_parents():
    programs = []
    script = Script(CODE_SAMPLES, lambda text: 0.5, lambda program: programs.append(program) or run(program))
    nodes = grow(MCTS(candidates=2, rollouts=1, steps=CODE), script)
    assert counts(nodes, "<code>\nbad<end_of_step>") == (1, -1.0, "error")
    assert nodes["<code>\nbad<end_of_step>"].error == "NameError: bad"
    assert counts(nodes, "") == (1, 0.5, "exhausted")
    assert programs == [("bad\n",), ("good\n",), ("good\n", "print\n")]


def test_outputs_are_inserted_after_a_block_and_are_no_sampled_tokens():
    [response] = result(
        MCTS(candidates=2, rollouts=1, steps=CODE)(Rollout(PROBLEM), SamplingConfig()),
        Script(CODE_SAMPLES, lambda text: 0.5, run),
    )
    sampled = "<code>\ngood<end_of_step>print<end_of_code>", "\n<answer>\\boxed{42}<end_of_answer>"
    shown = "\n<output>42<end_of_output>"
    assert response.text == sampled[0] + shown + sampled[1]
    assert "".join(map(chr, response.token_ids)) == "".join(sampled)
    assert response.inserted == ((len(sampled[0]), shown),)
    assert (response.finish_reason, response.logp) == ("stop", -len("".join(sampled)))


def test_errors_in_a_row_are_counted_and_a_good_step_forgives_them():
    samples = {
        "": ["bad<end_of_step>"],
        "bad<end_of_step>": ["good<end_of_step>"],
        "bad<end_of_step>good<end_of_step>": ["bad<end_of_step>"],
        "bad<end_of_step>good<end_of_step>bad<end_of_step>": ["bad<end_of_step>"],
    }
    programs = []
    script = Script(samples, run=lambda program: programs.append(program) or run(program))
    method = MCTS(candidates=1, rollouts=1, steps=CODE, errors_threshold=2)
    nodes = grow(method, script)
    assert [node.state for node in nodes.values()] == ["exhausted"] * 4 + ["error"]
    # A failed step is left out of later programs, so that the policy can do better.
    assert programs == [("bad\n",), ("good\n",), ("good\n", "bad\n"), ("good\n", "bad\n")]


def test_presets_hold_the_published_settings():
    repo, paper = MCTS.repo("inference"), MCTS.paper("later_rounds")
    assert (repo.candidates, repo.rollouts, repo.max_depth, repo.c_puct, repo.errors_threshold) == (32, 12, 16, 2.0, 1)
    assert (repo.collapse_answers, repo.close_exhausted, repo.terminal_reward) == (True, False, "score")
    first = MCTS.repo("first_round")
    assert (first.candidates, first.rollouts, first.errors_threshold, first.score_steps) == (12, 48, 2, False)
    assert (paper.candidates, paper.rollouts, paper.terminal_reward, paper.score_steps) == (8, 16, "sign", True)
    assert not MCTS.paper("second_round").score_steps
    assert MCTS.repo("inference", candidates=16, rollouts=8).candidates == 16
