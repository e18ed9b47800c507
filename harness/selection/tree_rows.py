"""Training rows as views of search trees: supervised traces, step pairs and final-answer pairs (rStar-Math)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from harness.search.tree import SearchTree
from harness.types import PreferencePair, Problem, SFTExample, StepExample

Render = Callable[[Problem], str]
"""Gives the prompt text of a problem."""
Leaf = tuple[SearchTree, int]


def mean_q(tree: SearchTree, leaf: int) -> float:
    """Mean of the Q values of the steps of a response."""
    return fmean(tree.nodes[index].q_value for index in tree.path(leaf))


def ranked_leaves(trees: Sequence[SearchTree], correct: bool, errors: bool = False) -> list[Leaf]:
    """Distinct right or wrong answers of one problem, best first: by mean Q, then by the smallest Q of a step.

    `errors` admits responses with a step whose code failed.
    """
    leaves: dict[str, Leaf] = {}
    for tree in trees:
        for index in tree.answered():
            clean = errors or not any(tree.nodes[i].failed for i in tree.path(index))
            if tree.nodes[index].correct == correct and clean:
                leaves.setdefault(tree.text(index), (tree, index))

    def rank(leaf: Leaf) -> tuple[float, float]:
        tree, index = leaf
        return mean_q(tree, index), min(tree.nodes[i].q_value for i in tree.path(index))

    return sorted(leaves.values(), key=rank, reverse=True)


def sft_examples(trees: Sequence[SearchTree], render: Render, per_problem: int = 2) -> list[SFTExample]:
    """The best right and error-free responses of one problem (rStar-Math, arXiv:2501.04519, section 3.4).

    The official code drops responses with errors after taking the best, so that fewer may remain, and looks for the
    word "error" instead of failed code.
    """
    return [
        SFTExample(render(tree.problem), tree.text(index), problem_id=tree.problem.id)
        for tree, index in ranked_leaves(trees, correct=True)[:per_problem]
    ]


def answer_pairs(trees: Sequence[SearchTree], render: Render, per_side: int = 2) -> list[PreferencePair]:
    """Right responses of highest mean Q against wrong ones of lowest, whole, without a shared prefix.

    The paper describes them and its example data holds some, but no released code makes them. One problem's pairs
    weigh 1 in all.
    """
    chosen = ranked_leaves(trees, correct=True)[:per_side]
    rejected = ranked_leaves(trees, correct=False)[::-1][:per_side]
    return [
        PreferencePair(
            render(tree.problem),
            tree.text(good),
            other.text(bad),
            1 / (len(chosen) * len(rejected)),
            tree.problem.id,
        )
        for (tree, good), (other, bad) in itertools.product(chosen, rejected)
    ]


def value_examples(trees: Sequence[SearchTree], render: Render, per_side: int = 4) -> list[StepExample]:
    """The best right and the worst wrong responses of one problem, each step labelled with its Q value.

    For a process reward that predicts Q (the PQM of rStar-Math's table 8); the labels are (Q + 1) / 2, from 0 to 1.
    """
    leaves = [*ranked_leaves(trees, True)[:per_side], *ranked_leaves(trees, False)[::-1][:per_side]]
    return [
        StepExample(
            render(tree.problem),
            tuple(tree.nodes[i].step for i in tree.path(leaf)),
            tuple(min(max((tree.nodes[i].q_value + 1) / 2, 0.0), 1.0) for i in tree.path(leaf)),
            problem_id=tree.problem.id,
        )
        for tree, leaf in leaves
    ]


@dataclass(frozen=True)
class StepPairs:
    """Preference pairs of sibling steps (rStar-Math, arXiv:2501.04519, section 3.3 and its released code).

    At the root and below every step that leads to right and to wrong answers alike, the two best steps that lead to a
    right answer are paired with the two worst that lead to a wrong one; where there is only one on a side, with up to
    four on the other. A pair counts when the Q values of the steps differ by `margin`, and when also the mean Q of the
    best way on from the chosen step is higher than that of the worst way on from the rejected one.
    """

    margin: float = 0.5
    edit_distance: int = 20
    """Characters by which two steps must differ."""
    per_side: int = 2
    at_most: int = 4
    """On one side, where the other has a single step."""
    weigh_before_filtering: bool = False
    """Weigh pairs by the steps found, as the official code does, so that a node's weights sum to 1 only if none of its
    pairs is dropped; otherwise by the pairs that are left."""

    def __call__(self, tree: SearchTree, render: Render) -> list[PreferencePair]:
        marked = _Marked.of(tree)
        pairs: list[PreferencePair] = []
        walk = [0]
        while walk:
            node = walk.pop(0)
            pairs += self._pairs_at(marked, node, render)
            walk += [child for child in marked.children[node] if marked.right[child] and marked.wrong[child]]
        return pairs

    def _pairs_at(self, marked: _Marked, node: int, render: Render) -> list[PreferencePair]:
        tree = marked.tree
        children = marked.children[node]
        chosen = sorted((c for c in children if marked.right[c]), key=marked.q_value, reverse=True)
        rejected = sorted((c for c in children if marked.wrong[c]), key=marked.q_value)
        sizes = (
            self.at_most if len(rejected) == 1 else self.per_side,
            self.at_most if len(chosen) == 1 else self.per_side,
        )
        chosen, rejected = chosen[: sizes[0]], rejected[: sizes[1]]
        found = [pair for pair in itertools.product(chosen, rejected) if self._differ(marked, *pair)]
        if not found:
            return []
        weight = 1 / (len(chosen) * len(rejected) if self.weigh_before_filtering else len(found))
        prompt = render(tree.problem) + tree.text(node)
        return [
            PreferencePair(prompt, tree.nodes[good].step, tree.nodes[bad].step, weight, tree.problem.id)
            for good, bad in found
        ]

    def _differ(self, marked: _Marked, good: int, bad: int) -> bool:
        q, nodes = marked.q_value, marked.tree.nodes
        return (
            q(good) > q(bad)
            and q(good) - q(bad) >= self.margin
            and marked.way_on(good, best=True) > marked.way_on(bad, best=False)
            and distance_at_least(nodes[good].step, nodes[bad].step, self.edit_distance)
        )


@dataclass
class _Marked:
    """A tree whose nodes know how many right and wrong answers are below them."""

    tree: SearchTree
    children: list[list[int]]
    right: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, tree: SearchTree) -> _Marked:
        answered = [node.state == "answered" for node in tree.nodes]
        right = [int(a and node.correct) for a, node in zip(answered, tree.nodes, strict=True)]
        wrong = [int(a and not node.correct) for a, node in zip(answered, tree.nodes, strict=True)]
        for index in range(len(tree.nodes) - 1, 0, -1):  # children come after their parents
            right[tree.nodes[index].parent] += right[index]
            wrong[tree.nodes[index].parent] += wrong[index]
        return cls(tree, tree.children(), right, wrong)

    def q_value(self, index: int) -> float:
        return self.tree.nodes[index].q_value

    def way_on(self, index: int, best: bool) -> float:
        """Mean Q from a step on to an answer, always by the best (worst) child that leads to a right (wrong) one."""
        leads, values = self.right if best else self.wrong, []
        while True:
            values.append(self.q_value(index))
            open_ways = [child for child in self.children[index] if leads[child]]
            if not open_ways:
                return fmean(values)
            index = (max if best else min)(open_ways, key=self.q_value)


def step_pairs(trees: Sequence[SearchTree], render: Render, rule: StepPairs = StepPairs()) -> list[PreferencePair]:
    """Step pairs of one problem's trees, each distinct pair once."""
    distinct: dict[tuple[str, str, str], PreferencePair] = {}
    for pair in (pair for tree in trees for pair in rule(tree, render)):
        distinct.setdefault((pair.prompt, pair.chosen, pair.rejected), pair)
    return list(distinct.values())


def distance_at_least(a: str, b: str, least: int) -> bool:
    """Whether at least so many characters must be inserted, deleted or replaced to make `a` into `b` (Levenshtein)."""
    if least <= 0 or abs(len(a) - len(b)) >= least:
        return True
    row = {j: j for j in range(min(least, len(b)) + 1)}
    for i, letter in enumerate(a, 1):
        new: dict[int, int] = {}
        # A path that strays `least` off the diagonal costs at least that much.
        for j in range(max(0, i - least), min(len(b), i + least) + 1):
            ways = [row.get(j, least) + 1, new.get(j - 1, least) + 1]
            if j:
                ways.append(row.get(j - 1, least) + (letter != b[j - 1]))
            new[j] = min(ways)
        row = new
        if min(row.values()) >= least:
            return True
    return row[len(b)] >= least
