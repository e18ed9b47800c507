from __future__ import annotations

from harness.rewards import OutcomeElseProcess
from harness.types import Problem, Response, Score


def test_truth_replaces_the_process_reward_where_there_is_an_answer():
    asked = []

    def process(problems, responses, correct):
        asked.extend(responses)
        return [Score(0.5) for _ in responses]

    responses = [Response(("a",), "stop"), Response(("b",), "step"), Response(("c",), "length")]
    scores = OutcomeElseProcess(process)([Problem("p", "q")] * 3, responses, [True, False, False])
    assert [score.value for score in scores] == [1.0, 0.5, -1.0]
    assert asked == [responses[1]]
