"""A tree of partial responses with visit counts and values: what a tree search grows and leaves behind."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from harness.search.expand import State, Trace
from harness.types import FinishReason, Problem, Response, SamplingConfig


@dataclass
class Node:
    """A partial response in a growing tree."""

    trace: Trace
    parent: Node | None = None
    depth: int = 0
    """Steps from the root, whose depth is 0."""
    state: State = "open"
    visit_count: int = 0
    value_sum: float = 0.0
    value: float | None = None
    """The first value it was given: a process reward, or what its answer is worth."""
    children: list[Node] = field(default_factory=list)

    @property
    def q_value(self) -> float:
        """Mean of the values backed up through the node; 0 before any."""
        return self.value_sum / self.visit_count if self.visit_count else 0.0

    def add(self, value: float) -> None:
        self.visit_count += 1
        self.value_sum += value
        if self.value is None:
            self.value = value

    def back_up(self, value: float) -> None:
        """Add a value to the node and all its ancestors."""
        node: Node | None = self
        while node is not None:
            node.add(value)
            node = node.parent


def ucb(node: Node, c_puct: float, unvisited: Literal["zero", "infinite"] = "zero") -> float:
    """`Q(s) + c sqrt(ln N(parent) / N(s))` (rStar-Math, arXiv:2501.04519, equation 1).

    The official code lets an unvisited node score 0 ("zero"), so that nodes of high value go first; the usual rule
    visits every child once ("infinite").
    """
    if not node.visit_count:
        return 0.0 if unvisited == "zero" else math.inf
    parent_visits = node.parent.visit_count if node.parent else 0
    return node.q_value + (c_puct * math.sqrt(math.log(parent_visits) / node.visit_count) if parent_visits else 0.0)


@dataclass(frozen=True)
class TreeNode:
    """A node as stored; a tree is a list of these in the order of their making, the root first."""

    parent: int = -1
    """Index of the parent; -1 for the root."""
    step: str = ""
    """Text of the step, inserted outputs included."""
    state: State = "open"
    visit_count: int = 0
    value_sum: float = 0.0
    value: float | None = None
    failed: bool = False
    """The step's code ran into an error."""
    error: str = ""
    correct: bool = False
    """Of answered nodes: the grader's verdict."""
    answer: str | None = None
    """Of answered nodes: the answer the grader found."""
    token_ids: tuple[int, ...] = ()
    """Tokens sampled in this step."""
    logp: float = 0.0
    finish_reason: FinishReason = "step"
    inserted: tuple[tuple[int, str], ...] = ()
    """As in `Response`, counted from the step's first token."""

    @property
    def q_value(self) -> float:
        return self.value_sum / self.visit_count if self.visit_count else 0.0


@dataclass(frozen=True)
class SearchTree:
    """All that a tree search over one problem found."""

    problem: Problem
    nodes: tuple[TreeNode, ...]
    index: int = 0
    """Which of the independent trees over the problem."""
    seed: int = 0
    weights: str = ""
    """Fingerprint of the policy's weights."""
    provenance: str = ""
    """Hash of all that decided the tree (`harness.provenance`)."""

    def children(self) -> list[list[int]]:
        """Indices of each node's children, in sample order."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes[1:], 1):
            found[node.parent].append(index)
        return found

    def path(self, index: int) -> list[int]:
        """Indices from the root's child down to a node; empty for the root."""
        path = []
        while index > 0:
            path.append(index)
            index = self.nodes[index].parent
        return path[::-1]

    def text(self, index: int) -> str:
        """The partial response that a node stands for."""
        return "".join(self.nodes[i].step for i in self.path(index))

    def response(self, index: int) -> Response:
        """The partial response with its tokens; its step values are the nodes' Q values."""
        nodes = [self.nodes[i] for i in self.path(index)]
        tokens: list[int] = []
        inserted: list[tuple[int, str]] = []
        for node in nodes:
            inserted += [(len(tokens) + position, text) for position, text in node.inserted]
            tokens += node.token_ids
        return Response(
            steps=tuple(node.step for node in nodes),
            finish_reason=nodes[-1].finish_reason if nodes else "step",
            token_ids=tuple(tokens),
            logp=math.fsum(node.logp for node in nodes),
            step_values=tuple(node.q_value for node in nodes),
            inserted=tuple(inserted),
        )

    def answered(self) -> list[int]:
        """Indices of the nodes that end in an answer."""
        return [index for index, node in enumerate(self.nodes) if node.state == "answered"]


def freeze(root: Node) -> tuple[TreeNode, ...]:
    """The nodes below `root` in breadth-first order, as stored."""
    order = list(_breadth_first([root]))
    numbers = {id(node): index for index, node in enumerate(order)}
    return tuple(_stored(node, numbers[id(node.parent)] if node.parent else -1) for node in order)


def _breadth_first(level: Sequence[Node]) -> Iterator[Node]:
    while level:
        yield from level
        level = [child for node in level for child in node.children]


def _stored(node: Node, parent: int) -> TreeNode:
    if node.parent is None:
        return TreeNode(-1, "", node.state, node.visit_count, node.value_sum, node.value)
    response, before = node.trace.response, node.parent.trace.response
    start = len(before.token_ids)
    return TreeNode(
        parent=parent,
        step=response.steps[-1],
        state=node.state,
        visit_count=node.visit_count,
        value_sum=node.value_sum,
        value=node.value,
        failed=node.trace.failed[-1],
        error=node.trace.error,
        token_ids=response.token_ids[start:],
        logp=response.logp - before.logp,
        finish_reason=response.finish_reason,
        inserted=tuple((at - start, text) for at, text in response.inserted[len(before.inserted) :]),
    )


class TreeSearch(Protocol):
    """A search that leaves a tree behind: what `harness trees` takes."""

    def grow(self, problem: Problem, sampling: SamplingConfig) -> Generator[Any, Any, SearchTree]:
        """Yield requests as a `SearchMethod` does, and return the whole tree, its seed that of `sampling`."""
