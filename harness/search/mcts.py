"""Monte Carlo tree search over reasoning steps."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from harness.protocols import Search
from harness.search.expand import Trace, expand
from harness.search.steps import CodeSteps, PlainSteps, Steps
from harness.search.tree import Node, SearchTree, freeze, ucb
from harness.types import Judge, Problem, Rollout, SamplingConfig, Score


@dataclass(frozen=True)
class MCTS:
    """Tree search as in rStar-Math (arXiv:2501.04519, section 3.2); the responses are the answered leaves.

    A rollout walks from the root to the best child again and again, and where a node has no children samples some.
    There is no playout: a child that ends in an answer is worth the reward of its response, which is added to it and
    to all its ancestors at once. Three uses differ in two switches and the reward:

    - data, no process reward yet: `score_steps=False, terminal_reward="sign"`, reward `Outcome`
    - data, with one: `score_steps=True, terminal_reward="sign"`, reward `OutcomeElseProcess`
    - inference: `score_steps=True, terminal_reward="score"`, the process reward itself

    The paper and its released code differ, and the code has defects; `repo()` and `paper()` give either one's rules,
    the defaults are ours. `sampling.max_tokens` bounds a step, and `candidates` replaces `sampling.n`.
    """

    candidates: int = 8
    """Samples of the next step at each expansion."""
    rollouts: int = 16
    max_depth: int = 16
    """Steps of a response; a node that would be deeper is a dead end."""
    c_puct: float = 2.0
    """Weight of exploration."""
    errors_threshold: int = 1
    """So many failed steps in a row make a dead end."""
    steps: Steps = field(default_factory=PlainSteps)
    score_steps: bool = True
    """Begin every new node with the reward of its partial response as a first visit."""
    terminal_reward: Literal["score", "sign"] = "score"
    """An answer is worth its reward, or +1 for a positive reward and -1 for any other."""
    collapse_answers: bool = False
    """Where one of the candidates is an answer (`Steps.ends_answer`), keep the first of them as the only child, as the
    official code does; it drops other answers and every unfinished sibling."""
    unvisited: Literal["zero", "infinite"] = "zero"
    """What `ucb` gives a node without visits; matters only without `score_steps`."""
    close_exhausted: bool = True
    """Close a node as soon as all its children are; the official code notices only when a rollout gets there, which it
    then wastes."""

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        """Return the answered leaves, the best first: by reward of the full response, then in order of making."""
        tree = yield from self.grow(rollout.problem, sampling)
        leaves = sorted(tree.answered(), key=lambda index: tree.nodes[index].value or 0.0, reverse=True)
        return [tree.response(index) for index in leaves]

    def grow(self, problem: Problem, sampling: SamplingConfig) -> Generator[Any, Any, SearchTree]:
        """Search as `__call__` does, and return the whole tree."""
        root = Node(Trace())
        for _ in range(self.rollouts):
            if root.state != "open":
                break
            yield from self._rollout(problem, root, replace(sampling, n=self.candidates))
        return SearchTree(problem, freeze(root), seed=sampling.seed)

    def _rollout(self, problem: Problem, root: Node, sampling: SamplingConfig) -> Generator[Any, Any, None]:
        current: Node | None = self.best_child(root) if root.children else root
        for _ in range(self.max_depth):
            if current is None:
                return
            if not current.children:
                yield from self._expand(problem, current, sampling)
            current = self.best_child(current)

    def best_child(self, node: Node) -> Node | None:
        """The open child of highest score, the first of equals; without any the node is exhausted."""
        live = [child for child in node.children if child.state == "open"]
        if not live:
            node.state = "exhausted"
            return None
        return max(live, key=lambda child: ucb(child, self.c_puct, self.unvisited))

    def _expand(self, problem: Problem, node: Node, sampling: SamplingConfig) -> Generator[Any, Any, None]:
        [traces] = yield from expand(problem, [node.trace], sampling, self.steps, self.errors_threshold)
        if self.collapse_answers:
            traces = [trace for trace in traces if self.steps.ends_answer(trace.response)][:1] or traces
        for trace in traces:
            child = Node(trace, node, node.depth + 1, trace.state)
            if child.state == "open" and child.depth > self.max_depth:
                child.state = "too_long"
            node.children.append(child)
        scored = [c for c in node.children if c.state == "answered" or (c.state == "open" and self.score_steps)]
        scores = yield from judge(problem, scored)
        values = {id(child): score.value for child, score in zip(scored, scores, strict=True)}
        for child in node.children:
            self._first_value(child, values.get(id(child)))
        if self.close_exhausted:
            _close(node)

    def _first_value(self, child: Node, value: float | None) -> None:
        if child.state == "answered":
            assert value is not None
            child.back_up(value if self.terminal_reward == "score" else 1.0 if value > 0 else -1.0)
        elif child.state == "open":
            if value is not None:
                child.add(value)
        else:
            child.add(-1.0)  # a dead end says nothing against the steps before it

    @classmethod
    def repo(
        cls,
        use: Literal["first_round", "later_rounds", "inference"],
        **changes: Any,
    ) -> MCTS:
        """The rules and settings of the released code (microsoft/rStar, branch rStar-math, config/*.yaml)."""
        data, inference = {"candidates": 12, "rollouts": 48}, {"candidates": 32, "rollouts": 12}
        settings: dict[str, Any] = {
            "errors_threshold": 2 if use == "first_round" else 1,
            "score_steps": use != "first_round",
            "terminal_reward": "score" if use == "inference" else "sign",
            "collapse_answers": True,
            "close_exhausted": False,
            "steps": CodeSteps(run_failed_steps_again=True, answer_by_box=True),
        }
        return cls(**(settings | (inference if use == "inference" else data) | changes))

    @classmethod
    def paper(
        cls,
        use: Literal["first_round", "second_round", "later_rounds", "last_round", "inference"],
        **changes: Any,
    ) -> MCTS:
        """The settings of the paper (arXiv:2501.04519, section 4.1 and appendix); answers are not collapsed.

        It does not say how many rollouts a tree has at inference; 4 is what one account of it gives.
        """
        sizes = {"first_round": (5, 8), "last_round": (16, 16), "inference": (32, 4)}
        candidates, rollouts = sizes.get(use, (8, 16))
        settings: dict[str, Any] = {
            "candidates": candidates,
            "rollouts": rollouts,
            "score_steps": use not in ("first_round", "second_round"),
            "terminal_reward": "score" if use == "inference" else "sign",
            "steps": CodeSteps(),
        }
        return cls(**(settings | changes))


def judge(problem: Problem, nodes: list[Node]) -> Generator[Any, Any, list[Score]]:
    """Scores of the nodes' partial responses; asks for nothing where there are none."""
    if not nodes:
        return []
    reply = yield Judge(problem, tuple(node.trace.response for node in nodes))
    return cast(list[Score], reply)


def _close(node: Node | None) -> None:
    while node is not None and all(child.state != "open" for child in node.children):
        node.state = "exhausted"
        node = node.parent
