from __future__ import annotations

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.protocols import Parallel
from harness.search import MCTS, Chains, CodeSteps, Forest, PlainSteps, Sampling, StepBeam, StepExplore, drive
from harness.types import Execution, Problem, Response, Rollout, SamplingConfig, ScoredResponse
from tests.search.script import Script

LINES = PlainSteps(("\n",))
METHODS = (
    Sampling(),
    Chains(LINES),
    Chains(CodeSteps(), max_steps=6),
    StepBeam(2, 4, LINES, lookahead=1),
    MCTS(3, 4, 5, steps=LINES),
    MCTS.repo("later_rounds", candidates=3, rollouts=4, max_depth=5),
    Forest(MCTS(2, 3, 4, steps=LINES), 3),
    StepExplore(2).explore,
    StepExplore(2, at_once=2, skip_answer=False, share_prefixes=False).explore,
    StepExplore(2, order="binary").explore,
)


def number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def samples(request, asked: int, index: int) -> list[str]:
    """A policy whose samples follow from the problem, the seed and the place of the request in its search alone."""
    ends = ["\n", "", "\n"] if "\n" in request.sampling.step_stop or not request.sampling.step_stop else [
        "<end_of_step>", "<end_of_code>", "<answer>1<end_of_answer>"
    ]  # fmt: skip
    rng = random.Random(number(request.problem.id, request.sampling.seed, asked, index, request.prefixes[index].text))
    return [f"{rng.randrange(4)}{rng.choice(ends)}" for _ in range(request.sampling.n)]


def script(seed: int) -> Script:
    return Script(
        samples,
        lambda text: number(text) % 7 / 7 - 0.3,
        lambda program: Execution("o", *(("E: e", "error") if number(program) % 5 == 0 else ())),
        random.Random(seed),
    )


def rollout(index: int) -> Rollout:
    wrong = Response((*(f"{i}\n" for i in range(index)), "#### 1"), "stop")
    return Rollout(Problem(str(index), "q"), (ScoredResponse(wrong),))


@settings(max_examples=60, deadline=None)
@given(order=st.integers(0, 2**32), method=st.sampled_from(METHODS), in_flight=st.integers(1, 8))
def test_results_do_not_depend_on_the_order_of_answers(order, method, in_flight):
    sampling = SamplingConfig(n=3, seed=7)
    alone = {str(i): dict(drive([(str(i), method(rollout(i), sampling))], script(0)))[str(i)] for i in range(5)}
    searches = ((str(i), method(rollout(i), sampling)) for i in range(5))
    assert dict(drive(searches, script(order), in_flight)) == alone


def test_searches_that_ask_for_nothing_do_not_stop_the_others():
    def nothing():
        return []
        yield

    def parallel_nothing():
        return (yield Parallel(()))

    searches = [("a", nothing()), ("b", parallel_nothing()), ("c", nothing())]
    assert list(drive(searches, script(0), max_in_flight=1)) == [("a", []), ("b", []), ("c", [])]


def test_a_search_moves_on_while_another_waits():
    served: list[str] = []

    class Slow(Script):
        """Answers "slow" only when nothing else waits."""

        def next(self):
            self._waiting.sort(key=lambda waiting: waiting[0] == "slow")
            served.append(self._waiting[0][0])
            return super().next()

    searches = [
        (name, Chains(LINES, max_steps=3)._chain(Rollout(Problem(name, "q")), SamplingConfig()))
        for name in ("slow", "fast")
    ]
    slow = Slow(lambda request, asked, index: ["a\n"])
    list(drive(searches, slow))
    assert served == ["fast"] * 3 + ["slow"] * 3
