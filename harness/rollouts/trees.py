"""Search trees on disk: one JSON line a tree, appended as each is finished, continued after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.log import complete
from harness.rollouts.verdicts import grade_pairs
from harness.search import drive
from harness.search.driver import own_seed
from harness.search.tree import SearchTree, TreeSearch
from harness.store import read_rows
from harness.types import Problem, Rollout, SamplingConfig, ScoredResponse


def grow_trees(
    jobs: Iterable[tuple[Problem, int]],
    dispatcher: Dispatcher,
    search: TreeSearch,
    sampling: SamplingConfig,
    grader: str = "strict",
) -> Iterator[SearchTree]:
    """Search every (problem, index of the tree) and yield the trees as they finish, their answers graded.

    Each tree's seed follows from `sampling.seed` and its index, so that the trees of a problem are independent.
    """
    dispatcher.begin()
    wanted = {f"{index}:{problem.id}": (problem, index) for problem, index in jobs}
    searches = (
        (key, search.grow(problem, own_seed(sampling, "tree", index))) for key, (problem, index) in wanted.items()
    )
    for key, tree in drive(searches, dispatcher):
        yield graded(replace(tree, index=wanted[key][1], weights=dispatcher.engine.version), dispatcher, grader)


def graded(tree: SearchTree, dispatcher: Dispatcher, grader: str = "strict") -> SearchTree:
    """The tree with the grader's verdict on each answer."""
    answered = tree.answered()
    pairs = [(tree.problem, tree.text(index)) for index in answered]
    nodes = list(tree.nodes)
    if pairs:
        ended = [nodes[index].finish_reason != "length" for index in answered]
        verdicts = grade_pairs(pairs, dispatcher.template.answer_protocol, grader, ended)
        for index, verdict in zip(answered, verdicts, strict=True):
            nodes[index] = replace(nodes[index], correct=verdict.correct, answer=verdict.answer)
    return replace(tree, nodes=tuple(nodes))


def collect_trees(
    path: str | Path,
    problems: Sequence[Problem],
    dispatcher: Dispatcher,
    search: TreeSearch,
    sampling: SamplingConfig,
    *,
    num_trees: int = 1,
    hard_trees: Sequence[int] = (),
    grader: str = "strict",
    progress: Callable[[int], None] = lambda count: None,
) -> list[SearchTree]:
    """Grow `num_trees` trees for every problem into a file, and more for hard ones; return all, problem by problem.

    Trees that are in the file already are kept, so a run that was killed continues, and so does one that is asked for
    more problems or more trees than before. At the end the file is in the order of the problems, whatever order they
    finished in, so that a resumed run leaves the same trees as an unbroken one (but for the last digits of their
    log-probabilities, which with some engines depend on the rest of a batch).

    Args:
        path: JSONL file of trees; it need not exist.
        problems: their ids must be distinct.
        dispatcher: answers the searches.
        search: the tree search.
        sampling: its seed, a problem's id and the index of a tree fix the tree.
        num_trees: independent trees for each problem.
        hard_trees: so many more for each problem without a right answer so far, once for each number (rStar-Math,
            section 3.4, where unsolved problems get 64 more rollouts and those still unsolved 128).
        grader: name of the grader of the answers.
        progress: told how many more trees there are, first those found in the file.

    Raises:
        InputError: a tree in the file was grown otherwise than it would be now.
    """
    by_id = {problem.id: problem for problem in problems}

    found: list[SearchTree] = []

    def grow(missing: list[tuple[str, int]]) -> Iterator[SearchTree]:
        return grow_trees([(by_id[name], index) for name, index in missing], dispatcher, search, sampling, grader)

    counts = dict.fromkeys(by_id, num_trees)
    for number, more in enumerate((0, *hard_trees)):
        if number:
            hard = {group[0].problem.id for group in by_problem(found) if difficulty(group) == "hard"}
            counts = {name: count + more * (name in hard) for name, count in counts.items()}
        found = complete(
            path,
            SearchTree,
            lambda tree: (tree.problem.id, tree.index),
            [(name, index) for name, count in counts.items() for index in range(count)],
            grow,
            provenance=dispatcher.provenance(search, grader=grader, sampling=sampling),
            problems=by_id,
            progress=progress if not number else lambda count: None,
        )
    return found


def read_trees(path: str | Path) -> list[SearchTree]:
    """All trees of a file."""
    return read_rows(path, SearchTree)


def as_rollout(trees: Sequence[SearchTree]) -> Rollout:
    """All answered leaves of one problem's trees as a rollout; a leaf's reward is its own value."""
    return Rollout(
        trees[0].problem,
        tuple(
            ScoredResponse(tree.response(index), node.answer, node.correct, node.value or 0.0)
            for tree in trees
            for index in tree.answered()
            for node in [tree.nodes[index]]
        ),
        weights=trees[0].weights,
    )


def by_problem(trees: Iterable[SearchTree]) -> list[list[SearchTree]]:
    """The trees of each problem, in the order in which the problems first appear."""
    groups: dict[str, list[SearchTree]] = {}
    for tree in trees:
        groups.setdefault(tree.problem.id, []).append(tree)
    return list(groups.values())


def difficulty(trees: Sequence[SearchTree]) -> str:
    """How hard a problem is for its trees: "easy" if all answers are right, "hard" if none is, else "medium".

    As rStar-Math (section 3.4) classes problems before it gives hard ones more rollouts.
    """
    correct = [tree.nodes[index].correct for tree in trees for index in tree.answered()]
    return "hard" if not any(correct) else "easy" if all(correct) else "medium"


def coverage(trees: Iterable[SearchTree]) -> dict[str, tuple[int, int]]:
    """(problems with a right answer, problems) by level and under "all" (rStar-Math, table 2)."""
    counts: dict[str, list[int]] = {}
    for group in by_problem(trees):
        solved = any(tree.nodes[index].correct for tree in group for index in tree.answered())
        for name in (group[0].problem.level, "all"):
            count = counts.setdefault(name, [0, 0])
            count[0] += solved
            count[1] += 1
    levels = sorted(counts.keys() - {"all"})
    return {name: (counts[name][0], counts[name][1]) for name in (*levels, "all") if name in counts}
