from __future__ import annotations

import random

import pytest

from harness.rollouts.trees import as_rollout, coverage, difficulty
from harness.search.tree import SearchTree, TreeNode
from harness.selection.tree_rows import (
    StepPairs,
    answer_pairs,
    distance_at_least,
    sft_examples,
    step_pairs,
    value_examples,
)
from harness.types import Problem, SFTExample


def node(parent: int, step: str, q: float, correct: bool | None = None, failed: bool = False, state: str = "open"):
    if correct is not None:
        state = "answered"
    return TreeNode(parent, step, state, 1, q, q, failed, correct=bool(correct), answer="1" if correct else "2")  # type: ignore[arg-type]


def tree(*nodes: TreeNode, level: str = "1", name: str = "p") -> SearchTree:
    return SearchTree(Problem(name, "question", "1", level=level), (TreeNode(), *nodes))


def render(problem: Problem) -> str:
    return problem.question + ": "


# 0 root
# +- 1 a, mixed: +- 4 right, +- 5 wrong
# +- 2 b: 6 right
# +- 3 c: 7 wrong
THREE_LEVELS = tree(
    node(0, "a ", 0.2),
    node(0, "b ", 0.9),
    node(0, "c ", -0.8),
    node(1, "aa", 0.7, True),
    node(1, "ab", -0.6, False),
    node(2, "ba", 1.0, True),
    node(3, "ca", -1.0, False),
)
ANY = {"margin": 0.0, "edit_distance": 0}


def test_step_pairs_match_the_best_with_the_worst_at_every_mixed_node():
    pairs = StepPairs(**ANY)(THREE_LEVELS, render)
    # At the root the chosen are b (0.9) and a (0.2), the rejected c (-0.8) and a (0.2). Of the four combinations (a, a)
    # has no difference; (b, a) compares the ways on b-ba (0.95) and a-ab (-0.2), (a, c) those of a-aa (0.45) and c-ca.
    # Below a, which is mixed, aa stands against ab; b and c are not mixed.
    found = [(pair.prompt, pair.chosen, pair.rejected, pair.weight) for pair in pairs]
    third = pytest.approx(1 / 3)
    assert found == [
        ("question: ", "b ", "c ", third),
        ("question: ", "b ", "a ", third),
        ("question: ", "a ", "c ", third),
        ("question: a ", "aa", "ab", 1.0),
    ]


def test_values_label_the_steps_of_the_best_right_and_the_worst_wrong_responses():
    rows = value_examples([THREE_LEVELS], render, per_side=1)
    # Mean Q: b-ba 0.95 is the best right one, c-ca -0.9 the worst wrong one. Labels are (Q + 1) / 2.
    assert [(row.prompt, row.steps) for row in rows] == [("question: ", ("b ", "ba")), ("question: ", ("c ", "ca"))]
    assert rows[0].labels == pytest.approx((0.95, 1.0))
    assert rows[1].labels == pytest.approx((0.1, 0.0))


def test_weights_can_count_the_steps_before_filtering():
    pairs = StepPairs(**ANY, weigh_before_filtering=True)(THREE_LEVELS, render)
    assert [pair.weight for pair in pairs] == [0.25, 0.25, 0.25, 1.0]


def test_step_pairs_need_a_margin_and_a_difference_of_text():
    # Q differences at the root: b-c 1.7, b-a 0.7, a-c 1.0; below a: 1.3.
    assert [p.chosen + p.rejected for p in StepPairs(1.2, 0)(THREE_LEVELS, render)] == ["b c ", "aaab"]
    assert StepPairs(0.0, 2)(THREE_LEVELS, render) == []


def test_the_way_on_must_be_better_too():
    # At the root d (0.5) is above e (0.4), but goes on to 0.1, mean 0.3; e's worst way on is 0.35, mean 0.375.
    ways = tree(node(0, "d", 0.5), node(0, "e", 0.4), node(1, "r", 0.1, True), node(2, "w", 0.35, False))
    assert StepPairs(**ANY)(ways, render) == []


def test_a_single_step_meets_up_to_four():
    one = tree(node(0, "r", 1.0, True), *(node(0, f"w{i}", -i / 10, False) for i in range(1, 7)))
    assert [p.rejected for p in StepPairs(**ANY)(one, render)] == ["w6", "w5", "w4", "w3"]
    two = tree(node(0, "r", 1.0, True), node(0, "s", 0.9, True), *(node(0, f"w{i}", -i / 10, False) for i in range(4)))
    assert len(StepPairs(**ANY)(two, render)) == 4


def test_dead_ends_are_neither_right_nor_wrong():
    dead = tree(node(0, "r", 1.0, True), node(0, "e", -1.0, state="error", failed=True))
    assert StepPairs(**ANY)(dead, render) == []


def test_a_pair_of_several_trees_is_taken_once():
    assert len(step_pairs([THREE_LEVELS, THREE_LEVELS], render, StepPairs(**ANY))) == 4


def test_traces_are_the_right_ones_of_highest_mean_then_smallest_value():
    leaves = tree(
        node(0, "a ", 0.2),
        node(0, "b ", 0.9),
        node(1, "aa", 1.0, True),  # mean 0.6, smallest 0.2
        node(2, "ba", 0.3, True),  # mean 0.6, smallest 0.3
        node(2, "bb", 1.0, True, failed=True),  # mean 0.95, but with an error
        node(2, "bc", 1.0, False),  # wrong
        node(1, "ac", 0.1, True),  # mean 0.15
    )
    expected = [SFTExample("question: ", text, problem_id="p") for text in ("b ba", "a aa")]
    assert sft_examples([leaves, leaves], render) == expected


def test_answer_pairs_are_the_best_right_against_the_worst_wrong():
    pairs = answer_pairs([THREE_LEVELS], render)
    # Mean Q: b ba 0.95, a aa 0.45 right; c ca -0.9, a ab -0.2 wrong.
    assert [(p.chosen, p.rejected, p.weight) for p in pairs] == [
        ("b ba", "c ca", 0.25), ("b ba", "a ab", 0.25), ("a aa", "c ca", 0.25), ("a aa", "a ab", 0.25)
    ]  # fmt: skip
    assert answer_pairs([tree(node(0, "r", 1.0, True))], render) == []


def test_trees_unfold_to_rollouts():
    rollout = as_rollout([THREE_LEVELS])
    assert [(s.response.text, s.correct, s.reward) for s in rollout.responses] == [
        ("a aa", True, 0.7), ("a ab", False, -0.6), ("b ba", True, 1.0), ("c ca", False, -1.0)
    ]  # fmt: skip
    assert rollout.responses[0].response.step_values == (0.2, 0.7)


def test_coverage_counts_problems_by_level():
    right, wrong = tree(node(0, "r", 1.0, True), name="a"), tree(node(0, "w", -1.0, False), name="b", level="2")
    assert coverage([right, wrong, right]) == {"1": (1, 1), "2": (0, 1), "all": (1, 2)}
    assert [difficulty(group) for group in ([right], [wrong], [right, wrong])] == ["easy", "hard", "medium"]


def test_distances_are_those_of_the_full_table():
    rng = random.Random(0)
    for _ in range(300):
        a, b = ("".join(rng.choices("ab", k=rng.randrange(9))) for _ in range(2))
        table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                replaced = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, replaced)
        for least in range(6):
            assert distance_at_least(a, b, least) == (table[-1][-1] >= least)
