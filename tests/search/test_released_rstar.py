"""`MCTS.repo` against trees that the released code of rStar-Math grew.

`RELEASED` holds hashes of trees that `rstar_deepthink/agents/mcts.py` of microsoft/rStar, branch rStar-math b3c1846,
grew from the samples and rewards below; only its interpreter and engine were replaced by the tables here.
"""

import hashlib
import random
import re

import pytest

from harness.search import MCTS
from harness.types import Execution, Judge, SamplingConfig, Score
from tests.search.script import PROBLEM, Script, result

NUM_TREES, CANDIDATES, ROLLOUTS, DEPTH = 40, 4, 8, 6
USES = ("first_round", "later_rounds", "inference")
STOPS = ("<end_of_step>", "<end_of_code>", "<end_of_answer>")
KINDS = ("plain", "box", "nobox", "cut", "eos")
"""Which odd sample there is among the others: none, a comment with "boxed", an answer without a box, a step cut at the
token limit, or one that ends with EOS."""


def number(*key):
    return int(hashlib.sha256(repr(key).encode()).hexdigest(), 16)


def samples(seed, kind, prefix):
    """(text, the stop string or how else it ended) of each sample after a prefix."""
    found = []
    for index in range(CANDIDATES):
        rng = random.Random(number(seed, prefix, index))
        rng.randint(0, 6)
        words = f"s{rng.randint(0, 5)}"
        if rng.random() < 0.12:
            words += " bad"  # its code fails
        table = [("step", 0.55), ("code", 0.15), ("answer", 0.15), *([] if kind == "plain" else [(kind, 0.15)])]
        chosen = rng.choices([name for name, _ in table], [weight for _, weight in table])[0]
        answer = rng.choice("12")
        found.append(
            {
                "step": (f"\n{words}\n", "<end_of_step>"),
                "code": (f"\n{words} print\n", "<end_of_code>"),
                "answer": (f"\n<answer>It is \\boxed{{{answer}}} {words}", "<end_of_answer>"),
                "box": (f"\n# boxed {{{answer}}} {words}\n", "<end_of_step>"),
                "nobox": (f"\n<answer>It is {answer} {words}", "<end_of_answer>"),
                "cut": (f"\n{words} cut", "length"),
                "eos": (f"\n{words} the end", "stop"),
            }[chosen]
        )
    return found


def value(text):
    return (number("v", text) % 2001 - 1000) / 1000


class Judged(Script):
    """Answers rewards by the response's place in the search: the gold answer is 1, other rewards are `value`."""

    use = ""

    def next(self):
        key, request = self._waiting[0]
        if not isinstance(request, Judge):
            return super().next()
        self._waiting.pop(0)
        return key, [Score(self.score(response)) for response in request.responses]

    def score(self, response):
        last = response.steps[-1]
        if self.use == "inference" or "boxed" not in last:
            return value(response.text)
        return float(re.findall(r"\\boxed\{(\w)\}", last)[-1:] == ["1"])


def grow(seed, kind, use):
    def draw(request, asked, index):
        drawn = samples(seed, kind, request.prefixes[index].text)
        return [(text + end, "step") if end in STOPS else (text, end) for text, end in drawn]

    def run(program):
        return Execution("", "Error: bad", "error") if any("bad" in code for code in program) else Execution("42")

    script = Judged(draw, {}, run)
    script.use = use
    method = MCTS.repo(use, candidates=CANDIDATES, rollouts=ROLLOUTS, max_depth=DEPTH)
    return result(method.grow(PROBLEM, SamplingConfig(seed=1)), script)


def rows(tree):
    """Place, text (but of dead ends, behind which the released code writes the error), visits, Q, dead end, answer."""
    children, found = tree.children(), []

    def walk(index, place):
        for position, child in enumerate(children[index]):
            node, here = tree.nodes[child], (*place, position)
            dead, answered = node.state in ("error", "too_long", "no_answer"), node.state == "answered"
            text = None if dead else node.step
            found.append((here, text, node.visit_count, round(node.q_value, 9) + 0.0, dead, answered))
            walk(child, here)

    walk(0, ())
    return found, (tree.nodes[0].visit_count, round(tree.nodes[0].q_value, 9) + 0.0)


def digest(trees):
    return hashlib.sha256(repr(trees).encode()).hexdigest()[:16]


RELEASED = {
    ("first_round", "plain"): "7503a09db8121ec5",
    ("first_round", "box"): "8a310b2793adbebe",
    ("first_round", "nobox"): "51f9c39137e6dd18",
    ("first_round", "cut"): "891c2f6f67b7ac25",
    ("first_round", "eos"): "11291317e9c43132",
    ("later_rounds", "plain"): "c7ef4af8b52ec670",
    ("later_rounds", "box"): "7be952756985f8cd",
    ("later_rounds", "nobox"): "70d5b6680591605b",
    ("later_rounds", "cut"): "fe6f29d307dc8336",
    ("later_rounds", "eos"): "d902fb2794922d3e",
    ("inference", "plain"): "71f9b3cfc62fb8ca",
    ("inference", "box"): "ffc0485545035b4e",
    ("inference", "nobox"): "c82f6fcd9286864d",
    ("inference", "cut"): "79c1beb97dc95f3b",
    ("inference", "eos"): "a475b79c51fddb26",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", USES)
def test_trees_are_those_of_the_released_code(use, kind):
    trees = [rows(grow(seed, kind, use)) for seed in range(NUM_TREES)]
    assert digest(trees) == RELEASED[use, kind]
