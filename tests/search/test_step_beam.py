from __future__ import annotations

from harness.search import PlainSteps, StepBeam
from harness.types import Generate, Rollout, SamplingConfig
from tests.search.script import PROBLEM, Script, result

LINES = PlainSteps(("\n",))
SAMPLES = {
    "": ["a\n", "b\n", "x"],
    "a\n": ["c\n", "y", "d\n"],
    "b\n": ["e\n", "f\n", "z"],
    "a\nc\n": ["v", "v", "v"],
    "b\nf\n": ["w", "g\n", "u"],
}
VALUES = {
    "a\n": 0.9, "b\n": 0.6, "x": 0.1,
    "a\nc\n": 0.2, "a\ny": 0.8, "a\nd\n": 0.1, "b\ne\n": 0.3, "b\nf\n": 0.7, "b\nz": 0.5,
    "b\nf\nw": 0.4, "b\nf\ng\n": 0.3, "b\nf\nu": 0.95,
}  # fmt: skip


def search(method: StepBeam, script: Script):
    return result(method(Rollout(PROBLEM), SamplingConfig(n=3)), script)


def test_an_answer_leaves_the_beam_with_its_place():
    script = Script(SAMPLES, VALUES)
    responses = search(StepBeam(width=2, steps=LINES), script)
    # Step 1 keeps a (0.9) and b (0.6), not the answer x (0.1). Step 2: y (0.8), an answer, and f (0.7) are the best two
    # of all six; y leaves, the width is 1. Step 3 continues f alone: u (0.95) is the best, and the beam is empty.
    assert [(r.text, r.step_values) for r in responses] == [("b\nf\nu", (0.6, 0.7, 0.95)), ("a\ny", (0.9, 0.8))]
    asked = [[p.text for p in r.prefixes] for r in script.requests if isinstance(r, Generate)]
    assert asked == [[""], ["a\n", "b\n"], ["b\nf\n"]]


def test_responses_without_an_answer_in_time_are_dropped():
    assert [r.text for r in search(StepBeam(width=2, max_steps=2, steps=LINES), Script(SAMPLES, VALUES))] == ["a\ny"]


def test_a_look_ahead_judges_what_greedy_decoding_makes_of_a_step():
    samples = {"": ["a\n", "b\n", "b\n"], "a\n": ["x"], "b\n": ["y"]}
    values = {"a\n": 0.9, "b\n": 0.1, "a\nx": 0.2, "b\ny": 0.8}
    first = search(StepBeam(width=1, steps=LINES), Script(samples, values))
    ahead = search(StepBeam(width=1, steps=LINES, lookahead=1), Script(samples, values))
    assert [r.text for r in first] == ["a\nx"]
    assert [(r.text, r.step_values) for r in ahead] == [("b\ny", (0.8, 0.8))]
